"""Whether a probability means what it says. Shapes: N predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.errors import EvaluationError
from burnish.statistics.checks import Array, between, finite, same_length


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions between ``low`` and ``high``: how many, their mean, and how often the event came true."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


def reliability(p: Sequence[float] | Array, y: Sequence[float] | Array, bins: int = 10) -> list[Bin]:
    """The bins of a reliability diagram: equally wide, empty ones left out; 1.0 belongs to the last.

    Args:
        p: N predicted probabilities.
        y: N outcomes between 0 and 1 (0.5: a tie).

    Raises:
        EvaluationError: A value that is not finite or outside [0, 1], lengths that differ, or bins < 1.
    """
    p_N = between(finite(p, "predicted probabilities"), 0, 1, "predicted probabilities")
    y_N = between(finite(y, "outcomes"), 0, 1, "outcomes")
    same_length(p_N.size, y_N.size, "probabilities and outcomes")
    if bins < 1:
        raise EvaluationError("calibration needs one bin at least")
    index_N = np.minimum((p_N * bins).astype(int), bins - 1)
    found = []
    for index in np.unique(index_N):
        inside = index_N == index
        mean_p, mean_y = float(p_N[inside].mean()), float(y_N[inside].mean())
        found.append(Bin(float(index / bins), float((index + 1) / bins), int(inside.sum()), mean_p, mean_y))
    return found


def calibration_error(p: Sequence[float] | Array, y: Sequence[float] | Array, bins: int = 10) -> float:
    """Expected calibration error: the mean gap between predicted and observed, bins weighed by their size.

    Naeini, Cooper and Hauskrecht 2015. It is biased upwards on few predictions.
    """
    found = reliability(p, y, bins)
    total = sum(each.count for each in found)
    return sum(each.count * abs(each.predicted - each.observed) for each in found) / total
