"""A rollout's answers as they were drawn: what they earned, how far they are from the start version, and their figures.

Axes: N prompts, G answers to a prompt, L tokens of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from burnish.errors import TrainingError
from burnish.models.language import LanguageModel
from burnish.objectives.reading import given
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.objectives.terms import Outputs
from burnish.records import Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample

T = TypeVar("T")
BUDGET = 2048  # tokens in a forward without gradient


@dataclass(frozen=True)
class Measured:
    """N groups: the samples, their rewards, and the same as trees with "old_logp" and "reference_logp".

    A sample without logprobs was written, not drawn: it has joined the group to be learned from, and its answer carries
    neither stream. ``drawn`` are all drawn answers of all prompts, those without a reward too.

    Raises:
        TrainingError: A reward is not finite.
    """

    samples: list[list[Sample]]
    scores: Scores
    trees: list[Tree]
    drawn: list[list[Sample]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rewards = [reward for group in self.scores.total for reward in group]
        if not all(map(math.isfinite, rewards)):
            raise TrainingError(f"a reward is not finite: {rewards}", mend="train the reward again")

    def at(self, places: Sequence[int]) -> Measured:
        """The groups at these places."""

        def take(groups: Sequence[T]) -> list[T]:
            return [groups[place] for place in places]

        return Measured(take(self.samples), self.scores.at(places), take(self.trees), self.drawn)

    def __add__(self, other: Measured) -> Measured:
        mine, theirs = self.scores, other.scores
        parts = {name: [*found, *theirs.parts[name]] for name, found in mine.parts.items()}
        tokens = None if mine.tokens is None or theirs.tokens is None else [*mine.tokens, *theirs.tokens]
        failed = {name: number + theirs.failed[name] for name, number in mine.failed.items()}
        kept, why = [*mine.kept, *theirs.kept], mine.why or theirs.why
        here, there = (sum(map(len, side.drawn)) for side in (self, other))
        more = {name: (here * mean + there * theirs.more[name]) / (here + there) for name, mean in mine.more.items()}
        scores = Scores([*mine.total, *theirs.total], parts, kept, tokens, failed, why, more)
        samples, trees = [*self.samples, *other.samples], [*self.trees, *other.trees]
        return Measured(samples, scores, trees, [*self.drawn, *other.drawn])

    def own(self) -> Measured:
        """The same without written answers."""
        places = [[g for g, sample in enumerate(group) if sample.logprobs] for group in self.samples]

        def take(groups: Sequence[Sequence[T]]) -> list[list[T]]:
            return [[group[g] for g in where] for group, where in zip(groups, places, strict=True)]

        mine = self.scores
        parts = {name: take(found) for name, found in mine.parts.items()}
        tokens = None if mine.tokens is None else take(mine.tokens)
        kept = [list(range(len(where))) for where in places]
        answers = take([tree.answers for tree in self.trees])
        trees = [replace(tree, answers=tuple(found)) for tree, found in zip(self.trees, answers, strict=True)]
        scores = replace(mine, total=take(mine.total), parts=parts, kept=kept, tokens=tokens)
        return Measured(take(self.samples), scores, trees, self.drawn)

    def figures(self) -> dict[str, Any]:
        """Means over all drawn answers (over all tokens for the KL, over groups for the diversity)."""
        own = self.own()
        flat = [sample for group in own.samples for sample in group]
        rewards = [reward for group in own.scores.total for reward in group]
        apart = [
            old - reference
            for tree in own.trees
            for answer in tree.answers
            for old, reference in zip(
                *(answer.supervised(answer.streams[name]) for name in ("old_logp", "reference_logp")), strict=True
            )
        ]
        distinct = [len({tuple(sample.ids) for sample in group}) / len(group) for group in own.samples]
        return {
            "reward": sum(rewards) / len(rewards),
            **own.scores.figures(),
            "kl": sum(apart) / len(apart),
            "length": sum(len(sample.drawn) for sample in flat) / len(flat),
            "cut_share": sum(sample.finish_reason == "length" for sample in flat) / len(flat),
            "diversity": sum(distinct) / len(distinct),
        }


def with_shown(
    drawn: Sequence[Sequence[Sample]], asked: Sequence[Asked], shown: Callable[[Row], Sequence[int] | None]
) -> list[list[Sample]]:
    """The groups, each with the written answer to its prompt where there is one: a sample without logprobs."""
    written = [shown(prompt.row) for prompt in asked]
    return [
        [*group, *([] if ids is None else [Sample(tuple(ids), (), "stop")])]
        for group, ids in zip(drawn, written, strict=True)
    ]


def as_trees(prompts: Sequence[Sequence[int]], samples: Sequence[Sequence[Sample]]) -> list[Tree]:
    """Each group as a tree whose drawn answers carry "old_logp"; its row is its place in the rollout.

    Of an episode only what the policy drew is trained: what it read has no weight.
    """

    def answer(sample: Sample, row: int) -> Answer:
        streams = {"old_logp": sample.logprobs} if sample.logprobs else {}
        return Answer(sample.ids, sample.weights, streams, row)

    return [
        Tree(prompt, tuple(answer(sample, row) for sample in group))
        for row, (prompt, group) in enumerate(zip(prompts, samples, strict=True))
    ]


def with_values(trees: Sequence[Tree], forward: Callable[[Stream], Outputs], keep_last: bool = False) -> list[Tree]:
    """The same trees with "value": what the critic expects from the prefix before each id on."""
    return with_stream(trees, "value", _read(trees, lambda stream: forward(stream).value_S, keep_last))


def with_reference(trees: Sequence[Tree], reference: LanguageModel, temperature: float) -> list[Tree]:
    """The same trees with "reference_logp" on drawn answers: under the start version, at the sampling temperature.

    Models that share layers read the very trees that the others read, last tokens included, as a reward does.
    """
    logps = _read(trees, lambda stream: reference.logp(stream, temperature).logp_S, reference.kept is not None)
    return with_stream(trees, "reference_logp", logps, having="old_logp")


def with_trainer(trees: Sequence[Tree], policy: LanguageModel, temperature: float) -> list[Tree]:
    """The same trees with the drawn answers' "old_logp" by the trainer; the sampler's becomes "sampled_logp"."""

    def renamed(answer: Answer) -> Answer:
        drawn = answer.streams.get("old_logp")
        return answer if drawn is None else replace(answer, streams={"sampled_logp": drawn})

    trees = [replace(tree, answers=tuple(map(renamed, tree.answers))) for tree in trees]
    logps = _read(trees, lambda stream: policy.logp(stream, temperature).logp_S, policy.kept is not None)
    return with_stream(trees, "old_logp", logps, having="sampled_logp")


@torch.no_grad()
def _read(
    trees: Sequence[Tree], figure: Callable[[Stream], torch.Tensor | None], keep_last: bool = False
) -> list[float]:
    """One figure of each id that is trained, of all trees in order, from forwards without gradient."""
    found: list[float] = []
    for stream in pack(trees, BUDGET, keep_last=keep_last):
        found += given(figure(stream)).tolist()
    return found


def with_stream(trees: Sequence[Tree], name: str, values: Sequence[float], having: str | None = None) -> list[Tree]:
    """The same trees with one more figure for each id that is trained, given for all in order (0 at all others).

    An answer without ``having`` skips its own.
    """
    at = iter(values)

    def known(answer: Answer) -> Answer:
        own = [next(at) if weight else 0.0 for weight in answer.weights]
        return (
            answer
            if having and having not in answer.streams
            else replace(answer, streams={**answer.streams, name: own})
        )

    return [replace(tree, answers=tuple(map(known, tree.answers))) for tree in trees]
