"""The value function's loss. Axes: S supervised positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.objectives import reading
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult


def value(
    value_S: Tensor, old_value_S: Tensor, return_S: Tensor, weights_S: Tensor, clip: float | None = 0.2
) -> TermResult:
    """Clipped squared error: sum of w max((v - R)^2, (v' - R)^2) / 2, v' = old + clamp(v - old, -clip, clip).

    The value loss of PPO's published code (Schulman et al. 2017, arXiv:1707.06347; Huang et al. 2022, "The 37
    implementation details of PPO", detail 9): a value may not move further from where it was than ``clip`` in the
    rollout's updates; None does not bound it. Metrics: "error", (v - R)^2, and "clip_share", tokens whose gradient the
    clip removed.
    """
    on = weights_S != 0
    found, old, wanted, weights = value_S[on], old_value_S[on], return_S[on], weights_S[on]
    error = (found - wanted) ** 2
    bounded = error if clip is None else (old + (found - old).clamp(-clip, clip) - wanted) ** 2
    with torch.no_grad():
        metrics = {"error": (weights * error).sum(), "clip_share": (weights * (bounded > error)).sum()}
    return TermResult((weights * torch.maximum(error, bounded)).sum() / 2, metrics, float(weights.sum()))


def value_term(weight: float = 0.1, clip: float | None = 0.2) -> Term:
    """``value`` on sampled answers: those that carry "return", and with it "value". Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.weights(stream, having="return")
        old, wanted = (reading.figure(stream, name, weights) for name in ("value", "return"))
        return value(reading.given(outputs.value_S), old, wanted, weights, clip)

    return Term("value", "token", weight, _tokens, loss)


def _tokens(trees: Sequence[Tree]) -> float:
    return reading.tokens(trees, having="return")
