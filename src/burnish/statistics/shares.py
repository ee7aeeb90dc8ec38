"""Shares of independent yes or no answers."""

from __future__ import annotations

import math
from statistics import NormalDist

from burnish.errors import EvaluationError
from burnish.records import Figure
from burnish.statistics.checks import tail


def share_interval(successes: int, total: int, *, level: float = 0.95) -> Figure:
    """The share of successes with Wilson's score interval (1927).

    For independent trials only; where several answers belong to one prompt, use ``mean_interval`` with
    clusters.

    Raises:
        EvaluationError: No trials, or more successes than trials.
    """
    if total < 1 or not 0 <= successes <= total:
        raise EvaluationError(f"{successes} successes of {total} trials is no share")
    z = NormalDist().inv_cdf(1 - tail(level))
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    low = middle - half if successes > 0 else 0.0  # exact, where rounding would leave a hair
    high = middle + half if successes < total else 1.0
    return Figure(share, low, high, total, level)
