"""Learning from a teacher's distributions. Axes: S supervised positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.objectives import reading
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult


def distillation(teacher_kl_S: Tensor, weights_S: Tensor) -> TermResult:
    """Sum of w KL(teacher || student) over positions: the forward KL, in nats. Unit: token, counted by weight.

    Hinton et al. 2015, arXiv:1503.02531; for sequences Kim and Rush 2016, arXiv:1606.07947.
    """
    on = weights_S != 0
    weights = weights_S[on]
    return TermResult((weights * teacher_kl_S[on]).sum(), {}, float(weights.sum()))


def distillation_term(weight: float = 1.0, stored: bool = False) -> Term:
    """``distillation`` on demonstrations: all, or (``stored``) those that carry ``Answer.top``. Unit: token.

    The step loop's forward is ``models.distillation.Student.logp``, which fills in ``outputs.teacher_kl_S``: with a
    teacher beside the student (``stored`` False), or from what ``with_top`` put on the answers (``stored`` True).
    Beside it ``likelihood_term(1 - share)`` learns the written tokens themselves. A window may hold no answer with a
    stored teacher; that some row of the data has one is for the stage to see to.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.demonstration_weights(stream)
        if stored:
            nowhere = torch.zeros_like(weights, dtype=torch.bool)
            weights = torch.where(stream.present.get("top", nowhere), weights, 0.0)
        return distillation(reading.given(outputs.teacher_kl_S), weights)

    def count(trees: Sequence[Tree]) -> float:
        return sum(a.units for a in reading.demonstrations(trees) if not stored or a.top is not None)

    return Term("distillation", "token", weight, count, loss)
