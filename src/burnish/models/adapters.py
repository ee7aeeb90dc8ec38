"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): y = W x + scale B A x, with W frozen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.freezing import Where

Method = Literal["lora", "rslora", "dora"]


@dataclass(frozen=True)
class Lora(Where):
    """An adapter on linear layers: on those that ``layers``, ``targets`` and ``freeze`` leave.

    ``method`` "rslora" divides alpha by the root of the rank (Kalajdzievski 2023, arXiv:2312.03732), "dora" learns each
    output's magnitude apart from its direction (see ``DoraLinear``). ``alpha`` None is 2 rank.
    """

    rank: int = 16
    alpha: float | None = None
    method: Method = "lora"

    @property
    def scale(self) -> float:
        """What the product B A is multiplied with: alpha / rank, or alpha / sqrt(rank) for rslora."""
        divisor = math.sqrt(self.rank) if self.method == "rslora" else self.rank
        return self.numerator / divisor

    @property
    def numerator(self) -> float:
        """alpha, as given or by default."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


class LoraLinear(nn.Module):
    """A linear layer with an adapter; ``weight`` and ``bias`` are the frozen base's own tensors."""

    def __init__(self, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scale: float, trainable: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = base.weight, base.bias, scale
        self.lora_A = nn.Parameter(lora_A, requires_grad=trainable)
        self.lora_B = nn.Parameter(lora_B, requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(x, self.weight, self.bias)
        low = F.linear(x, self.lora_A).flatten(0, -2)
        return base.flatten(0, -2).addmm(low, self.lora_B.T, alpha=self.scale).view_as(base)

    @torch.no_grad()
    def plain(self, merge: bool) -> nn.Linear:
        """The linear layer without the adapter, or with it folded in."""
        linear = nn.Linear(self.weight.shape[1], self.weight.shape[0], self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        if merge:
            linear.weight = nn.Parameter(self.folded(), requires_grad=False)
        return linear

    def folded(self) -> Tensor:
        """The weight that the layer multiplies with: W + scale B A."""
        return self.weight + self.scale * (self.lora_B @ self.lora_A)


def adapted(module: nn.Module) -> dict[str, LoraLinear]:
    """The layers that carry an adapter, by name, in sorted order."""
    return {name: m for name, m in sorted(module.named_modules()) if isinstance(m, LoraLinear)}


def adapter_parameters(module: nn.Module) -> list[str]:
    """The names of the adapter's tensors: not those of the weights that it stands beside."""
    layers = adapted(module).items()
    return [
        f"{name}.{part}" for name, layer in layers for part, _ in layer.named_parameters() if part.startswith("lora_")
    ]


def detach(module: nn.Module, merge: bool) -> None:
    """Take the adapter away, folding it into copies of the weights where ``merge``."""
    for name, layer in adapted(module).items():
        module.set_submodule(name, layer.plain(merge))


def continued(own: Lora, asked: Lora) -> Lora:
    """The adapter ``own`` trained further where ``asked`` says.

    Raises:
        ModelError: They are not of one method, rank and scale: a stage goes on with the adapter that is there.
    """
    for key, found, wanted in (
        ("method", own.method, asked.method),
        ("rank", own.rank, asked.rank),
        ("alpha", own.numerator, asked.numerator),
    ):
        if found != wanted:
            what = f"adapt.{key} is {wanted}, and the adapter that is continued has {key} {found}"
            raise ModelError(what, where=f"adapt.{key}", mend=f"write {key} = {json.dumps(found)}")
    return replace(own, layers=asked.layers, targets=asked.targets, freeze=asked.freeze)
