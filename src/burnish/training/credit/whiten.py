"""Whitening: figures of a whole rollout brought to mean 0 and deviation 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALLEST_SPREAD = 1e-8


def whitened(values_KL: Sequence[Sequence[float]], shift: bool = True) -> list[list[float]]:
    """(x - mean) / deviation over all tokens of all K answers, population deviation.

    Args:
        values_KL: A figure of each token.
        shift: False keeps the mean: rewards are only scaled (Huang et al. 2024, arXiv:2403.17031, section 3.6).

    Returns:
        The same shape; without a spread all figures become 0, or stay as they are where the mean is kept.
    """
    flat = [x for values_L in values_KL for x in values_L]
    mean = sum(flat) / len(flat) if flat else 0.0
    spread = math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat)) if flat else 0.0
    if spread < SMALLEST_SPREAD:
        return [[0.0 if shift else x for x in values_L] for values_L in values_KL]
    kept = 0.0 if shift else mean
    return [[(x - mean) / spread + kept for x in values_L] for values_L in values_KL]
