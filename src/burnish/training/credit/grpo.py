"""Group-relative advantages (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALLEST_SPREAD = 1e-4  # rewards closer than this carry no preference: dividing by it would make noise loud


def advantages(rewards_G: Sequence[float]) -> list[float]:
    """Each answer's reward relative to its group: ``(r - mean(r)) / std(r)``, population deviation.

    Args:
        rewards_G: Rewards of the G answers to one prompt; G is at least 2.

    Returns:
        G advantages with mean 0 and deviation 1; all zero where the rewards are equal.

    Raises:
        ValueError: A group of one, or a reward that is not finite.
    """
    if len(rewards_G) < 2:
        raise ValueError(f"a group needs at least two answers, not {len(rewards_G)}")
    if not all(math.isfinite(r) for r in rewards_G):
        raise ValueError(f"a reward is not finite: {list(rewards_G)}")
    mean = sum(rewards_G) / len(rewards_G)
    spread = math.sqrt(sum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
    if spread < SMALLEST_SPREAD:
        return [0.0] * len(rewards_G)
    return [(r - mean) / spread for r in rewards_G]
