"""What a rollout's answers earn: parts, each with its weight, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from burnish.records import Row
from burnish.sampling import Sample


@dataclass(frozen=True)
class Asked:
    """A prompt of a rollout, and the row that it comes from."""

    ids: Sequence[int]
    row: Row


@dataclass(frozen=True)
class Scores:
    """The rewards of N prompts' answers.

    ``total`` has one number for each answer, ``parts`` what each part said of it, by the part's name and before its
    weight, and ``tokens``, where a part pays single tokens, one number for each id of the answer, after the weight:
    an answer's total holds their sum already.
    """

    total: list[list[float]]
    parts: Mapping[str, list[list[float]]]
    tokens: list[list[list[float]]] | None = None

    def figures(self) -> dict[str, float]:
        """The mean of each part over all answers, as ``reward/NAME``."""
        return {f"reward/{name}": _mean(found) for name, found in self.parts.items()}


Score = Callable[[Sequence[Asked], Sequence[Sequence[Sample]]], Scores]


@dataclass(frozen=True)
class Weighted:
    """One part of a reward: a function that gives one number per answer, under a name and with a weight."""

    name: str
    score: Callable[[Sequence[Asked], Sequence[Sequence[Sample]]], list[list[float]]]
    weight: float = 1.0


@dataclass(frozen=True)
class Combined:
    """The weighted sum of parts."""

    parts: tuple[Weighted, ...]

    def __call__(self, asked: Sequence[Asked], samples: Sequence[Sequence[Sample]]) -> Scores:
        found = {part.name: part.score(asked, samples) for part in self.parts}
        total = [
            [sum(part.weight * found[part.name][n][g] for part in self.parts) for g in range(len(group))]
            for n, group in enumerate(samples)
        ]
        return Scores(total, found)


def _mean(rewards: Sequence[Sequence[float]]) -> float:
    flat = [reward for group in rewards for reward in group]
    return sum(flat) / len(flat)
