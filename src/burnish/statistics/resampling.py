"""Bootstrap intervals of means, whole clusters drawn at a time. Shapes: N values, K clusters, R resamples.

Answers to one prompt, or rows of one person, are not independent: the cluster is what was drawn, so the
cluster is what is drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np

from burnish.errors import EvaluationError
from burnish.records import Figure
from burnish.statistics.checks import Array, finite, same_length, tail

BLOCK = 2_000_000  # weights held at once


def mean_interval(
    values: Sequence[float] | Array,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Figure:
    """The mean of N values with the BCa bootstrap interval over their clusters (Efron 1987).

    Returns:
        A figure without an interval where there is only one cluster, and with one of zero width where all
        clusters agree: a gate passes on neither.

    Raises:
        EvaluationError: No values, a value that is not finite, or lengths that differ.
    """
    values_N = finite(values, "the mean")
    same_length(values_N.size, len(clusters), "values and clusters")
    sums_K, counts_K = _per_cluster(values_N, clusters)
    return _ratio_interval(sums_K, counts_K, seed, resamples, level)


def paired_bootstrap(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Figure:
    """The mean of a - b where a[n] and b[n] measure the same item, with its interval over clusters.

    The difference is taken item by item, so what makes an item easy or hard for both cancels.

    Raises:
        EvaluationError: As ``mean_interval``, and where a and b differ in length.
    """
    a_N, b_N = finite(a, "the first side of a pair"), finite(b, "the second side of a pair")
    same_length(a_N.size, b_N.size, "the sides of pairs")
    return mean_interval(a_N - b_N, clusters, seed=seed, resamples=resamples, level=level)


def crossed_bootstrap(
    values: Sequence[Sequence[float]] | Array, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Figure:
    """The mean of a table (runs by prompts) with a percentile interval; runs and prompts are both drawn
    again.

    For figures pooled over seeds: neither the seeds nor the prompts are all that there could have been. It
    errs on the wide side (the pigeonhole bootstrap, Owen 2007). ``clusters`` is the number of prompts.

    Raises:
        EvaluationError: Not a table, or a value that is not finite.
    """
    table_SN = finite(values, "the table of runs by prompts")  # type: ignore[arg-type]
    if table_SN.ndim != 2:
        raise EvaluationError("pooling needs a table: the same prompts in every run")
    runs, prompts = table_SN.shape
    draw = np.random.default_rng(seed)
    weights_RS = draw.multinomial(runs, np.full(runs, 1 / runs), size=resamples)
    weights_RN = draw.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    means_R = np.einsum("rs,sn,rn->r", weights_RS, table_SN, weights_RN, optimize=True) / (runs * prompts)
    low, high = np.quantile(means_R, [tail(level), 1 - tail(level)])
    return Figure(float(table_SN.mean()), float(low), float(high), prompts, level)


def _per_cluster(values_N: Array, clusters: Sequence[Hashable]) -> tuple[Array, Array]:
    """Sum and number of the values of each cluster, in order of first appearance."""
    number: dict[Hashable, int] = {}
    index_N = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
    sums_K: Array = np.zeros(len(number))
    counts_K: Array = np.zeros(len(number))
    np.add.at(sums_K, index_N, values_N)
    np.add.at(counts_K, index_N, 1.0)
    return sums_K, counts_K


def _ratio_interval(sums_K: Array, counts_K: Array, seed: int, resamples: int, level: float) -> Figure:
    clusters = sums_K.size
    value = float(sums_K.sum() / counts_K.sum())
    outside = tail(level)
    if clusters < 2:
        return Figure(value, None, None, clusters, level)
    means_R = _resampled_means(sums_K, counts_K, seed, resamples)
    left_out_K = (sums_K.sum() - sums_K) / (counts_K.sum() - counts_K)
    shares = _bca_shares(value, means_R, left_out_K, outside)
    low, high = np.quantile(means_R, shares)
    return Figure(value, float(low), float(high), clusters, level)


def _resampled_means(sums_K: Array, counts_K: Array, seed: int, resamples: int) -> Array:
    clusters = sums_K.size
    draw = np.random.default_rng(seed)
    even_K = np.full(clusters, 1 / clusters)
    block = max(1, BLOCK // clusters)
    means = []
    for start in range(0, resamples, block):
        weights_RK = draw.multinomial(clusters, even_K, size=min(block, resamples - start))
        means.append((weights_RK @ sums_K) / (weights_RK @ counts_K))
    return np.concatenate(means)


def _bca_shares(value: float, means_R: Array, left_out_K: Array, outside: float) -> tuple[float, float]:
    """Which quantiles of the resamples bound the interval, corrected for bias and for skew."""
    normal = NormalDist()
    tolerance = 1e-12 * max(1.0, abs(value))
    below = np.mean(means_R < value - tolerance) + 0.5 * np.mean(np.abs(means_R - value) <= tolerance)
    edge = 1 / (means_R.size + 1)
    bias = normal.inv_cdf(float(np.clip(below, edge, 1 - edge)))
    deviation_K = left_out_K.mean() - left_out_K
    spread = float((deviation_K**2).sum())
    skew = float((deviation_K**3).sum()) / (6 * spread**1.5) if spread > tolerance**2 else 0.0

    def share(z: float) -> float:
        moved = bias + z
        return normal.cdf(bias + moved / (1 - skew * moved)) if math.isfinite(skew) else normal.cdf(z)

    return share(normal.inv_cdf(outside)), share(normal.inv_cdf(1 - outside))
