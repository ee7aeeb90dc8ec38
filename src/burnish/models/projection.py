"""From hidden states to logprobs, without ever holding the logits of all positions.

Axes: S supervised positions, V vocabulary, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from burnish.errors import ModelError

CHUNK = 256  # positions whose logits exist at one time: 50 MB for a vocabulary of 49,152


def target_logp(
    hidden_SD: Tensor, head_VD: Tensor, targets_S: Tensor, temperature: float = 1.0, entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """log-softmax(hidden head^T / temperature) at the targets [S], and the distributions' entropy [S] in
    nats.

    Both have gradients with respect to ``hidden_SD``; the head is frozen.

    Raises:
        ModelError: The head is trainable, which this path does not implement.
    """
    if head_VD.requires_grad:
        raise ModelError("the chunked projection needs a frozen output head")
    logp_S, entropy_S = _TargetLogp.apply(hidden_SD, head_VD, targets_S, temperature, entropy)
    return logp_S, entropy_S if entropy else None


class _TargetLogp(torch.autograd.Function):
    """The gradient of a logprob is (head[target] - p head) / T, whatever comes from above scales it by row.

    So the forward keeps that row and the backward needs no logits. The entropy's gradient is rarely wanted:
    its logits are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_SD: Tensor, head_VD: Tensor, targets_S: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        slope_SD = torch.empty_like(hidden_SD) if ctx.needs_input_grad[0] else None
        logp_S = hidden_SD.new_empty(len(hidden_SD))
        entropy_S = hidden_SD.new_empty(len(hidden_SD) if entropy else 0)
        for start in range(0, len(hidden_SD), CHUNK):
            part = slice(start, start + CHUNK)
            logp_CV = _log_softmax(hidden_SD[part], head_VD, temperature)
            logp_S[part] = logp_CV.gather(1, targets_S[part, None])[:, 0]
            if entropy:
                entropy_S[part] = -(logp_CV.exp() * logp_CV).sum(1)
            if slope_SD is not None:
                torch.mm(logp_CV.exp_(), head_VD, out=slope_SD[part])
        if slope_SD is not None:
            slope_SD = (head_VD[targets_S] - slope_SD).div_(temperature)
        ctx.temperature, ctx.entropy = temperature, entropy
        ctx.save_for_backward(slope_SD, hidden_SD, head_VD, entropy_S)
        ctx.set_materialize_grads(False)
        return logp_S, entropy_S

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logp_grad_S: Tensor | None, entropy_grad_S: Tensor | None) -> tuple[Any, ...]:
        slope_SD, hidden_SD, head_VD, entropy_S = ctx.saved_tensors
        grad_SD = torch.zeros_like(hidden_SD) if logp_grad_S is None else slope_SD * logp_grad_S[:, None]
        if ctx.entropy and entropy_grad_S is not None and entropy_grad_S.any():
            for start in range(0, len(hidden_SD), CHUNK):
                part = slice(start, start + CHUNK)
                logp_CV = _log_softmax(hidden_SD[part], head_VD, ctx.temperature)
                slope_CV = -logp_CV.exp() * (logp_CV + entropy_S[part, None])
                slope_CV *= entropy_grad_S[part, None] / ctx.temperature
                grad_SD[part] += slope_CV @ head_VD
        return grad_SD, None, None, None, None


def _log_softmax(hidden_CD: Tensor, head_VD: Tensor, temperature: float) -> Tensor:
    logits_CV = hidden_CD @ head_VD.T
    if temperature != 1.0:
        logits_CV /= temperature
    return logits_CV.sub_(logits_CV.logsumexp(1, keepdim=True))
