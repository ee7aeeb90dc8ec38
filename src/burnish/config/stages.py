"""The recipe's tables of the stages that learn: what may change, and how each stage trains it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config.table import (
    Auto,
    Criterion,
    Names,
    NotNegative,
    NotNegativeFloat,
    PartName,
    Positive,
    PositiveFloat,
    Share,
    Table,
    TypeName,
    default_of,
)
from burnish.records import Segment

OVERALL = "overall"  # the choice of the better answer, all things considered


class Adapt(Table):
    """What may change in the base, in every stage that trains."""

    method: Literal["lora", "rslora", "dora", "full", "last"] = Field(
        default="lora",
        description="A low-rank adapter (LoRA, rank-stabilised LoRA, DoRA), the weights of all layers (full), or those "
        "of the last layers.",
    )
    rank: Positive | Auto = Field(
        default="auto", description="Rank of the adapter; auto is 16, or that of the adapter that is continued."
    )
    alpha: PositiveFloat | Auto = Field(
        default="auto",
        description="The adapter weighs alpha / rank, in rslora alpha / sqrt(rank); auto is twice the rank, in rslora "
        "8, or that of the adapter that is continued.",
    )
    layers: Positive | Literal["all"] = Field(
        default="all", description="The last so many layers may change, or all; method last needs a number."
    )
    targets: Names | Literal["all"] = Field(
        default="all",
        description='Only modules of these names change: ["q_proj", "layers.*.mlp"]; all is every linear layer, and '
        "every weight for full and last.",
    )
    freeze: Positive | Names = Field(
        default=(), description='The lowest so many layers stay as they are, or modules of these names: ["layers.0"].'
    )
    unfreeze: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Gradual unfreezing: only the top layer learns at first, one more at a time, and all from this "
        "share of the updates on.",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Each layer learns at this share of the rate of the layer above it."
    )

    @model_validator(mode="after")
    def keys_fit_the_method(self) -> Adapt:
        whole = self.method in ("full", "last")
        for key in ("rank", "alpha"):
            if whole and getattr(self, key) != "auto":
                raise ValueError(f"{key} belongs to an adapter, and adapt.method is {self.method}: take {key} out")
        if self.method == "full" and self.layers != "all":
            raise ValueError('method = "full" trains every layer: write method = "last" with layers')
        if self.method == "last" and self.layers == "all":
            raise ValueError('method = "last" needs a number of layers')
        return self


class Paced(Table):
    """How the learning rate of a training stage moves."""

    schedule: Literal["constant", "linear", "cosine", "wsd"] | Auto = Field(
        default="auto",
        description='Shape of the learning rate after the warm-up: "constant"; "linear" or "cosine" down to a tenth of '
        'the peak; "wsd" (stable, then down in the last tenth). Auto is linear, and constant in rl.',
    )
    warmup: NotNegative | Auto = Field(
        default="auto",
        description="Updates in which the rate rises to its peak, fewer than the run has; auto is an eighth of the "
        "run, at most 4, and none in rl.",
    )


class Passes(Paced):
    """When a stage that passes over its rows has seen enough."""

    early_stopping: Positive | Literal["off"] | Auto = Field(
        default="auto",
        description='Looks in a row without a lower loss on held-out rows that end training, or "off"; the best '
        "parameters are kept. Auto is 2 where epochs is left open and comes to several, and 8 rows or more are held "
        "out to look at, else off.",
    )
    evaluate_every: Positive | Auto = Field(
        default="auto",
        description="Updates between two looks at held-out rows; auto is once an epoch, and four times a run at least.",
    )

    @model_validator(mode="after")
    def looks_have_a_use(self) -> Passes:
        if self.early_stopping == "off" and self.evaluate_every != "auto":
            raise ValueError('evaluate_every has no use where early_stopping is "off"')
        return self


class FromJudgements(Passes):
    """A stage that learns from what was said of answers: in rows of data.preferences, in votes, or in both."""

    waits_by: ClassVar[str]  # the key that says how many votes the stage waits for
    learn_from: Annotated[tuple[Literal["rows", "compare", "edit", "thumb", "span"], ...], Field(min_length=1)]

    @property
    def votes(self) -> tuple[Literal["compare", "edit", "thumb", "span"], ...]:
        """The kinds of vote among what it learns from."""
        return tuple(kind for kind in self.learn_from if kind != "rows")

    @model_validator(mode="after")
    def votes_are_waited_for(self) -> FromJudgements:
        if getattr(self, self.waits_by) != default_of(self, self.waits_by) and not self.votes:
            raise ValueError(f'{self.waits_by} has no use where learn_from is ["rows"]')
        return self


class Sft(Passes):
    """Supervised fine-tuning on the answers of the training rows."""

    train_on: Literal["last", "all", "everything"] = Field(
        default="last",
        description="What of a conversation is trained: the last answer, all answers, or prompts and answers. A "
        'message\'s "weight" (0 to 1) says how much an answer counts.',
    )
    span_weights: dict[str, Share] = Field(
        default={},
        description="What share of its weight a token keeps where a row's spans mark an error of that type: "
        "{ Irrelevant = 0.0 }; where several do, the smallest.",
    )
    objective: PartName | None = Field(
        default=None,
        description="An own loss of the trained tokens, package.module:function, in the place of their likelihood.",
    )
    learning_rate: PositiveFloat | Auto = Field(
        default="auto",
        description="Peak learning rate; auto is 1e-3, or in a long run what a probe of four rates finds on dev rows.",
    )
    batch_size: Positive | Auto = Field(default="auto", description="Rows per update; auto is 8, or 4 under 64 rows.")
    epochs: Positive | Auto = Field(
        default="auto", description="Passes over the training rows; auto aims at 32 updates or more."
    )
    teacher: str | None = Field(
        default=None,
        description="Whose distributions are learned as well: an own version (support@6) or a base of one tokenizer.",
    )
    teacher_weight: Share = Field(
        default=0.5, description="Share of the teacher in what is minimised; the written answers have the rest."
    )
    teacher_top_k: Positive | Literal["full"] = Field(
        default=64,
        description="Most likely tokens that the teacher names at each place, read once a row and kept; "
        '"full" runs the teacher beside every update.',
    )
    teacher_temperature: PositiveFloat = Field(
        default=1.0, description="Softens both distributions before they are compared."
    )

    @model_validator(mode="after")
    def keys_have_a_use(self) -> Sft:
        asked = [name for name, value in self if name.startswith("teacher_") and value != default_of(self, name)]
        if asked and self.teacher is None:
            raise ValueError(f"{asked[0]} has no use without a teacher")
        return self


class Preference(FromJudgements):
    """Preference optimisation: learn from which answer is better, without a reward model and without sampling."""

    waits_by = "min_votes"

    method: Literal["dpo", "ipo", "hinge", "robust", "simpo", "orpo", "kto"] | PartName = Field(
        default="dpo",
        description="Which loss. kto learns from answers with a label (a pair is read as two), the others from pairs; "
        "so does an own loss, package.module:function.",
    )
    learn_from: Annotated[tuple[Literal["rows", "compare", "edit", "thumb"], ...], Field(min_length=1)] = Field(
        default=("rows",), description='"rows" of data.preferences, and kinds of vote.'
    )
    min_votes: Positive = Field(default=200, description="The stage waits until so many votes are in.")
    held_out: Share = Field(
        default=0.1,
        description="Share of what it learns from that is not trained on: early stopping looks at it, and the "
        "version's figures are measured on it.",
    )
    beta: PositiveFloat | Auto = Field(
        default="auto", description="How far from the start a preference may lead; auto is the method's own default."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | Auto = Field(
        default="auto", description="Share of preferences taken to be wrong; auto is 0, and 0.1 for robust."
    )
    gamma: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto",
        description="simpo, or an own loss that takes it: by how much the better answer's reward should lead; "
        "auto is 1, or the own loss's default.",
    )
    sft: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of the better answer's likelihood; auto is 0, and 1 for orpo."
    )
    desirable: PositiveFloat | Auto = Field(default="auto", description="kto alone: weight of good answers; auto is 1.")
    undesirable: PositiveFloat | Auto = Field(
        default="auto", description="kto alone: weight of bad answers; auto is 1."
    )
    learning_rate: PositiveFloat | Auto = Field(
        default="auto",
        description="Peak learning rate; auto is 2e-4, or in a long run what a probe of four rates finds.",
    )
    batch_size: Positive | Auto = Field(default="auto", description="Pairs or labelled answers per update; auto is 8.")
    epochs: Positive | Auto = Field(
        default="auto", description="Passes; auto aims at 32 updates or more, in at most 3 passes."
    )


class Reward(FromJudgements):
    """A reward learned from comparisons."""

    waits_by = "min_comparisons"

    models: Positive = Field(
        default=1,
        description="Reward models learned from the same votes under different seeds: the reward is their mean, and "
        "their deviation says how sure it is.",
    )
    learn_from: Annotated[tuple[Literal["rows", "compare", "edit"], ...], Field(min_length=1)] = Field(
        default=("compare",), description='Kinds of vote it learns from, and "rows" of data.preferences.'
    )
    min_comparisons: Positive = Field(default=200, description="The stage waits until so many votes are in.")
    layers: Positive = Field(default=6, description="Adapt the last so many layers under the heads.")
    criteria: dict[Criterion, NotNegativeFloat] = Field(
        default={},
        description="What each of feedback.criteria weighs in the reward, summing up to 1: "
        '{ "solves it" = 0.7, "house style" = 0.3 }; overall is the choice of the better answer, and is all of it '
        "where nothing is weighed. Other weights learn nothing again and ask nobody again.",
    )
    batch_size: Positive | Auto = Field(default="auto", description="Pairs per update; auto is 16.")
    epochs: Positive | Auto = Field(default="auto", description="Passes over the comparisons; auto is 2.")
    learning_rate: PositiveFloat | Auto = Field(
        default="auto",
        description="Peak learning rate; auto is 1e-3, or in a long run what a probe of four rates finds.",
    )

    @model_validator(mode="after")
    def weights_add_up(self) -> Reward:
        total = sum(self.criteria.values())
        if self.criteria and not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the weights of criteria add up to {total:g}: they are shares, and make 1 together")
        return self


class Spans(FromJudgements):
    """A dense reward learned from marked errors: for each type, how likely a segment of an answer has one."""

    waits_by = "min_marked"

    types: Annotated[dict[TypeName, Segment], Field(min_length=1)] = Field(
        description="The types of error that are learned, each with the segments that it is told of, and paid for: "
        '"clause", "sentence", or the whole "answer".'
    )
    learn_from: Annotated[tuple[Literal["rows", "span"], ...], Field(min_length=1)] = Field(
        default=("rows",),
        description='"rows" of data.preferences with spans, and "span": the answers that people mark.',
    )
    min_marked: Positive = Field(default=100, description="The stage waits until people marked so many answers.")
    layers: Positive = Field(default=6, description="Adapt the last so many layers under the heads.")
    batch_size: Positive | Auto = Field(default="auto", description="Marked answers per update; auto is 8.")
    epochs: Positive | Auto = Field(
        default="auto", description="Passes over the marked answers; auto aims at 64 updates or more, in at most 4."
    )
    learning_rate: PositiveFloat | Auto = Field(
        default="auto",
        description="Peak learning rate; auto is 1e-3, or in a long run what a probe of four rates finds.",
    )
