"""Adapters on a model's linear layers: new ones, and given ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.adapters import Lora, LoraLinear
from burnish.models.dora import DoraLinear
from burnish.models.freezing import choose, layer_of

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def places(module: nn.Module, lora: Lora) -> dict[str, nn.Linear]:
    """The trunk's linear layers that a new adapter goes on, by name in sorted order.

    Raises:
        ModelError: No linear layer is chosen (see ``freezing.choose``), or one is smaller than the rank.
    """
    linears = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and layer_of(name) is not None
        if lora.targets != "all" or name.rpartition(".")[2] in TARGETS
    }
    if not linears:
        raise ModelError("no layer of the model can be adapted", where="adapt.targets", mend=f"all is {TARGETS}")
    chosen = {name: linears[name] for name in choose(linears, lora, module)}
    for name, linear in chosen.items():
        if lora.rank > min(linear.in_features, linear.out_features):
            what = f"rank {lora.rank} is larger than {name}, which is {linear.out_features} x {linear.in_features}"
            raise ModelError(what, where="adapt.rank", mend='lower the rank, or train the weights: method = "full"')
    return chosen


def attach(module: nn.Module, lora: Lora, seed: int) -> None:
    """Put a new adapter on the linear layers of ``places``: A uniform as nn.Linear starts, B zero.

    Raises:
        ModelError: There is no such layer, or one is smaller than the rank.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, linear in places(module, lora).items():
        bound = 1 / math.sqrt(linear.in_features)
        lora_A = torch.empty(lora.rank, linear.in_features).uniform_(-bound, bound, generator=generator)
        lora_B = torch.zeros(linear.out_features, lora.rank)
        put(module, name, lora_A, lora_B, lora.scale, dora=lora.method == "dora")


def put(
    module: nn.Module,
    name: str,
    lora_A: Tensor,
    lora_B: Tensor,
    scale: float,
    dora: bool,
    magnitude: Tensor | None = None,
) -> None:
    """Replace a linear layer by an adapted one, frozen; ``magnitude`` is DoRA's, None: as it starts."""
    base = module.get_submodule(name)
    assert isinstance(base, nn.Linear)
    lora_A, lora_B = lora_A.to(base.weight.device), lora_B.to(base.weight.device)
    magnitude = None if magnitude is None else magnitude.to(base.weight.device)
    adapted = (
        DoraLinear(base, lora_A, lora_B, scale, False, magnitude)
        if dora
        else LoraLinear(base, lora_A, lora_B, scale, False)
    )
    module.set_submodule(name, adapted)
