"""Written answers inside reinforcement learning: CHORD's weight of tokens, LUFFY's answers of another policy.

The third way, a fixed weight of their likelihood (PPO-ptx, Ouyang et al. 2022, arXiv:2203.02155), is
``likelihood_term``. Axes: S supervised positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from burnish.objectives import reading
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult


def chord(logp_S: Tensor, weights_S: Tensor) -> TermResult:
    """Likelihood weighted by phi = p (1 - p), p = pi(y): sum of -w phi log pi(y), phi without gradient. Unit: token.

    CHORD-phi (Zhang et al. 2025, arXiv:2508.11408, section 3.3): a token that the policy is sure of teaches nothing
    new, one that it finds impossible would tear it away; in between it learns most. phi changes the weight of a token
    and not the count. Metric: "phi".
    """
    on = weights_S != 0
    weights, logp = weights_S[on], logp_S[on]
    probability = logp.detach().exp()
    phi = probability * (1 - probability)
    return TermResult(-(weights * phi * logp).sum(), {"phi": (weights * phi).sum()}, float(weights.sum()))


def chord_schedule(peak: float, valley: float, updates: int, warmup: int = 0) -> Callable[[int], float]:
    """CHORD's mu at an update: up to ``peak`` in ``warmup`` updates, then along half a cosine down to ``valley``.

    The objective is (1 - mu) times that of reinforcement learning plus mu times the demonstrations'
    (arXiv:2508.11408, eq. 4, and the authors' schedule).
    """

    def mu(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        passed = min(1.0, (step - warmup) / max(1, updates - 1 - warmup))
        return valley + (peak - valley) * (1 + math.cos(math.pi * passed)) / 2

    return mu


def chord_term(weight: float = 1.0) -> Term:
    """``chord`` on demonstrations. Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return chord(reading.given(outputs.logp_S), reading.demonstration_weights(stream))

    def count(trees: Sequence[Tree]) -> float:
        return sum(answer.units for answer in reading.demonstrations(trees))

    return Term("chord", "token", weight, count, loss)


def shaped(logp_S: Tensor, advantage_S: Tensor, weights_S: Tensor, gamma: float = 0.1) -> TermResult:
    """Answers of another policy: sum of -w f(p) A, f(p) = p / (p + gamma), p = pi(y). Unit: token.

    LUFFY (Yan et al. 2025, arXiv:2504.14945, section 3.3): the other policy's probability, which nobody knows, is
    taken for 1, nothing is clipped, and f gives unlikely tokens a larger gradient than p has, gamma p / (p + gamma)^2
    instead of p. Metric: "probability".
    """
    on = weights_S != 0
    weights, advantage = weights_S[on], advantage_S[on]
    probability = logp_S[on].exp()
    total = -(weights * advantage * probability / (probability + gamma)).sum()
    return TermResult(total, {"probability": (weights * probability.detach()).sum()}, float(weights.sum()))


def shaped_term(gamma: float = 0.1, longest: int | None = None, weight: float = 1.0) -> Term:
    """``shaped`` on answers that carry "demonstrated_advantage". Unit: token.

    On- and off-policy tokens share one denominator, see ``sharing``; ``longest`` is that of the policy term.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.weights(stream, having="demonstrated_advantage")
        advantage = reading.figure(stream, "demonstrated_advantage", weights)
        return shaped(reading.given(outputs.logp_S), advantage, weights, gamma)

    def count(trees: Sequence[Tree]) -> float:
        return reading.tokens(trees, having="demonstrated_advantage")

    def constant(trees: Sequence[Tree]) -> float:
        return float((longest or 0) * len(reading.answers(trees, having="demonstrated_advantage")))

    return Term("shaped", "token", weight, count, loss, divisor=None if longest is None else constant)


def sharing(*terms: Term) -> list[Term]:
    """The terms with one denominator: the sum of what each of them would be divided by."""
    return [replace(term, divisor=lambda trees: sum(t.divided_by(trees) for t in terms)) for term in terms]
