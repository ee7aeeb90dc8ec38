"""What every figure refuses before it is computed. Shapes: N values, K clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from burnish.errors import EvaluationError

Array = NDArray[np.float64]


def finite(values: Sequence[float] | Array, what: str) -> Array:
    """The values as float64.

    Raises:
        EvaluationError: There is none, or one is not a finite number.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise EvaluationError(f"{what}: there is no value to measure")
    bad = np.flatnonzero(~np.isfinite(array.ravel()))
    if bad.size:
        raise EvaluationError(
            f"{what}: {bad.size} of {array.size} values are not finite, the first at position {bad[0]}",
            mend="find what made it; a figure is never computed around a missing value",
        )
    return array


def between(array: Array, low: float, high: float, what: str) -> Array:
    """The array itself, if every value lies in [low, high]; else EvaluationError."""
    if array.min() < low or array.max() > high:
        raise EvaluationError(f"{what}: values must lie between {low:g} and {high:g}")
    return array


def same_length(first: int, second: int, what: str) -> None:
    """Raises EvaluationError where two sequences that belong together differ in length."""
    if first != second:
        raise EvaluationError(f"{what}: {first} values against {second}")


def tail(level: float) -> float:
    """What lies outside a two-sided interval at ``level``, on one side."""
    if not 0 < level < 1:
        raise EvaluationError(f"the level of an interval lies between 0 and 1, not {level}")
    return (1 - level) / 2
