"""Group-relative advantages (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

SMALLEST_SPREAD = 1e-4  # rewards closer than this carry no preference: dividing by it would make noise loud


def advantages(rewards_NG: Sequence[Sequence[float]], scale: Literal["group", "batch"] = "group") -> list[list[float]]:
    """Each answer's reward relative to its group: ``(r - mean(r of its group)) / deviation``, population deviation.

    Args:
        rewards_NG: Rewards of the answers to each of N prompts; a group has at least 2.
        scale: Divide by the deviation within the group, as the paper does, or by that of the whole rollout around its
            groups' means: a group whose answers the reward hardly tells apart then weighs little, where its own
            deviation would blow noise up to full size (Liu et al. 2025, arXiv:2508.08221).

    Returns:
        N lists of advantages, each with mean 0; all zero where the rewards are equal.

    Raises:
        ValueError: A group of one, or a reward that is not finite.
    """
    apart = from_mean(rewards_NG)
    together = _deviation([a for group in apart for a in group])
    return [_divided(group, together if scale == "batch" else _deviation(group)) for group in apart]


def from_mean(rewards_NG: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each answer's reward less its group's mean.

    Raises:
        ValueError: See ``require_groups``.
    """
    require_groups(rewards_NG)
    return [[r - sum(rewards_G) / len(rewards_G) for r in rewards_G] for rewards_G in rewards_NG]


def require_groups(rewards_NG: Sequence[Sequence[float]]) -> None:
    """What every comparison within groups needs.

    Raises:
        ValueError: A group of one, or a reward that is not finite.
    """
    for rewards_G in rewards_NG:
        if len(rewards_G) < 2:
            raise ValueError(f"a group needs at least two answers, not {len(rewards_G)}")
        if not all(math.isfinite(r) for r in rewards_G):
            raise ValueError(f"a reward is not finite: {list(rewards_G)}")


def _deviation(apart: Sequence[float]) -> float:
    return math.sqrt(sum(a * a for a in apart) / max(1, len(apart)))


def _divided(apart: Sequence[float], spread: float) -> list[float]:
    return [0.0 if spread < SMALLEST_SPREAD else a / spread for a in apart]
