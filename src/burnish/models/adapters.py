"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): y = W x + scale B A x, with W frozen.

Saved in PEFT's layout, so that other tools read them, and read from it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from burnish.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LAYER = re.compile(r"\.layers\.(\d+)\.")
# Settings of PEFT that leave the sum W x + scale B A x as it is; any other that is set is refused, known or not.
HARMLESS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "rank_pattern", "layers_to_transform",
    "layers_pattern", "use_rslora", "bias", "init_lora_weights", "eva_config", "loftq_config", "corda_config",
    "lora_ga_config", "qalora_group_size", "megatron_core", "megatron_config",
}  # fmt: skip
# Initialisations that leave the base as it is; the others (PiSSA, OLoRA, CorDA, LoftQ) subtract from it.
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Lora:
    """A new adapter on every linear layer of the last ``layers`` layers; ``alpha`` None is 2 rank."""

    rank: int = 16
    alpha: float | None = None
    layers: int | Literal["all"] = "all"

    @property
    def scale(self) -> float:
        """What the product B A is multiplied with: alpha / rank."""
        return (2 * self.rank if self.alpha is None else self.alpha) / self.rank


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
            folded = self.weight + self.scale * (self.lora_B @ self.lora_A)
            linear.weight = nn.Parameter(folded, requires_grad=False)
        return linear


def attach(module: nn.Module, lora: Lora, seed: int, trainable: bool = True) -> None:
    """Put a new adapter on the trunk's linear layers: A uniform as nn.Linear starts, B zero.

    Raises:
        ModelError: The module has no layer of these names, or fewer layers than asked for.
    """
    found = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] in TARGETS and LAYER.search(name)
    }
    depth = 1 + max((layer_of(name) for name in found), default=-1)
    if not depth or (lora.layers != "all" and not 1 <= lora.layers <= depth):
        raise ModelError(f"cannot adapt {lora.layers} of {depth} layers", mend=f"adapter layers are {TARGETS}")
    generator = torch.Generator().manual_seed(seed)
    first = 0 if lora.layers == "all" else depth - lora.layers
    for name, linear in sorted(found.items()):
        if layer_of(name) >= first:
            bound = 1 / math.sqrt(linear.in_features)
            lora_A = torch.empty(lora.rank, linear.in_features).uniform_(-bound, bound, generator=generator)
            lora_B = torch.zeros(linear.out_features, lora.rank)
            module.set_submodule(name, LoraLinear(linear, lora_A, lora_B, lora.scale, trainable))


def adapted(module: nn.Module) -> dict[str, LoraLinear]:
    """The layers that carry an adapter, by name, in sorted order."""
    return {name: m for name, m in sorted(module.named_modules()) if isinstance(m, LoraLinear)}


def detach(module: nn.Module, merge: bool) -> None:
    """Take the adapter away, folding it into copies of the weights where ``merge``."""
    for name, layer in adapted(module).items():
        module.set_submodule(name, layer.plain(merge))


def adapter_files(module: nn.Module, base_name: str) -> dict[str, bytes]:
    """The adapter in PEFT's layout.

    Raises:
        ModelError: There is no adapter, its layers have several scales, or a weight is not finite.
    """
    layers = adapted(module)
    ranks = {len(layer.lora_A) for layer in layers.values()}
    scales = {layer.scale for layer in layers.values()}
    if len(ranks) != 1 or len(scales) != 1:
        raise ModelError("there is no adapter to save" if not layers else "the adapter has several ranks or scales")
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach().contiguous()
    broken = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if broken:
        raise ModelError(f"{broken} is not finite", mend="the training that made it diverged: lower its learning rate")
    rank = ranks.pop()
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "inference_mode":
        True, "r": rank, "lora_alpha": scales.pop() * rank, "lora_dropout": 0.0, "bias": "none", "use_rslora":
        False, "init_lora_weights": True, "fan_in_fan_out": False, "modules_to_save": None, **_places(module,
        list(layers)),
    }  # fmt: skip
    return {CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(), WEIGHTS: save(tensors)}


