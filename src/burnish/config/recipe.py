"""The recipe: its tables in the order of the circle, every key with its type, default and meaning.

Everything about the host (store, ports, devices) lives in flags and environment variables, never here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.reinforcement import Rl
from burnish.config.rewards import BETTER
from burnish.config.stages import OVERALL, Adapt, Preference, Reward, Sft, Spans
from burnish.config.table import Criterion, PartName, Positive, Share, Table
from burnish.records import VoteKind

RESERVED = (OVERALL, "uncertainty", "failed")  # logged beside the criteria


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
        description="Rows for [preference], [reward] or [spans]: chosen and rejected answers; for kto, answers with a "
        "label (good or bad); for [spans], answers with the spans of their errors, [] where there is none.",
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


class Evaluate(Table):
    """How answers are made and measured."""

    items: Positive = Field(default=96, description="At most so many held-out prompts are answered.")
    max_new_tokens: Positive = Field(default=48, description="Longest answer in tokens, in evaluation, votes and rl.")
    prompt_only: bool = Field(default=True, description="Also measure the base with three training rows as examples.")
    metrics: tuple[PartName, ...] = Field(
        default=(), description="Own metrics, package.module:function: a number for each answer, higher is better."
    )


class Judge(Table):
    """A model that compares pairs of answers too; its votes are of the source "judge"."""

    model: Annotated[str, Field(min_length=1)] = Field(
        description="Its name at the endpoint that BURNISH_JUDGE_URL names: asked in both orders about the pairs that "
        "a turn collects, never about those that decide the gate."
    )
    criterion: Annotated[str, Field(min_length=1)] = Field(
        default=BETTER, description="What makes an answer better, in a sentence."
    )


class Feedback(Table):
    """What people (or, for a demonstration, simulated raters) are asked."""

    pairs: Positive = Field(default=384, description="Pairs of answers put before the raters in a turn.")
    answers: Annotated[int, Field(ge=2, le=8)] = Field(
        default=2,
        description="Answers sampled to a prompt, each of which is compared with the next one: more of them ask about "
        "fewer prompts, with fewer answers to sample and to read for as many votes.",
    )
    overlap: Share = Field(
        default=0.167, description="Share of pairs that three raters see, so that agreement is known."
    )
    judge_votes: Positive = Field(default=2, description="Votes on each held-out pair that decides the gate.")
    simulate: Literal["support-desk"] | None = Field(default=None, description="Simulated raters under a stated rule.")
    sources: Annotated[tuple[Literal["human", "simulated", "judge"], ...], Field(min_length=1)] = Field(
        default=("human",), description="Whose votes are learned from; naming several pools them, knowingly."
    )
    criteria: Annotated[tuple[Criterion, ...], Field(max_length=6)] = Field(
        default=(),
        description="What raters may judge beside the whole, each a few words; the reward learns a head for each.",
    )
    judge: Judge | None = None

    @model_validator(mode="after")
    def criteria_differ(self) -> Feedback:
        seen = [name.lower() for name in (*RESERVED, *self.criteria)]
        twice = next((name for name in self.criteria if seen.count(name.lower()) > 1), None)
        if twice is not None:
            raise ValueError(f'"{twice}" is the name of something else: give each criterion a name of its own')
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
    spans: Spans | None = None
    rl: Rl | None = None
    gate: tuple[Gate, ...] = ()
    serve: Serve = Serve()
    loop: Loop = Loop()

    @property
    def vote_kinds(self) -> tuple[VoteKind, ...]:
        """The kinds of vote that a stage of the recipe learns from."""
        learners = (self.reward or self.preference, self.spans)
        return tuple(dict.fromkeys(kind for learner in learners if learner is not None for kind in learner.votes))

    @property
    def error_types(self) -> tuple[str, ...]:
        """The types of error that people mark: those that [spans] learns, and those that sft.span_weights weighs."""
        return tuple(dict.fromkeys((*(self.spans.types if self.spans is not None else ()), *self.sft.span_weights)))

    @property
    def weights(self) -> dict[str, float]:
        """What the heads of a reward model weigh; empty where the choice of the better answer is all of it."""
        return self.reward.criteria if self.reward is not None else {}

    @model_validator(mode="after")
    def stages_fit(self) -> Recipe:
        if self.preference is not None and self.rl is not None:
            raise ValueError("[preference] and [rl] are two ways to the turn's candidate: keep one of them")
        learned = self.rl is not None and any(part.kind == "learned" for part in self.rl.paid)
        if learned and self.reward is None:
            raise ValueError(
                "[rl] needs a [reward] table, or parts of the reward that are not learned as [[rl.rewards]]"
            )
        self._require_paid_spans()
        if self.rl is not None and self.rl.watch and self.reward is None:
            raise ValueError("rl.watch trains a second reward model: add a [reward] table, or take it out")
        if self.reward is not None and self.rl is None:
            raise ValueError("a [reward] is learned for [rl]: add an [rl] table, or take [reward] out")
        if self.reward is not None and not learned:
            raise ValueError('no part of rl.rewards pays the learned [reward]: add a row with kind = "learned"')
        doubted = self.rl is not None and any(part.uncertainty_penalty for part in self.rl.paid)
        if doubted and self.reward is not None and self.reward.models == 1:
            raise ValueError("uncertainty_penalty needs several models: set reward.models, or take it out")
        stages = {"preference": self.preference, "reward": self.reward}
        rows = [name for name, stage in stages.items() if stage is not None and "rows" in stage.learn_from]
        if rows and self.data.preferences is None:
            raise ValueError(
                f"[{rows[0]}] learns from rows: name them in data.preferences, or name votes in learn_from"
            )
        if self.rl is not None and self.rl.watch and "reward" in rows:
            raise ValueError(
                'rl.watch splits votes by who cast them, and rows name nobody: take "rows" out of reward.learn_from, '
                "or watch out of [rl]"
            )
        marked = self.spans is not None and "rows" in self.spans.learn_from
        if self.data.preferences is not None and not rows and not marked:
            raise ValueError(
                'data.preferences is read by nothing: add [preference] or [reward] with "rows" in learn_from, or '
                "[spans]"
            )
        self._require_criteria()
        if self.feedback.simulate and "simulated" not in self.feedback.sources:
            raise ValueError('feedback.simulate needs "simulated" in feedback.sources')
        if "judge" in self.feedback.sources and self.feedback.judge is None:
            raise ValueError('feedback.sources names a "judge": say which in [feedback.judge], or take it out')
        fresh = self.rl is not None and self.reward is not None and self.rl.fresh_comparisons != 0
        if self.feedback.judge is not None and not self.vote_kinds and not (fresh and "judge" in self.feedback.sources):
            raise ValueError("[feedback.judge] has nothing to compare: no stage learns from votes")
        return self

    def _require_criteria(self) -> None:
        """Criteria are learned from comparisons, and weighed where they are asked for."""
        asked, reward = self.feedback.criteria, self.reward
        if asked and (reward is None or "compare" not in reward.learn_from):
            raise ValueError(
                'feedback.criteria are learned by a [reward] with "compare" in learn_from: add it, or take them out'
            )
        if self.weights and not asked:
            raise ValueError("reward.criteria weighs what nobody is asked about: name it in feedback.criteria too")
        strange = next((name for name in self.weights if name not in (OVERALL, *asked)), None)
        if strange is not None:
            raise ValueError(
                f'reward.criteria weighs "{strange}", which nobody is asked about: known are '
                f"{', '.join((OVERALL, *asked))}"
            )

    def _require_paid_spans(self) -> None:
        """What [spans] learns is paid by a part of the reward, and nothing else is."""
        paid = {part.type for part in self.rl.paid if part.type is not None} if self.rl is not None else set()
        if paid and self.rl is not None and self.rl.environment is not None:
            raise ValueError(
                'kind = "spans" reads single answers, and rl.environment has episodes: take one of them out'
            )
        if self.spans is None:
            if paid:
                raise ValueError('kind = "spans" pays what is learned from marked errors: add a [spans] table')
            return
        if "rows" in self.spans.learn_from and self.data.preferences is None:
            raise ValueError(
                'spans.learn_from has "rows": name their file in data.preferences, or learn from what people mark: '
                '["span"]'
            )
        unpaid, unknown = sorted(set(self.spans.types) - paid), sorted(paid - set(self.spans.types))
        if unpaid:
            raise ValueError(
                f'no part of rl.rewards pays spans.types.{unpaid[0]}: add a row with kind = "spans" and type = '
                f'"{unpaid[0]}", or take the type out'
            )
        if unknown:
            raise ValueError(
                f'a part of rl.rewards pays errors of type "{unknown[0]}", and spans.types has '
                f"{', '.join(self.spans.types)}"
            )
