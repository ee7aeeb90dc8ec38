"""A model's own weights in place of its base's: what full fine-tuning trains, saves and loads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models import tensors
from burnish.models.base import Base
from burnish.models.freezing import EMBEDDINGS

FILE = "own_weights.safetensors"


def candidates(module: nn.Module) -> list[str]:
    """The tensors that full fine-tuning can train: all but embeddings and head."""
    return [name for name, _ in module.named_parameters() if not set(name.split(".")) & set(EMBEDDINGS)]


def weight_files(module: nn.Module, names: Collection[str], base: Base) -> dict[str, bytes]:
    """The tensors ``names`` of the module. Raises ModelError where one is not finite."""
    parameters = dict(module.named_parameters())
    return {FILE: tensors.written({name: parameters[name] for name in sorted(names)}, base)}


def load_weights(module: nn.Module, files: Mapping[str, Path], base: Base) -> frozenset[str]:
    """Put saved tensors in place of the module's own, frozen; returns their names.

    Raises:
        ModelError: The file is broken, was made for another base, or a tensor does not fit this one.
    """
    found = tensors.read(files[FILE], base)
    here = dict(module.named_parameters())
    for name, tensor in found.items():
        shape = tuple(here[name].shape) if name in candidates(module) else None
        if tuple(tensor.shape) != shape:
            what = f"{name} is {tuple(tensor.shape)} in the version and {shape} in the base {base.name}"
            raise ModelError(what, where=str(files[FILE]))
        _put(module, name, tensor.to(here[name].device, torch.float32))  # what was trained stays as exact as it was
    return frozenset(found)


def recast(module: nn.Module, names: Iterable[str], dtype: torch.dtype) -> None:
    """Give the module copies in ``dtype`` of those tensors that are in another; who shares them keeps the old."""
    here = dict(module.named_parameters())
    for name in names:
        if here[name].dtype != dtype:
            _put(module, name, here[name].detach().to(dtype))


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    place, _, last = name.rpartition(".")
    setattr(module.get_submodule(place), last, nn.Parameter(tensor, requires_grad=False))
