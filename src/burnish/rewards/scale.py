"""The scale of a part of the reward: mean and deviation, of a rollout or of all so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SMALLEST_SPREAD = 1e-8  # numbers closer than this are equal: they are only moved to 0


class Moments(NamedTuple):
    """How many numbers, their mean, and the sum of their squared distances from it."""

    number: float = 0.0
    mean: float = 0.0
    squares: float = 0.0


def moments(values: Sequence[float]) -> Moments:
    """The moments of numbers."""
    if not values:
        return Moments()
    mean = sum(values) / len(values)
    return Moments(float(len(values)), mean, sum((value - mean) ** 2 for value in values))


def pooled(several: Iterable[Moments]) -> Moments:
    """The moments of all numbers together (Chan, Golub and LeVeque 1983)."""
    whole = Moments()
    for found in several:
        number = whole.number + found.number
        if number:
            apart = found.mean - whole.mean
            mean = whole.mean + apart * found.number / number
            squares = whole.squares + found.squares + apart**2 * whole.number * found.number / number
            whole = Moments(number, mean, squares)
    return whole


def standardised(value: float, scale: Moments) -> float:
    """``(value - mean) / deviation``, population deviation; the difference alone where the numbers were all equal."""
    spread = math.sqrt(scale.squares / scale.number) if scale.number else 0.0
    return (value - scale.mean) / (spread if spread > SMALLEST_SPREAD else 1.0)
