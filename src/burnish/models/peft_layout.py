"""Adapters as files, in PEFT's layout: other tools read ours, and theirs are read here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.adapters import Lora, adapted
from burnish.models.attaching import put
from burnish.models.base import Base
from burnish.models.dora import DoraLinear
from burnish.models.freezing import layer_of
from burnish.models.tensors import read, written

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Their names in the layout; ours are lora_A, lora_B and lora_magnitude_vector.
PARTS = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
# Settings of PEFT that leave the formulas of LoraLinear and DoraLinear as they are; any other that is set is refused,
# known or not.
HARMLESS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "rank_pattern", "layers_to_transform",
    "layers_pattern", "use_rslora", "use_dora", "bias", "init_lora_weights", "eva_config", "loftq_config",
    "corda_config", "lora_ga_config", "qalora_group_size", "megatron_core", "megatron_config",
}  # fmt: skip
# Initialisations that leave the base as it is; the others (PiSSA, OLoRA, CorDA, LoftQ) subtract from it.
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")


def adapter_files(module: nn.Module, lora: Lora, base: Base) -> dict[str, bytes]:
    """The adapter ``lora`` that ``module`` carries, with the digest of its base.

    Raises:
        ModelError: Its layers have several ranks or scales, or a weight is not finite.
    """
    layers = adapted(module)
    if len({(len(layer.lora_A), layer.scale) for layer in layers.values()}) != 1:
        raise ModelError("the adapter has several ranks or scales")
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B
        if isinstance(layer, DoraLinear):
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = layer.lora_magnitude_vector
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.name, "inference_mode": True,
        "r": lora.rank, "lora_alpha": lora.numerator, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": lora.method == "rslora", "use_dora": lora.method == "dora", "init_lora_weights": True,
        "fan_in_fan_out": False, "modules_to_save": None, **_places(module, list(layers)),
    }  # fmt: skip
    return {CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(), WEIGHTS: written(tensors, base)}


def load_adapter(module: nn.Module, files: Mapping[str, Path], base: Base) -> Lora:
    """Attach an adapter, made here or by another tool, frozen; returns what it is.

    Raises:
        ModelError: A file is missing or broken, the adapter asks for something that is not built (saved modules,
            biases, ...), it was made for another base, or a tensor does not fit this one.
    """
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            pickled = any(Path(file).suffix in (".bin", ".pth", ".pt") for file in files)
            mend = "pickled weights are never read: save it as safetensors" if pickled else None
            raise ModelError(f"the adapter has no {name}", mend=mend)
    where = str(files[CONFIG])
    try:
        config = json.loads(Path(files[CONFIG]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the adapter cannot be read: {error}", where=where) from error
    _require_known(config, where)
    alpha, dora, stabilised = config["lora_alpha"], bool(config.get("use_dora")), bool(config.get("use_rslora"))
    layers = _layers(read(files[WEIGHTS], base), dora, where)
    for name, parts in layers.items():
        lora_A, lora_B = parts["lora_A.weight"].float(), parts["lora_B.weight"].float()
        _require_fits(module, name, parts, base, f"{where}, made for {config.get('base_model_name_or_path')}")
        scale = alpha / (math.sqrt(len(lora_A)) if stabilised else len(lora_A))
        magnitude = parts["lora_magnitude_vector"].float() if dora else None
        put(module, name, lora_A, lora_B, scale, dora, magnitude)
    rank = len(next(iter(layers.values()))["lora_A.weight"])
    if dora:  # both at once have no name of their own here: the same scale, written as DoRA's
        return Lora(rank, alpha * math.sqrt(rank) if stabilised else alpha, "dora")
    return Lora(rank, alpha, "rslora" if stabilised else "lora")


def made_for(folder: Path) -> str | None:
    """The name of the base that a readable adapter says that it was made for, if it says."""
    named = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    return named if isinstance(named, str) and named else None


def _layers(tensors: Mapping[str, Tensor], dora: bool, where: str) -> dict[str, dict[str, Tensor]]:
    """The parts of each adapted layer, by the layer's name in sorted order."""
    wanted = PARTS if dora else PARTS[:2]
    pattern = re.compile(re.escape(PREFIX) + rf"(.+)\.({'|'.join(map(re.escape, wanted))})")
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if not match or layer_of(match[1]) is None:
            raise ModelError(f"the adapter holds {key}, which is no LoRA of a layer of the trunk", where=where)
        layers.setdefault(match[1], {})[match[2]] = tensor
    if not layers:
        raise ModelError("the adapter is empty", where=where)
    for name, parts in layers.items():
        if len(parts) != len(wanted):
            raise ModelError(f"{name} has only {', '.join(parts)} of {', '.join(wanted)}", where=where)
    return dict(sorted(layers.items()))


def _require_fits(module: nn.Module, name: str, parts: Mapping[str, Tensor], base: Base, where: str) -> None:
    linear = _linear(module, name)
    shape = tuple(linear.weight.shape) if linear else (None, None)
    made = {part: tuple(tensor.shape) for part, tensor in parts.items()}
    rank = made["lora_A.weight"][:1]
    fits = {"lora_A.weight": (*rank, shape[1]), "lora_B.weight": (shape[0], *rank), "lora_magnitude_vector": shape[:1]}
    if any(made[part] != fits[part] for part in made):
        sizes = " and ".join(map(str, made.values()))
        here = f"{shape} in the base {base.name} ({base.digest[:12]})" if linear else f"not in the base {base.name}"
        mend = "name the base that it was made for: base in the recipe, or --base"
        raise ModelError(f"{name} is {sizes} in the adapter and {here}", where=where, mend=mend)


def _require_known(config: Mapping[str, object], where: str) -> None:
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
    layers = sorted({layer_of(name) or 0 for name in names})
    depth = 1 + max(layer_of(name) or 0 for name, _ in module.named_modules())
    if len(names) != len(targets) * len(layers):
        return {"target_modules": sorted(names)}
    return {"target_modules": targets, "layers_to_transform": layers if len(layers) < depth else None}


def _linear(module: nn.Module, name: str) -> nn.Linear | None:
    try:
        found = module.get_submodule(name)
    except AttributeError:
        return None
    return found if isinstance(found, nn.Linear) else None
