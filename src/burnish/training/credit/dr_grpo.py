"""Dr. GRPO's advantages (Liu et al. 2025, arXiv:2503.20783): GRPO's without the division by the deviation."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.training.credit.grpo import from_mean


def advantages(rewards_NG: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each answer's reward less its group's mean.

    Dividing by the deviation would weigh a prompt that is nearly always or nearly never answered well above one that is
    half the time. The other half of the method, a constant in the place of an answer's length, is the policy term's
    (``longest``).

    Args:
        rewards_NG: Rewards of the answers to each of N prompts; a group has at least 2.

    Returns:
        N lists of advantages, each with mean 0.

    Raises:
        ValueError: A group of one, or a reward that is not finite.
    """
    return from_mean(rewards_NG)
