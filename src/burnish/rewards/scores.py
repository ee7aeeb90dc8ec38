"""What a rollout's answers earn: parts, each on its scale and with its weight, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from burnish.errors import TrainingError
from burnish.records import Row
from burnish.rewards.scale import Moments, moments, pooled, standardised
from burnish.sampling import Sample

Groups = Sequence[Sequence[Sample]]


@dataclass(frozen=True)
class Asked:
    """A prompt of a rollout, and the row that it comes from."""

    ids: Sequence[int]
    row: Row


@dataclass(frozen=True)
class Paid:
    """What one part says of N prompts' answers: a number each, or None where it has none, and then ``why``.

    ``figures`` are what else it measured, logged as ``reward/NAME/FIGURE``. ``tokens``, where it pays single tokens, is
    what each id of an answer is paid, the number their sum; such a part has no scale and no bounds of its own.
    """

    values: list[list[float | None]]
    why: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    tokens: list[list[list[float]]] | None = None

    @property
    def failed(self) -> int:
        """Answers without a number."""
        return sum(value is None for group in self.values for value in group)


@dataclass(frozen=True)
class Scores:
    """The rewards of N prompts' answers, of those alone that every part has a number for.

    ``total`` has one number for each answer of ``kept``, which lists for every prompt the places of these answers in
    its group; ``parts`` holds what each part said of them, by its name, before scale and weight. ``tokens``, where a
    part pays single tokens, has one number for each id of the answer, after the weight: the total holds their sum
    already. ``failed`` counts the answers that a part had no number for, ``why`` says what happened to one of them.
    ``more`` holds what else the parts measured, each a mean over the drawn answers.
    """

    total: list[list[float]]
    parts: Mapping[str, list[list[float]]]
    kept: list[list[int]]
    tokens: list[list[list[float]]] | None = None
    failed: Mapping[str, int] = field(default_factory=dict)
    why: str | None = None
    more: Mapping[str, float] = field(default_factory=dict)

    def at(self, places: Sequence[int]) -> Scores:
        """The rewards of the prompts at these places; what is counted and measured over all stays as it is."""
        parts = {name: [found[n] for n in places] for name, found in self.parts.items()}
        tokens = self.tokens and [self.tokens[n] for n in places]
        total, kept = [self.total[n] for n in places], [self.kept[n] for n in places]
        return replace(self, total=total, parts=parts, kept=kept, tokens=tokens)

    def figures(self) -> dict[str, float]:
        """The mean of each part over all answers, as ``reward/NAME``, how often it failed, and what it measured."""
        means = {f"reward/{name}": _mean(found) for name, found in self.parts.items()}
        failed = {f"reward/{name}/failed": float(number) for name, number in self.failed.items()}
        return means | failed | {f"reward/{name}": value for name, value in self.more.items()}


@dataclass(frozen=True)
class Weighted:
    """One part of a reward, its name, scale and weight. ``may_fail``: answers without a number are counted."""

    name: str
    score: Callable[[Sequence[Asked], Groups], Paid]
    weight: float = 1.0
    normalise: Literal["none", "batch", "running"] = "none"
    clip: tuple[float, float] | None = None
    may_fail: bool = False

    def weighed(self, value: float, scale: Moments) -> float:
        """The number on its scale, clipped, times the weight."""
        if self.normalise != "none":
            value = standardised(value, scale)
        if self.clip is not None:
            value = min(max(value, self.clip[0]), self.clip[1])
        return self.weight * value


# asked, samples, the scales so far (kept in checkpoints), and the rollout's number, None for a look at dev prompts
Score = Callable[[Sequence[Asked], Groups, dict[str, Any], int | None], Scores]


@dataclass(frozen=True)
class Combined:
    """The weighted sum of parts."""

    parts: tuple[Weighted, ...]

    def __call__(self, asked: Sequence[Asked], samples: Groups, scales: dict[str, Any], rollout: int | None) -> Scores:
        """The rewards of a rollout's answers, or of a look's.

        ``scales`` holds each part's moments by rollout, so that a rollout that is replayed does not count twice.
        """
        paid = {part.name: part.score(asked, samples) for part in self.parts}
        kept = [
            [g for g in range(len(group)) if all(found.values[n][g] is not None for found in paid.values())]
            for n, group in enumerate(samples)
        ]
        found = {name: _of(kept, said.values) for name, said in paid.items()}
        totals = [[0.0] * len(places) for places in kept]
        for part in self.parts:
            scale = _scale(part, found[part.name], scales.setdefault(part.name, {}), rollout)
            for total, values in zip(totals, found[part.name], strict=True):
                for place, value in enumerate(values):
                    total[place] += part.weighed(value, scale)
        failed = {part.name: paid[part.name].failed for part in self.parts if part.may_fail}
        why = next((said.why for said in paid.values() if said.why), None)
        more = {f"{name}/{figure}": value for name, said in paid.items() for figure, value in said.figures.items()}
        return Scores(totals, found, kept, self._by_token(paid, kept, samples), failed, why, more)

    def _by_token(
        self, paid: Mapping[str, Paid], kept: list[list[int]], samples: Groups
    ) -> list[list[list[float]]] | None:
        """What single tokens of the kept answers are paid, weighed and summed; None where no part pays any."""
        dense = [(part.weight, tokens) for part in self.parts if (tokens := paid[part.name].tokens) is not None]
        if not dense:
            return None
        return [
            [
                [sum(weight * tokens[n][g][t] for weight, tokens in dense) for t in range(len(samples[n][g].ids))]
                for g in places
            ]
            for n, places in enumerate(kept)
        ]


def rewarded(
    asked: Sequence[Asked], samples: Groups, scores: Scores, least: int
) -> tuple[list[Asked], list[list[Sample]], Scores]:
    """The prompts that have at least ``least`` answers with a reward, with these answers alone.

    Raises:
        TrainingError: There is none.
    """
    places = [n for n, kept in enumerate(scores.kept) if len(kept) >= least]
    if not places:
        what = f"no prompt of {len(asked)} has {least} answers with a reward"
        raise TrainingError(f"{what}: {scores.why}" if scores.why else what, mend="mend the part of the reward")
    chosen = [[samples[n][g] for g in scores.kept[n]] for n in places]
    whole = [list(range(len(group))) for group in chosen]
    return [asked[n] for n in places], chosen, replace(scores.at(places), kept=whole)


def _scale(part: Weighted, values: list[list[float]], known: dict[str, Any], rollout: int | None) -> Moments:
    """The moments that a part is standardised by; those of the first look serve every look."""
    if part.normalise == "none":
        return Moments()
    here = moments([value for group in values for value in group])
    if rollout is None:
        return Moments(*known.setdefault("start", list(here)))
    if part.normalise == "batch":
        return here
    known[str(rollout)] = list(here)
    return pooled(Moments(*known[str(number)]) for number in range(rollout + 1) if str(number) in known)


def _of(kept: list[list[int]], values: list[list[float | None]]) -> list[list[float]]:
    chosen = [[group[g] for g in places] for places, group in zip(kept, values, strict=True)]
    return [[value for value in group if value is not None] for group in chosen]


def _mean(rewards: Sequence[Sequence[float]]) -> float:
    flat = [reward for group in rewards for reward in group]
    return sum(flat) / len(flat) if flat else 0.0
