"""The best and the worst answer of a group: pairs for online DPO, the best alone for rejection sampling."""

from __future__ import annotations

from collections.abc import Sequence


def best_and_worst(rewards_G: Sequence[float]) -> tuple[int, int] | None:
    """Where a group's best and its worst answer are, the first of those with equal rewards; None where all are equal.

    Online DPO (Guo et al. 2024, arXiv:2402.04792) has the better of two answers labelled online; of a larger group
    Xiong et al. 2023 (arXiv:2312.11456) take the best and the worst.
    """
    best = max(range(len(rewards_G)), key=lambda i: rewards_G[i])
    worst = min(range(len(rewards_G)), key=lambda i: rewards_G[i])
    return None if rewards_G[best] == rewards_G[worst] else (best, worst)
