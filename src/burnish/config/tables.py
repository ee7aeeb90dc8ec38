"""The tables of the recipe, in the order of the circle: every key with its type, default and meaning.

Everything about the host (store, ports, devices) lives in flags and environment variables, never here.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[int, Field(ge=0)]
PART = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
Names = tuple[Annotated[str, Field(min_length=1)], ...]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _named(name: str) -> str:
    if not PART.fullmatch(name):
        raise ValueError("an own part is named package.module:function")
    return name


PartName = Annotated[str, AfterValidator(_named)]


class Table(BaseModel):
    """A table of the recipe: unknown keys are errors, values are not coerced, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _default(table: Table, name: str) -> object:
    """What a key is where the recipe does not give it."""
    return type(table).model_fields[name].default


class Data(Table):
    """Where the examples are and how they are split."""

    train: str = Field(description="Labelled rows: a JSONL, JSON or CSV file, relative to the recipe.")
    dev: str | None = Field(default=None, description="Rows for choosing steps and checkpoints; else a share of train.")
    test: str | None = Field(
        default=None, description="Rows that only the last evaluation reads; else a share of train."
    )
    prompts: str | None = Field(default=None, description="Further prompts without answers, for votes and for rl.")
    preferences: str | None = Field(
        default=None,
        description="Rows for [preference]: chosen and rejected answers, or answers with a label (good or bad).",
    )
    subject: str | None = Field(
        default=None, description="The field that says whose data a row is: never split, erasable."
    )
    system: str | None = Field(default=None, description="The system prompt put before rows that bring none.")
    dev_share: Share = Field(default=0.1, description="Share of train that becomes dev where data.dev is absent.")
    test_share: Share = Field(default=0.1, description="Share of train that becomes test where data.test is absent.")
    max_length: Positive = Field(
        default=512, description="Longest row in tokens; a longer one is an error that names it."
    )


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


class Sft(Paced):
    """Supervised fine-tuning on the answers of the training rows."""

    train_on: Literal["last", "all", "everything"] = Field(
        default="last",
        description="What of a conversation is trained: the last answer, all answers, or prompts and answers. A "
        'message\'s "weight" (0 to 1) says how much an answer counts.',
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
    early_stopping: Positive | Literal["off"] | Auto = Field(
        default="auto",
        description='Looks in a row without a lower loss on dev rows that end training, or "off"; the best parameters '
        "are kept. Auto is 2 where epochs is left open and comes to several, else off.",
    )
    evaluate_every: Positive | Auto = Field(
        default="auto",
        description="Updates between two looks at dev rows; auto is once an epoch, and four times a run at least.",
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
        asked = [name for name, value in self if name.startswith("teacher_") and value != _default(self, name)]
        if asked and self.teacher is None:
            raise ValueError(f"{asked[0]} has no use without a teacher")
        if self.early_stopping == "off" and self.evaluate_every != "auto":
            raise ValueError('evaluate_every has no use where early_stopping is "off"')
        return self


class Evaluate(Table):
    """How answers are made and measured."""

    items: Positive = Field(default=96, description="At most so many held-out prompts are answered.")
    max_new_tokens: Positive = Field(default=48, description="Longest answer in tokens, in evaluation, votes and rl.")
    prompt_only: bool = Field(default=True, description="Also measure the base with three training rows as examples.")
    metrics: tuple[PartName, ...] = Field(
        default=(), description="Own metrics, package.module:function: a number for each answer, higher is better."
    )


class Feedback(Table):
    """What people (or, for a demonstration, simulated raters) are asked."""

    pairs: Positive = Field(default=384, description="Pairs of answers put before the raters in a turn.")
    overlap: Share = Field(
        default=0.167, description="Share of pairs that three raters see, so that agreement is known."
    )
    judge_votes: Positive = Field(default=2, description="Votes on each held-out pair that decides the gate.")
    simulate: Literal["support-desk"] | None = Field(default=None, description="Simulated raters under a stated rule.")
    sources: tuple[Literal["human", "simulated"], ...] = Field(
        default=("human",), description="Whose votes are learned from; naming both pools them, knowingly."
    )


class Preference(Paced):
    """Preference optimisation: learn from which answer is better, without a reward model and without sampling."""

    method: Literal["dpo", "ipo", "hinge", "robust", "simpo", "orpo", "kto"] | PartName = Field(
        default="dpo",
        description="Which loss. kto learns from answers with a label (a pair is read as two), the others from pairs; "
        "so does an own loss, package.module:function.",
    )
    learn_from: Annotated[tuple[Literal["rows", "compare", "edit", "thumb"], ...], Field(min_length=1)] = Field(
        default=("rows",), description='"rows" of data.preferences, and kinds of vote.'
    )
    min_votes: Positive = Field(default=200, description="The stage waits until so many votes are in.")
    held_out: Share = Field(default=0.1, description="Share of what it learns from that is only measured on.")
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
    learning_rate: PositiveFloat | Auto = Field(default="auto", description="Peak learning rate; auto is 2e-4.")
    batch_size: Positive | Auto = Field(default="auto", description="Pairs or labelled answers per update; auto is 8.")
    epochs: Positive | Auto = Field(
        default="auto", description="Passes; auto aims at 32 updates or more, in at most 3 passes."
    )

    @property
    def votes(self) -> tuple[Literal["compare", "edit", "thumb"], ...]:
        """The kinds of vote among what it learns from."""
        return tuple(kind for kind in self.learn_from if kind != "rows")

    @model_validator(mode="after")
    def votes_are_waited_for(self) -> Preference:
        if self.min_votes != _default(self, "min_votes") and not self.votes:
            raise ValueError('min_votes has no use where learn_from is ["rows"]')
        return self


class Reward(Paced):
    """A reward learned from comparisons."""

    learn_from: tuple[Literal["compare", "edit"], ...] = Field(
        ("compare",), description="Kinds of vote it learns from."
    )
    min_comparisons: Positive = Field(default=200, description="The stage waits until so many votes are in.")
    layers: Positive = Field(default=6, description="Adapt the last so many layers under the head.")
    epochs: Positive | Auto = Field(default="auto", description="Passes over the comparisons; auto is 2.")
    learning_rate: PositiveFloat | Auto = Field(default="auto", description="Peak learning rate; auto is 1e-3.")


class Rl(Paced):
    """Reinforcement learning against the learned reward, an own one, or their sum."""

    algorithm: Literal["grpo"] | PartName = Field(
        default="grpo", description='"grpo", or an own credit function package.module:function: rewards to advantages.'
    )
    reward: PartName | None = Field(
        default=None,
        description="An own reward, package.module:function: the reward without [reward], added to the learned one "
        "with it.",
    )
    scale: Literal["group", "batch"] = Field(
        default="group", description="Divides advantages by their deviation within a group, or over the rollout."
    )
    updates: Positive = Field(default=12, description="Optimizer updates; two per rollout.")
    prompts: Positive = Field(default=8, description="Prompts per rollout.")
    group: Annotated[int, Field(ge=2)] = Field(default=8, description="Answers sampled per prompt.")
    learning_rate: PositiveFloat | Auto = Field(default="auto", description="Learning rate; auto is 3e-4.")
    kl: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of KL to the start version; auto is 0.02."
    )
    clip: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.2, 0.28), description="Lower and upper clip of the ratio."
    )
    stop_kl: PositiveFloat = Field(
        default=0.15, description="Stops when KL per token to the start version exceeds this."
    )
    stop_length: PositiveFloat = Field(
        default=0.3, description="Stops when the mean length has moved by more than this share."
    )
    demonstrations: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Weight of the SFT rows' likelihood inside rl."
    )

    @model_validator(mode="after")
    def credit_reads_its_keys(self) -> Rl:
        if ":" in self.algorithm and "scale" in self.model_fields_set:
            raise ValueError(f"rl.scale belongs to grpo: {self.algorithm} gets the rewards alone; take scale out")
        return self


