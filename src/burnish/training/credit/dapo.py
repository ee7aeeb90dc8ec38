"""What DAPO adds around the advantages (Yu et al. 2025, arXiv:2503.14476): which groups to learn from, and a penalty
for answers that run up to the limit."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.training.credit.grpo import SMALLEST_SPREAD


def informative(rewards_G: Sequence[float]) -> bool:
    """Whether a group's rewards differ: equal ones have no advantage, and no gradient (section 3.2)."""
    return max(rewards_G) - min(rewards_G) >= SMALLEST_SPREAD


def overlong(length: int, longest: int, share: float = 0.2) -> float:
    """The penalty of an answer of ``length`` tokens where ``longest`` may be sampled (section 3.4, eq. 13).

    0 up to ``(1 - share) longest``, then falling in a straight line to -1 at ``longest``: an answer that the limit cut
    is at the bottom of the slope, not over a cliff. The paper's share is 4,096 of 20,480 tokens.

    Raises:
        ValueError: The answer is longer than ``longest``.
    """
    if length > longest:
        raise ValueError(f"an answer of {length} tokens, where {longest} may be sampled")
    return min(0.0, ((1 - share) * longest - length) / (share * longest))
