"""Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16)."""

from __future__ import annotations

from collections.abc import Sequence


def advantages(
    rewards_L: Sequence[float], values_L: Sequence[float], discount: float = 1.0, trace: float = 0.95
) -> list[float]:
    """A_t = d_t + discount trace A_{t+1}, d_t = r_t + discount V_{t+1} - V_t; nothing follows the last token.

    An answer that was cut by the length limit ends like any other: its reward was given for what is there.

    Args:
        rewards_L: The reward that each token of one answer earned.
        values_L: The value of each token's prefix: what was expected before it was drawn.
        discount: gamma, the weight of a reward one token later; 1 for answers that end.
        trace: lambda; 0 trusts the values (bias), 1 the rewards (variance).

    Returns:
        One advantage for each token. Its sum with the value is the return that the value learns.

    Raises:
        ValueError: There are not as many values as rewards.
    """
    if len(rewards_L) != len(values_L):
        raise ValueError(f"{len(rewards_L)} rewards, but {len(values_L)} values")
    found = [0.0] * len(rewards_L)
    following, expected = 0.0, 0.0
    for t in reversed(range(len(rewards_L))):
        following = rewards_L[t] + discount * expected - values_L[t] + discount * trace * following
        expected = values_L[t]
        found[t] = following
    return found
