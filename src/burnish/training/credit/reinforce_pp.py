"""REINFORCE++ (Hu et al. 2025, arXiv:2501.03262): no value function and no group, a baseline over the whole rollout."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.training.credit.whiten import whitened


def advantages(rewards_KL: Sequence[Sequence[float]]) -> list[list[float]]:
    """The sum of the rewards from each token on, whitened over all tokens of the rollout.

    With the KL to the reference as a penalty of each token and the answer's reward at its last one, this is the paper's
    A_t = r - beta sum_{i >= t} KL_i, brought to mean 0 and deviation 1 over the batch. The variant is the general one:
    the group's mean is not taken out first, so that a single answer to each prompt is enough.

    Args:
        rewards_KL: The reward that each token earned, of all K answers of a rollout.

    Returns:
        One advantage for each token, the same shape.
    """
    return whitened([_from_each_on(rewards_L) for rewards_L in rewards_KL])


def _from_each_on(rewards_L: Sequence[float]) -> list[float]:
    found: list[float] = []
    for reward in reversed(rewards_L):
        found.append(reward + (found[-1] if found else 0.0))
    return found[::-1]
