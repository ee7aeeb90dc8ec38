"""REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740; Kool et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.training.credit.grpo import require_groups


def advantages(rewards_NG: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each answer's reward less the mean reward of the other answers to its prompt: an unbiased baseline.

    It is ``(r - mean(r of the group)) G / (G - 1)``.

    Args:
        rewards_NG: Rewards of the answers to each of N prompts; a group has at least 2.

    Returns:
        N lists of advantages, each with mean 0.

    Raises:
        ValueError: A group of one, or a reward that is not finite.
    """
    require_groups(rewards_NG)
    return [[r - (sum(rewards_G) - r) / (len(rewards_G) - 1) for r in rewards_G] for rewards_G in rewards_NG]
