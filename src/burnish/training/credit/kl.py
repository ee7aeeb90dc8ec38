"""The KL to the reference as a reward of each token, and the controller of its weight."""

from __future__ import annotations

from collections.abc import Sequence

GAIN, MOST = 0.1, 0.2


def penalty(logp_L: Sequence[float], reference_logp_L: Sequence[float], weight: float) -> list[float]:
    """-weight (log pi - log reference) of each token (Ziegler et al. 2019, arXiv:1909.08593, eq. 2).

    This is the estimator k1. In the reward it is the only one whose policy gradient is that of the KL: E[k1 grad log
    pi] is grad KL(pi || reference), while k3 adds the gradient of the other direction's KL, and k2 is neither's.

    Args:
        logp_L: Logprobs of an answer's tokens under the policy that drew them.
        reference_logp_L: The same under the reference.
        weight: beta.
    """
    return [-weight * (own - other) for own, other in zip(logp_L, reference_logp_L, strict=True)]


def controlled(weight: float, measured: float, target: float) -> float:
    """The next weight: ``weight (1 + 0.1 e)``, e = measured / target - 1 within -0.2 and 0.2.

    The controller of Ziegler et al. 2019 (arXiv:1909.08593, section 2.2), here with the KL in nats a token.
    """
    return weight * (1 + GAIN * max(-MOST, min(MOST, measured / target - 1)))
