"""What a decoder layer does between its products: norms, attention and the gate, compiled or by torch's operators.

Torch's are the twin of the compiled ones, and run where there is no kernel or where it cannot take a model's widths.
Axes: T tokens of the step, H query heads, K key heads, E width of a head, D width, F width of the gated product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.sampling.cache import Plan, attend, attend_written
from burnish.sampling.kernel import WIDTHS, Kernel, kernel


class Operators:
    """By torch's operators."""

    def norm(self, x: Tensor, norm: Any) -> Tensor:
        """An RMS norm of the last axis (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)

    def gate(self, x_TF: Tensor) -> Tensor:
        """silu(first half) times the second half of the last axis (Shazeer 2020, arXiv:2002.05202)."""
        gate, up = x_TF.chunk(2, -1)
        return F.silu(gate).mul_(up)

    def attend(
        self, layer: int, heads_THE: Tensor, keys: int, cos_T1E: Tensor, sin_T1E: Tensor, scale: float, plan: Plan
    ) -> Tensor:
        """Attention [T, H, E] over the slots of a layer, to which the step's keys and values are written.

        ``heads`` holds H queries, K keys and K values, and may be written to. ``sin`` has its first half negated: the
        halves of a head are swapped, not subtracted.
        """
        turned = heads_THE[:, :-keys]
        turned = torch.addcmul(turned * cos_T1E, turned.roll(turned.shape[-1] // 2, -1), sin_T1E)
        return attend(layer, turned[:, :-keys], turned[:, -keys:], heads_THE[:, -keys:], scale, plan)


class Compiled(Operators):
    """By the kernel."""

    def __init__(self, made: Kernel) -> None:
        self._kernel = made

    def norm(self, x: Tensor, norm: Any) -> Tensor:
        return self._kernel.norm(x, norm.weight, norm.variance_epsilon)

    def gate(self, x_TF: Tensor) -> Tensor:
        return self._kernel.gate(x_TF)

    def attend(
        self, layer: int, heads_THE: Tensor, keys: int, cos_T1E: Tensor, sin_T1E: Tensor, scale: float, plan: Plan
    ) -> Tensor:
        pair = plan.cache.room(layer, heads_THE[:, -2 * keys : -keys], heads_THE[:, -keys:])
        self._kernel.place(heads_THE, cos_T1E, sin_T1E, *pair, plan.slots_T, plan.positions_T)
        return attend_written(layer, heads_THE[:, : -2 * keys], scale, plan, self._rows)

    def _rows(self, query_RHE: Tensor, keys: Tensor, values: Tensor, scale: float, plan: Plan) -> Tensor:
        rows = len(query_RHE)
        return self._kernel.attend(query_RHE, keys, values, scale, plan.slots_T[:rows], plan.positions_T[:rows])


def ways(*widths: int) -> list[Operators]:
    """What could run a layer of these widths, the fastest first."""
    made = kernel()
    return [Operators()] if made is None or any(width % WIDTHS for width in widths) else [Compiled(made), Operators()]
