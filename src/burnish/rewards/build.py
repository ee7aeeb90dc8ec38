"""The reward that a recipe asks for, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from burnish.config import Recipe, RewardPart
from burnish.models.reward import RewardModel
from burnish.parts import Parts
from burnish.rewards.learned import score_answers
from burnish.rewards.own import score_replies
from burnish.rewards.rules import is_json_object, length_penalty, matches
from burnish.rewards.scores import Asked, Combined, Groups, Paid, Weighted
from burnish.sampling import Sample
from burnish.tasks.chat import ChatTask


def reward_of(recipe: Recipe, parts: Parts, task: ChatTask, learned: RewardModel | None) -> Combined:
    """What reinforcement learning is paid with: the rows of ``rl.rewards``, or the learned reward alone."""
    assert recipe.rl is not None
    return Combined(tuple(_weighted(row, parts, task, learned) for row in recipe.rl.paid))


def _weighted(row: RewardPart, parts: Parts, task: ChatTask, learned: RewardModel | None) -> Weighted:
    may_fail = row.failures == "count"
    score: Callable[[Sequence[Asked], Groups], Paid]
    if row.kind == "learned":
        assert learned is not None
        score = partial(_by_model, learned)
    elif row.kind == "own":
        score = partial(score_replies, parts.rewards[row.function or ""], task, may_fail=may_fail)
    elif row.kind == "length":
        score = partial(_by_rule, lambda sample: length_penalty(len(sample.ids), row.shortest, row.longest or 1))
    elif row.pattern is not None:
        score = partial(_by_rule, lambda sample: matches(task.renderer.text(sample.ids), row.pattern or ""))
    else:
        keys = row.json_object if isinstance(row.json_object, tuple) else ()
        score = partial(_by_rule, lambda sample: is_json_object(task.renderer.text(sample.ids), keys))
    return Weighted(row.title, score, row.weight, row.normalise, row.clip, may_fail)


def _by_model(model: RewardModel, asked: Sequence[Asked], samples: Groups) -> Paid:
    ids = [[sample.ids for sample in group] for group in samples]
    found = score_answers(model, [prompt.ids for prompt in asked], ids)
    return Paid([list(group) for group in found])


def _by_rule(rule: Callable[[Sample], float], asked: Sequence[Asked], samples: Groups) -> Paid:
    return Paid([[rule(sample) for sample in group] for group in samples])
