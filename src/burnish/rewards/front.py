"""The front between criteria: what other weights of a reward's heads would bring, on votes that no head learned from.

Axes: C criteria.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from burnish.records import Figure, Json
from burnish.statistics import mean_interval

STEPS = {2: 10, 3: 4, 4: 3}  # into how many parts a weight of 1 is cut, by the number of criteria; else into 2


@dataclass(frozen=True)
class Point:
    """Weights, and by each criterion the share of people's votes that the answers they choose have won.

    ``dominated``: other weights are at least as good by every criterion, and better by one.
    """

    weights: Mapping[str, float]
    shares: Mapping[str, Figure]
    dominated: bool


def front(reward: Mapping[str, Json], given: Sequence[Mapping[str, float]] = (), seed: int = 0) -> list[Point]:
    """What weights of the criteria bring on a reward's held-out pairs, and which of them are dominated.

    Of each held-out pair the reward, weighed so, chooses one answer; by each criterion that answer has won a share of
    the votes of those who spoke about it (a half where the reward is even). The mean of these shares over pairs, with
    its interval over prompts, is what the weights bring: heads choose, and people who taught them nothing of these
    pairs judge. It is the best of two answers of the start version, before any reinforcement learning.

    The weights are a grid of all that sum up to 1, and those that are ``given``. Empty where fewer than two criteria
    have held-out votes.

    Args:
        reward: The body of a reward's record.
    """
    held = reward.get("held_out") or ()
    names = [name for name in reward.get("criteria") or () if any(name in pair["shares"] for pair in held)]
    if len(names) < 2:
        return []
    wanted = [*_grid(names), *(weights for weights in given if weights)]
    points = [(weights, {name: _won(held, weights, name, seed) for name in names}) for weights in _distinct(wanted)]
    return [Point(weights, shares, dominated(shares, [other for _, other in points])) for weights, shares in points]


def dominated(shares: Mapping[str, Figure], others: Sequence[Mapping[str, Figure]]) -> bool:
    """Whether one of the others has as high a mean by every criterion, and a higher one by some."""
    return any(
        all(other[name].value >= share.value for name, share in shares.items())
        and any(other[name].value > share.value for name, share in shares.items())
        for other in others
    )


def _won(held: Sequence[Mapping[str, Json]], weights: Mapping[str, float], name: str, seed: int) -> Figure:
    won, prompts = [], []
    for pair in held:
        if name in pair["shares"]:
            margin = sum(weight * pair["margins"][head] for head, weight in weights.items())
            first = 0.5 if margin == 0 else float(margin > 0)
            share = pair["shares"][name]
            won.append(first * share + (1 - first) * (1 - share))
            prompts.append(pair["prompt"])
    return mean_interval(won, prompts, seed=seed)


def _grid(names: Sequence[str]) -> Iterator[dict[str, float]]:
    """All weights in whole steps that sum up to 1."""
    steps = STEPS.get(len(names), 2)

    def cut(left: int, of: Sequence[str]) -> Iterator[dict[str, int]]:
        if len(of) == 1:
            yield {of[0]: left}
            return
        for taken in range(left, -1, -1):
            for rest in cut(left - taken, of[1:]):
                yield {of[0]: taken, **rest}

    for parts in cut(steps, names):
        yield {name: part / steps for name, part in parts.items()}


def _distinct(wanted: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Each of these weights once; a weight of 0 is none."""
    found: dict[tuple[tuple[str, float], ...], Mapping[str, float]] = {}
    for weights in wanted:
        found.setdefault(tuple(sorted((name, round(part, 6)) for name, part in weights.items() if part)), weights)
    return list(found.values())
