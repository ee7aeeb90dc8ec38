"""What a teacher says about the next token, and how far a student is from it, chunk by chunk of the positions.

Axes: S supervised positions, C positions of one chunk, V vocabulary, D and E widths, K tokens that a teacher names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from burnish.models.place import wide
from burnish.models.projection import require_frozen
from burnish.objectives.stream import Top

CHUNK = 128  # positions whose whole distributions exist at one time: 25 MB for a vocabulary of 49,152


class Teacher(Protocol):
    """A teacher's distributions at the temperature at which both are compared.

    The forward KL(teacher || student) = sum of t (log t - log p) has the gradient p - q with respect to the student's
    logits (over the temperature), for a q that the teacher knows.
    """

    @property
    def temperature(self) -> float:
        """What both distributions' logits are divided by."""

    def compare(self, part: slice, logp_CV: Tensor) -> tuple[Tensor, Tensor]:
        """The KL [C] in nats of the positions ``part``, and p - q [C, V], for the student's log p at them."""


@dataclass(frozen=True)
class FullTeacher:
    """The whole distribution: the teacher's hidden states [S, E] and its output head [V, E]."""

    hidden_SE: Tensor
    head_VE: Tensor
    temperature: float = 1.0

    def compare(self, part: slice, logp_CV: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Teacher``. q is the teacher's own distribution."""
        teacher_CV = log_softmax(wide(self.hidden_SE[part] @ self.head_VE.T), self.temperature)
        t_CV = teacher_CV.exp()
        return (t_CV * (teacher_CV - logp_CV)).sum(1), logp_CV.exp().sub_(t_CV)


@dataclass(frozen=True)
class TopTeacher:
    """The K most likely tokens at each position, with their logprobs at ``temperature``; all others are one bucket.

    The KL is that of K + 1 outcomes: at most the KL of the whole distributions, and equal to it at K = V. Nothing is
    renormalised: a teacher that leaves a third of its mass unnamed asks the student for a third on the unnamed tokens
    together, in the student's own proportions (that is q).
    """

    top: Top
    temperature: float = 1.0

    def compare(self, part: slice, logp_CV: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Teacher``. Where a position names no token the KL is 0, and so is its gradient."""
        ids_CK, teacher_CK = self.top.ids[part], self.top.logp[part].to(logp_CV.dtype)
        named_CK = ids_CK >= 0
        # A place that names nothing repeats the first token, which is written twice with the same value.
        ids_CK = torch.where(named_CK, ids_CK, ids_CK[:, :1]).clamp(min=0)
        first_CK = teacher_CK[:, :1].expand_as(teacher_CK)
        p_CV = logp_CV.exp()
        rest_p_C = p_CV.scatter(1, ids_CK, 0.0).sum(1)
        rest_t_C = (1 - torch.where(named_CK, teacher_CK.exp(), 0.0).sum(1)).clamp(min=0.0)
        none_C = ~named_CK.any(1)
        rest_t_C, rest_p_C = torch.where(none_C, 1.0, rest_t_C), torch.where(none_C, 1.0, rest_p_C)
        t_CK = torch.where(named_CK & teacher_CK.isfinite(), teacher_CK.exp(), 0.0)
        gaps_CK = torch.where(t_CK > 0, t_CK * (teacher_CK - logp_CV.gather(1, ids_CK)), 0.0)
        rest_p_C = rest_p_C.clamp(min=torch.finfo(rest_p_C.dtype).tiny)
        rest_C = torch.where(rest_t_C > 0, rest_t_C * (rest_t_C.log() - rest_p_C.log()), 0.0)
        named_gap_CK = p_CV.gather(1, ids_CK) - torch.where(named_CK, teacher_CK, first_CK).exp()
        gap_CV = p_CV.mul_((1 - rest_t_C / rest_p_C)[:, None]).scatter_(1, ids_CK, named_gap_CK)
        return gaps_CK.sum(1) + rest_C, torch.where(none_C[:, None], 0.0, gap_CV)


def teacher_kl(hidden_SD: Tensor, head_VD: Tensor, teacher: Teacher) -> Tensor:
    """KL(teacher || student) [S] in nats, both at the teacher's temperature.

    A caller who wants the gradient's size to stay the same at a higher one multiplies by its square (Hinton et al.
    2015, arXiv:1503.02531). The gradient is with respect to ``hidden_SD``; the head is frozen.

    Raises:
        ModelError: The head is trainable, which this path does not implement.
    """
    require_frozen(head_VD)
    kl_S: Tensor = _TeacherKl.apply(hidden_SD, head_VD, teacher)
    return kl_S


class _TeacherKl(torch.autograd.Function):
    """The gradient is (p - q) head / T, which the forward keeps: the backward needs no logits."""

    @staticmethod
    def forward(ctx: Any, hidden_SD: Tensor, head_VD: Tensor, teacher: Teacher) -> Tensor:
        slope_SD = torch.empty_like(hidden_SD) if ctx.needs_input_grad[0] else None
        kl_S = wide(hidden_SD.new_empty(len(hidden_SD)))
        for start in range(0, len(hidden_SD), CHUNK):
            part = slice(start, start + CHUNK)
            logp_CV = log_softmax(wide(hidden_SD[part] @ head_VD.T), teacher.temperature)
            kl_S[part], gap_CV = teacher.compare(part, logp_CV)
            if slope_SD is not None:
                torch.mm(gap_CV.to(head_VD.dtype), head_VD, out=slope_SD[part])
        if slope_SD is not None:
            slope_SD.div_(teacher.temperature)
        ctx.save_for_backward(slope_SD)
        return kl_S

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, kl_grad_S: Tensor) -> tuple[Tensor, None, None]:
        (slope_SD,) = ctx.saved_tensors
        return (slope_SD * kl_grad_S[:, None]).to(slope_SD.dtype), None, None


def log_softmax(logits_CV: Tensor, temperature: float) -> Tensor:
    """log-softmax(logits / temperature), in the logits' place."""
    if temperature != 1.0:
        logits_CV /= temperature
    return logits_CV.sub_(logits_CV.logsumexp(1, keepdim=True))


def most_likely(hidden_SD: Tensor, head_VD: Tensor, most: int, temperature: float) -> Top:
    """The ``most`` most likely tokens at each position (all V where that is fewer), with their logprobs.

    At ``temperature``; without gradient.
    """
    most = min(most, len(head_VD))
    with torch.no_grad():
        parts = [
            log_softmax(wide(hidden_CD @ head_VD.T), temperature).topk(most, dim=1)
            for hidden_CD in hidden_SD.split(CHUNK)
        ]
    return Top(torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts]))
