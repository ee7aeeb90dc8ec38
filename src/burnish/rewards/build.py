"""The reward that a recipe asks for, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from burnish.config import Recipe, RewardPart
from burnish.models.reward import RewardModel
from burnish.parts import Parts
from burnish.rewards.against import StartAnswers, fare
from burnish.rewards.judge import FILE, Endpoint, Judge
from burnish.rewards.learned import Ensemble
from burnish.rewards.own import score_replies
from burnish.rewards.rules import is_json_object, length_penalty, matches
from burnish.rewards.scores import Asked, Combined, Groups, Paid, Weighted
from burnish.rewards.spans import Dense, SpanReader
from burnish.sampling import Sample
from burnish.tasks.chat import ChatTask


@dataclass(frozen=True)
class Means:
    """What parts of a reward are made of: own parts, the task, the reward models with their centres, what the start
    version answers, the store's folder, where judgements are kept, and what reads segments for errors."""

    parts: Parts
    task: ChatTask
    learned: Sequence[RewardModel]
    centres: Sequence[float]
    start: StartAnswers
    folder: Path
    spans: SpanReader | None = None


def reward_of(recipe: Recipe, means: Means) -> Combined:
    """What reinforcement learning is paid with: the rows of ``rl.rewards``, or the learned reward alone.

    Raises:
        ConfigError: A row is a judge, and the host names no endpoint.
    """
    assert recipe.rl is not None
    return Combined(tuple(_weighted(row, means) for row in recipe.rl.paid))


def _weighted(row: RewardPart, means: Means) -> Weighted:
    return Weighted(row.title, _score(row, means), row.weight, row.normalise, row.clip, _may_fail(row))


def _score(row: RewardPart, means: Means) -> Callable[[Sequence[Asked], Groups], Paid]:
    task = means.task
    text = task.renderer.text
    if row.kind == "learned":
        return Ensemble(means.learned, means.centres, row.uncertainty_penalty)
    if row.kind == "spans":
        assert means.spans is not None  # the recipe has [spans]
        return Dense(means.spans, row.type or "", row.per)
    if row.kind == "own":
        return partial(score_replies, means.parts.rewards[row.function or ""], task, _may_fail(row))
    if row.kind == "judge":
        judge = Judge(Endpoint.of_host(), row.model or "", row.criterion, means.folder / FILE)
        return partial(fare, judge, task, means.start, _may_fail(row))
    if row.kind == "environment":
        return _by_environment
    if row.kind == "length":
        return partial(_by_rule, lambda sample: length_penalty(len(sample.drawn), row.shortest, row.longest or 1))
    if row.pattern is not None:
        return partial(_by_rule, lambda sample: matches(text(sample.ids[sample.last :]), row.pattern or ""))
    keys = row.json_object if isinstance(row.json_object, tuple) else ()
    return partial(_by_rule, lambda sample: is_json_object(text(sample.ids[sample.last :]), keys))


def _may_fail(row: RewardPart) -> bool:
    """Whether an answer without a number is counted, and does not stop the run."""
    return row.failures == "count" or (row.failures == "auto" and row.kind == "judge")


def _by_environment(asked: Sequence[Asked], samples: Groups) -> Paid:
    return Paid([[sample.paid for sample in group] for group in samples])


def _by_rule(rule: Callable[[Sample], float], asked: Sequence[Asked], samples: Groups) -> Paid:
    return Paid([[rule(sample) for sample in group] for group in samples])
