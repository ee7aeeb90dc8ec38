"""From hidden states to logprobs, block by block of the vocabulary: full logits are never held.

Axes: S supervised positions, V vocabulary, B tokens of one block of it, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from burnish.errors import ModelError
from burnish.models.place import wide

BLOCK = 1024  # tokens of the vocabulary whose logits exist at one time: 4 KB for each position


@dataclass(frozen=True)
class Projected:
    """Named streams of the supervised positions [S], each with a gradient; None where not asked for."""

    logp_S: Tensor
    entropy_S: Tensor | None = None


def project(
    hidden_SD: Tensor, head_VD: Tensor, targets_S: Tensor, temperature: float = 1.0, entropy: bool = False
) -> Projected:
    """log-softmax(hidden head^T / temperature) at the targets, and the distributions' entropy, in nats.

    The gradients are with respect to ``hidden_SD``; the head is frozen.

    Raises:
        ModelError: The head is trainable, which this path does not implement.
    """
    require_frozen(head_VD)
    logp_S, entropy_S = _Projection.apply(hidden_SD, head_VD, targets_S, temperature, entropy)
    return Projected(logp_S, entropy_S if entropy else None)


def require_frozen(head_VD: Tensor) -> None:
    """Refuse a head that is trained.

    Raises:
        ModelError: It is.
    """
    if head_VD.requires_grad:
        raise ModelError("the projection by parts needs a frozen output head")


class _Projection(torch.autograd.Function):
    """A softmax whose maximum and sum are mended with each block (Milakov and Gimelshein 2018, arXiv:1805.02867).

    Products of all positions with a block of the head are faster than those of a few positions with all of it, and a
    block stays in the cache. The gradient of a logprob is (head[target] - p head) / T, whatever comes from above scales
    it by row. So the forward adds that row up as it goes, and the backward needs no logits (as in Wijmans et al. 2024,
    arXiv:2411.09009). The entropy's gradient is rarely wanted: its logits are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_SD: Tensor, head_VD: Tensor, targets_S: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        zero_S1 = wide(hidden_SD.new_zeros(len(hidden_SD), 1))
        top_S1 = torch.full_like(zero_S1, torch.finfo(zero_S1.dtype).min)  # not -inf, which times 0 is no number
        mass_S1, spread_S1, own_S1 = zero_S1, zero_S1, zero_S1  # sums of e^x and e^x x below the top; x of the target
        rest_SD = zero_S1.new_zeros(hidden_SD.shape) if ctx.needs_input_grad[0] else None
        room_SB = zero_S1.new_empty(len(hidden_SD), BLOCK if entropy else 0)
        for start, block_BD, logits_SB in _blocks(hidden_SD, head_VD, temperature):
            place_S1 = (targets_S[:, None] - start).clamp(0, len(block_BD) - 1)
            inside_S1 = place_S1 == targets_S[:, None] - start
            own_S1 = torch.where(inside_S1, logits_SB.gather(1, place_S1), own_S1)
            higher_S1 = torch.maximum(top_S1, logits_SB.amax(1, keepdim=True))
            down_S1, top_S1 = top_S1 - higher_S1, higher_S1
            shrunk_S1 = down_S1.exp()
            below_SB = logits_SB.sub_(top_S1)
            share_SB = torch.exp(below_SB, out=room_SB[:, : len(block_BD)] if entropy else below_SB)
            if entropy:
                spread_S1 = (spread_S1 + down_S1 * mass_S1) * shrunk_S1
                spread_S1 += torch.linalg.vecdot(share_SB, below_SB)[:, None]
            mass_S1 = mass_S1 * shrunk_S1 + share_SB.sum(1, keepdim=True)
            if rest_SD is not None:
                # Without the target, whose share of 1 - p is added last: two near numbers would be rounded apart.
                share_SB.scatter_(1, place_S1, torch.where(inside_S1, 0.0, share_SB.gather(1, place_S1)))
                _add_product(rest_SD.mul_(shrunk_S1), share_SB, block_BD)
        log_mass_S1 = mass_S1.log()
        norm_S1 = top_S1 + log_mass_S1
        logp_S1, entropy_S1 = own_S1 - norm_S1, log_mass_S1 - spread_S1 / mass_S1
        if rest_SD is not None:
            rest_SD.div_(mass_S1).addcmul_(head_VD[targets_S].to(rest_SD.dtype), torch.expm1(logp_S1))
            rest_SD.div_(-temperature)
        ctx.temperature = temperature
        ctx.save_for_backward(rest_SD, hidden_SD, head_VD, norm_S1, entropy_S1)
        ctx.set_materialize_grads(False)
        return logp_S1[:, 0], entropy_S1[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logp_grad_S: Tensor | None, entropy_grad_S: Tensor | None) -> tuple[Any, ...]:
        slope_SD, hidden_SD, head_VD, norm_S1, entropy_S1 = ctx.saved_tensors
        grad_SD = torch.zeros_like(slope_SD) if logp_grad_S is None else slope_SD * logp_grad_S[:, None]
        if entropy_grad_S is not None and entropy_grad_S.any():
            scale_S1 = entropy_grad_S[:, None] / ctx.temperature
            for _, block_BD, logits_SB in _blocks(hidden_SD, head_VD, ctx.temperature):
                logp_SB = logits_SB.sub_(norm_S1)
                _add_product(grad_SD, -logp_SB.exp() * (logp_SB + entropy_S1) * scale_S1, block_BD)
        return grad_SD.to(hidden_SD.dtype), None, None, None, None


def _blocks(hidden_SD: Tensor, head_VD: Tensor, temperature: float) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each block of the vocabulary: its first token, its rows of the head [B, D], and logits / temperature [S, B].

    The logits lie where those of the block before lay: new memory for each would cost a fifth of the time.
    """
    room_SB = hidden_SD.new_empty(len(hidden_SD), min(BLOCK, len(head_VD)))
    for start in range(0, len(head_VD), BLOCK):
        block_BD = head_VD[start : start + BLOCK]
        logits_SB = wide(torch.mm(hidden_SD, block_BD.T, out=room_SB[:, : len(block_BD)]))
        yield start, block_BD, logits_SB if temperature == 1.0 else logits_SB.div_(temperature)


def _add_product(sum_SD: Tensor, factor_SB: Tensor, block_BD: Tensor) -> None:
    if sum_SD.dtype == block_BD.dtype:
        sum_SD.addmm_(factor_SB, block_BD)
    else:  # bfloat16: its products are added up in float32
        sum_SD += factor_SB.to(block_BD.dtype) @ block_BD
