"""Figures that are looked at more than once: valid at every look, and error shared among uses of one set."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.errors import EvaluationError
from burnish.records import Figure
from burnish.statistics.checks import Array, between, finite, tail

VARIANCE = 0.25  # no variable between 0 and 1 is less concentrated than a normal one of this variance (Hoeffding)


def confidence_sequence(values: Sequence[float] | Array, *, level: float = 0.95, best_at: int = 100) -> Figure:
    """The mean of values in [0, 1] with an interval that holds at all times at once.

    However often one looks, the chance that some look misses the truth is at most 1 - level: the two-sided
    normal mixture of Robbins (1970), as in Howard, Ramdas, McAuliffe and Sekhon (2021), equation 14. It
    covers the running mean of what each value was expected to be, so drift does not break it. About 1.5 times
    as wide as an interval that may be looked at once.

    Args:
        values: In order of arrival, each independent of the past given its own expectation: one per prompt or
            person (average what belongs together first).
        best_at: At how many values the interval should be tightest; to be fixed beforehand.

    Raises:
        EvaluationError: No values, one that is not finite or outside [0, 1].
    """
    values_N = between(finite(values, "the sequence"), 0, 1, "the sequence")
    middle = float(values_N.mean())
    half = radius(values_N.size, level, best_at)
    return Figure(middle, max(0.0, middle - half), min(1.0, middle + half), values_N.size, level)


def radius(count: int, level: float, best_at: int) -> float:
    """Half the width of the confidence sequence after ``count`` values."""
    if count < 1 or best_at < 1:
        raise EvaluationError("a confidence sequence needs one value at least")
    alpha = 2 * tail(level)
    log_inverse = 2 * math.log(1 / alpha)
    prior = VARIANCE * best_at / (log_inverse + math.log1p(log_inverse))
    spread = VARIANCE * count + prior
    return math.sqrt(spread * (math.log(spread / prior) + log_inverse)) / count


def alpha_for_use(use: int, alpha: float = 0.05) -> float:
    """What the n-th decision on one held-out set may spend: alpha / (n (n + 1)).

    The sum over all uses is alpha, however many there will be (1/2 + 1/6 + 1/12 + ... = 1), so all verdicts
    that one set has given are right together with probability 1 - alpha.

    Raises:
        EvaluationError: ``use`` below 1, or ``alpha`` outside (0, 1).
    """
    if use < 1 or not 0 < alpha < 1:
        raise EvaluationError(f"no error can be spent on use {use} at alpha {alpha}")
    return alpha / (use * (use + 1))
