"""From hidden states to logprobs, without ever holding the logits of all positions.

Axes: S supervised positions, C positions of one chunk, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from burnish.errors import ModelError
from burnish.models.place import wide
from burnish.models.teacher import Teacher, log_softmax

CHUNK = 128  # positions whose logits exist at one time: 25 MB for a vocabulary of 49,152


@dataclass(frozen=True)
class Projected:
    """Named streams of the supervised positions [S], each with a gradient; None where not asked for."""

    logp_S: Tensor
    entropy_S: Tensor | None = None
    teacher_kl_S: Tensor | None = None


def project(
    hidden_SD: Tensor,
    head_VD: Tensor,
    targets_S: Tensor,
    temperature: float = 1.0,
    entropy: bool = False,
    teacher: Teacher | None = None,
) -> Projected:
    """log-softmax(hidden head^T / temperature) at the targets, the distributions' entropy, and a teacher's KL.

    In nats. The KL is forward, KL(teacher || student), both at the teacher's own temperature; a caller who wants the
    gradient's size to stay the same at a higher one multiplies by its square (Hinton et al. 2015, arXiv:1503.02531).
    The gradients are with respect to ``hidden_SD``; the head is frozen.

    Raises:
        ModelError: The head is trainable, which this path does not implement.
    """
    if head_VD.requires_grad:
        raise ModelError("the chunked projection needs a frozen output head")
    logp_S, entropy_S, teacher_kl_S = _Projection.apply(hidden_SD, head_VD, targets_S, temperature, entropy, teacher)
    return Projected(logp_S, entropy_S if entropy else None, None if teacher is None else teacher_kl_S)


class _Projection(torch.autograd.Function):
    """The gradient of a logprob is (head[target] - p head) / T, whatever comes from above scales it by row.

    So the forward keeps that row and the backward needs no logits; the same goes for the teacher's KL, whose row is
    (p - q) head / T. The entropy's gradient is rarely wanted: its logits are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SD: Tensor,
        head_VD: Tensor,
        targets_S: Tensor,
        temperature: float,
        entropy: bool,
        teacher: Teacher | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        slope_SD = torch.empty_like(hidden_SD) if ctx.needs_input_grad[0] else None
        kl_slope_SD = None if teacher is None or slope_SD is None else torch.empty_like(hidden_SD)
        logp_S = wide(hidden_SD.new_empty(len(hidden_SD)))
        entropy_S = logp_S.new_empty(len(hidden_SD) if entropy else 0)
        teacher_kl_S = logp_S.new_empty(len(hidden_SD) if teacher is not None else 0)
        for start in range(0, len(hidden_SD), CHUNK):
            part = slice(start, start + CHUNK)
            logits_CV = wide(hidden_SD[part] @ head_VD.T)
            if teacher is not None:
                teacher_kl_S[part], gap_CV = teacher.compare(part, log_softmax(logits_CV.clone(), teacher.temperature))
                if kl_slope_SD is not None:
                    torch.mm(gap_CV.to(head_VD.dtype), head_VD, out=kl_slope_SD[part])
            logp_CV = log_softmax(logits_CV, temperature)
            logp_S[part] = logp_CV.gather(1, targets_S[part, None])[:, 0]
            if entropy:
                entropy_S[part] = -(logp_CV.exp() * logp_CV).sum(1)
            if slope_SD is not None:
                # 1 - p of the target before the product: after it, bfloat16 would have rounded two near numbers.
                p_CV = logp_CV.exp_().scatter_(1, targets_S[part, None], torch.expm1(logp_S[part, None]))
                torch.mm(p_CV.to(head_VD.dtype), head_VD, out=slope_SD[part])
        if slope_SD is not None:
            slope_SD.div_(-temperature)
        if kl_slope_SD is not None and teacher is not None:
            kl_slope_SD.div_(teacher.temperature)
        ctx.temperature, ctx.entropy = temperature, entropy
        ctx.save_for_backward(slope_SD, kl_slope_SD, hidden_SD, head_VD, entropy_S)
        ctx.set_materialize_grads(False)
        return logp_S, entropy_S, teacher_kl_S

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, logp_grad_S: Tensor | None, entropy_grad_S: Tensor | None, kl_grad_S: Tensor | None
    ) -> tuple[Any, ...]:
        slope_SD, kl_slope_SD, hidden_SD, head_VD, entropy_S = ctx.saved_tensors
        if logp_grad_S is None:
            grad_SD = entropy_S.new_zeros(hidden_SD.shape)
        else:
            grad_SD = slope_SD * logp_grad_S[:, None]
        if kl_slope_SD is not None and kl_grad_S is not None:
            grad_SD.addcmul_(kl_slope_SD, kl_grad_S[:, None])
        if ctx.entropy and entropy_grad_S is not None and entropy_grad_S.any():
            for start in range(0, len(hidden_SD), CHUNK):
                part = slice(start, start + CHUNK)
                logp_CV = log_softmax(wide(hidden_SD[part] @ head_VD.T), ctx.temperature)
                slope_CV = -logp_CV.exp() * (logp_CV + entropy_S[part, None])
                slope_CV *= entropy_grad_S[part, None] / ctx.temperature
                grad_SD[part] += slope_CV.to(head_VD.dtype) @ head_VD
        return grad_SD.to(hidden_SD.dtype), None, None, None, None, None