def load_adapter(module: nn.Module, files: Mapping[str, Path], trainable: bool = False) -> None:
    """Attach an adapter in PEFT's layout, made here or by another tool.

    Raises:
        ModelError: A file is missing or broken, the adapter asks for something that is not built (DoRA, saved
            modules, biases, ...), or a tensor does not fit the base.
    """
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            pickled = any(Path(file).suffix in (".bin", ".pth", ".pt") for file in files)
            mend = "pickled weights are never read: save it as safetensors" if pickled else None
            raise ModelError(f"the adapter has no {name}", mend=mend)
    where = str(files[CONFIG])
    try:
        config = json.loads(Path(files[CONFIG]).read_text(encoding="utf-8"))
        tensors = load_file(files[WEIGHTS])
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the adapter cannot be read: {error}", where=where) from error
    _require_plain(config, where)
    for name, (lora_A, lora_B) in _pairs(tensors, where).items():
        linear = _submodule(module, name)
        shape = tuple(linear.weight.shape) if linear else None
        if linear is None or shape != (len(lora_B), lora_A.shape[1]) or len(lora_A) != lora_B.shape[1]:
            made = f"{tuple(lora_B.shape)} x {tuple(lora_A.shape)}"
            raise ModelError(f"{name} is {made} in the adapter and {shape} in the base", where=where)
        rank = len(lora_A)
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        module.set_submodule(name, LoraLinear(linear, lora_A.float(), lora_B.float(), scale, trainable))


def _pairs(tensors: Mapping[str, Tensor], where: str) -> dict[str, tuple[Tensor, Tensor]]:
    pattern = re.compile(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight")
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if not match or not LAYER.search(match[1]):
            raise ModelError(f"the adapter holds {key}, which is no LoRA of a layer of the trunk", where=where)
        if not tensor.isfinite().all():
            raise ModelError(f"{key} is not finite", where=where)
        halves.setdefault(match[1], {})[match[2]] = tensor
    lame = next((name for name, pair in halves.items() if len(pair) != 2), None)
    if lame or not halves:
        raise ModelError(f"{lame} has only one of lora_A and lora_B" if lame else "the adapter is empty", where=where)
    return {name: (pair["A"], pair["B"]) for name, pair in sorted(halves.items())}


def _require_plain(config: Mapping[str, object], where: str) -> None:
    if config.get("peft_type") != "LORA" or not isinstance(config.get("lora_alpha"), int | float):
        raise ModelError(f"an adapter of type {config.get('peft_type')} is not supported", where=where)
    asked = [name for name in config if config[name] and name not in HARMLESS]
    asked += [] if config.get("bias", "none") == "none" else ["bias"]
    asked += [] if config.get("init_lora_weights", True) in PLAIN_STARTS else ["init_lora_weights"]
    if asked:
        values = ", ".join(f"{name} = {config[name]!r}" for name in asked)
        raise ModelError(f"the adapter uses {values}, which is not supported", where=where)


def _places(module: nn.Module, names: list[str]) -> dict[str, object]:
    """``target_modules`` and ``layers_to_transform`` that name exactly these layers."""
    targets = sorted({name.rpartition(".")[2] for name in names})
    layers = sorted({layer_of(name) for name in names})
    depth = 1 + max(layer_of(name) for name, _ in module.named_modules() if LAYER.search(name + "."))
    if len(names) != len(targets) * len(layers):
        return {"target_modules": sorted(names)}
    return {"target_modules": targets, "layers_to_transform": layers if len(layers) < depth else None}


def layer_of(name: str) -> int:
    """Which layer of the trunk a module or tensor of this name belongs to."""
    match = LAYER.search(name + ".")
    assert match
    return int(match[1])


def _submodule(module: nn.Module, name: str) -> nn.Linear | None:
    try:
        found = module.get_submodule(name)
    except AttributeError:
        return None
    return found if isinstance(found, nn.Linear) else None