class Gate(Table):
    """One rule that the turn's candidate must pass before it is promoted."""

    metric: str = Field(description="Name of a metric of the evaluation.")
    against: str | None = Field(default=None, description='"production", "start", "base" or "prompt_only".')
    at_least: float | None = Field(default=None, description="The lower end of the interval must reach this.")
    at_most: float | None = Field(default=None, description="The upper end of the interval must not exceed this.")
    better_by: float | None = Field(
        default=None, description="Better than the reference by more than this, interval included."
    )
    not_worse_by: float | None = Field(
        default=None, description="Not worse than the reference by this, interval included."
    )

    @model_validator(mode="after")
    def one_bound(self) -> Gate:
        bounds = [n for n in ("at_least", "at_most", "better_by", "not_worse_by") if getattr(self, n) is not None]
        if len(bounds) != 1:
            raise ValueError("a gate has exactly one of at_least, at_most, better_by and not_worse_by")
        if bounds[0] in ("better_by", "not_worse_by") and self.against is None:
            raise ValueError(f"{bounds[0]} needs against")
        return self


class Serve(Table):
    """How the version in production answers."""

    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        default=0.7, description="Default temperature of an answer."
    )
    max_tokens: Positive = Field(default=128, description="Default and largest length of an answer in tokens.")


class Loop(Table):
    """When the circle goes round again."""

    comparisons: Positive = Field(default=20, description="New votes that start the next turn.")


class Recipe(Table):
    """The whole recipe. ``name`` defaults to the file's stem and is the project that every record belongs to."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")] = Field(description="The project.")
    task: Literal["chat"] = Field(description="The kind of task.")
    base: str = Field(description="A local folder, a hub name, package:NAME, or an own version (support@6).")
    start: Literal["production", "sft"] = Field(
        default="sft", description="What the first stage of a later turn starts from."
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="Every random choice derives from it and the stage's name."
    )
    data: Data
    adapt: Adapt = Adapt()
    sft: Sft = Sft()
    evaluate: Evaluate = Evaluate()
    feedback: Feedback = Feedback()
    preference: Preference | None = None
    reward: Reward | None = None
    rl: Rl | None = None
    gate: tuple[Gate, ...] = ()
    serve: Serve = Serve()
    loop: Loop = Loop()

    @property
    def vote_kinds(self) -> tuple[Literal["compare", "edit", "thumb"], ...]:
        """The kinds of vote that a stage of the recipe learns from."""
        if self.reward is not None:
            return self.reward.learn_from
        return self.preference.votes if self.preference is not None else ()

    @model_validator(mode="after")
    def stages_fit(self) -> Recipe:
        if self.preference is not None and self.rl is not None:
            raise ValueError("[preference] and [rl] are two ways to the turn's candidate: keep one of them")
        if self.rl is not None and self.reward is None and self.rl.reward is None:
            raise ValueError("[rl] needs a [reward] table, or an own reward as rl.reward")
        if self.reward is not None and self.rl is None:
            raise ValueError("a [reward] is learned for [rl]: add an [rl] table, or take [reward] out")
        rows = self.preference is not None and "rows" in self.preference.learn_from
        if rows and self.data.preferences is None:
            raise ValueError(
                "[preference] learns from rows: name them in data.preferences, or name votes in learn_from"
            )
        if self.data.preferences is not None and not rows:
            raise ValueError('data.preferences is read by nothing: add [preference] with "rows" in learn_from')
        if self.feedback.simulate and "simulated" not in self.feedback.sources:
            raise ValueError('feedback.simulate needs "simulated" in feedback.sources')
        return self
