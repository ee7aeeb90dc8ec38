"""A rollout's answers as they were drawn: what they earned, how far they are from the start version, and their figures.

Axes: N prompts, G answers to a prompt, L tokens of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from burnish.errors import TrainingError
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Tree, pack
from burnish.rewards.scores import Scores
from burnish.sampling import Sample

T = TypeVar("T")
BUDGET = 2048  # tokens in a forward without gradient


@dataclass(frozen=True)
class Measured:
    """N groups: the samples, their rewards, and the same as trees with "old_logp" and "reference_logp".

    ``drawn`` are all answers of all prompts, those without a reward too.

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

        mine = self.scores
        parts = {name: take(found) for name, found in mine.parts.items()}
        tokens = None if mine.tokens is None else take(mine.tokens)
        scores = replace(mine, total=take(mine.total), parts=parts, kept=take(mine.kept), tokens=tokens)
        return Measured(take(self.samples), scores, take(self.trees), self.drawn)

    def __add__(self, other: Measured) -> Measured:
        mine, theirs = self.scores, other.scores
        parts = {name: [*found, *theirs.parts[name]] for name, found in mine.parts.items()}
        tokens = None if mine.tokens is None or theirs.tokens is None else [*mine.tokens, *theirs.tokens]
        failed = {name: number + theirs.failed[name] for name, number in mine.failed.items()}
        kept, why = [*mine.kept, *theirs.kept], mine.why or theirs.why
        scores = Scores([*mine.total, *theirs.total], parts, kept, tokens, failed, why)
        samples, trees = [*self.samples, *other.samples], [*self.trees, *other.trees]
        return Measured(samples, scores, trees, [*self.drawn, *other.drawn])

    def figures(self) -> dict[str, Any]:
        """Means over all answers (over all tokens for the KL, over groups for the diversity)."""
        flat = [sample for group in self.samples for sample in group]
        rewards = [reward for group in self.scores.total for reward in group]
        apart = [
            old - reference
            for tree in self.trees
            for answer in tree.answers
            for old, reference in zip(answer.streams["old_logp"], answer.streams["reference_logp"], strict=True)
        ]
        distinct = [len({tuple(sample.ids) for sample in group}) / len(group) for group in self.samples]
        return {
            "reward": sum(rewards) / len(rewards),
            **self.scores.figures(),
            "kl": sum(apart) / len(apart),
            "length": sum(len(sample.ids) for sample in flat) / len(flat),
            "cut_share": sum(sample.finish_reason == "length" for sample in flat) / len(flat),
            "diversity": sum(distinct) / len(distinct),
        }


def as_trees(prompts: Sequence[Sequence[int]], samples: Sequence[Sequence[Sample]]) -> list[Tree]:
    """Each group as a tree whose answers carry "old_logp"; its row is its place in the rollout."""
    return [
        Tree(prompt, tuple(Answer(s.ids, [1.0] * len(s.ids), {"old_logp": s.logprobs}, row) for s in group))
        for row, (prompt, group) in enumerate(zip(prompts, samples, strict=True))
    ]


@torch.no_grad()
def with_reference(trees: Sequence[Tree], reference: LanguageModel, temperature: float) -> list[Tree]:
    """The same trees with "reference_logp": logprobs under the start version, at the sampling temperature."""
    found: list[float] = []
    for stream in pack(trees, BUDGET, keep_last=False):
        logp = reference.logp(stream, temperature=temperature).logp_S
        assert logp is not None
        found += logp.tolist()
    return with_stream(trees, "reference_logp", found)


def with_stream(trees: Sequence[Tree], name: str, values: Sequence[float]) -> list[Tree]:
    """The same trees with one more figure for each id, given for all of them in order."""
    at = iter(values)
    return [
        replace(
            tree,
            answers=tuple(replace(a, streams={**a.streams, name: [next(at) for _ in a.ids]}) for a in tree.answers),
        )
        for tree in trees
    ]
