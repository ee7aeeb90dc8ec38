"""How well probabilities find a rare event. Shapes: N predictions, K clusters, R resamples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from burnish.errors import EvaluationError
from burnish.records import Figure
from burnish.statistics.checks import Array, finite, same_length, tail


def average_precision(
    scores: Sequence[float] | Array,
    happened: Sequence[bool],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Figure:
    """The mean precision at each event that is found, from the highest score down, with a percentile interval.

    Sum of (recall_n - recall_n-1) precision_n over the distinct scores; what ranks at random has the event's share on
    average, the base rate. Whole clusters are drawn again; a draw without the event is left out.

    Returns:
        A figure without an interval where there is only one cluster.

    Raises:
        EvaluationError: No event among the predictions, a score that is not finite, or lengths that differ.
    """
    scores_N = finite(scores, "scores")
    same_length(scores_N.size, len(happened), "scores and outcomes")
    same_length(scores_N.size, len(clusters), "scores and clusters")
    order = np.argsort(-scores_N, kind="stable")
    happened_N = np.asarray(happened, dtype=float)[order]
    if not happened_N.any():
        raise EvaluationError("nothing can be found where the event never happened")
    sorted_N = scores_N[order]
    last_of_equal_N = np.append(sorted_N[1:] != sorted_N[:-1], True)
    value = float(_precision(np.ones((1, scores_N.size)), happened_N, last_of_equal_N)[0])
    number: dict[Hashable, int] = {}
    index_N = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])[order]
    if len(number) < 2:
        return Figure(value, None, None, len(number), level)
    draw = np.random.default_rng(seed)
    weights_RK = draw.multinomial(len(number), np.full(len(number), 1 / len(number)), size=resamples)
    found_R = _precision(weights_RK[:, index_N].astype(float), happened_N, last_of_equal_N)
    low, high = np.nanquantile(found_R, [tail(level), 1 - tail(level)])
    return Figure(value, float(low), float(high), len(number), level)


def _precision(weights_RN: Array, happened_N: Array, last_of_equal_N: Array) -> Array:
    """The average precision of each weighing of the predictions, highest score first; NaN where the event has none."""
    hits_RN = np.cumsum(weights_RN * happened_N, axis=1)[:, last_of_equal_N]
    tried_RN = np.cumsum(weights_RN, axis=1)[:, last_of_equal_N]
    gained_RN = np.diff(hits_RN, axis=1, prepend=0.0)
    total_R = hits_RN[:, -1]
    summed_R: Array = (gained_RN * hits_RN / np.maximum(tried_RN, 1.0)).sum(axis=1)
    return np.where(total_R > 0, summed_R / np.maximum(total_R, 1.0), np.nan)
