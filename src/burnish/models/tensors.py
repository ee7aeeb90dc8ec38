"""Tensors in files: safetensors that name the base that they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from burnish.errors import ModelError
from burnish.models.base import Base


def written(tensors: Mapping[str, Tensor], base: Base) -> bytes:
    """The tensors as safetensors, with the digest of the base that they belong to.

    Raises:
        ModelError: One of them is not finite.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    broken = next((name for name, tensor in whole.items() if not tensor.isfinite().all()), None)
    if broken:
        raise ModelError(f"{broken} is not finite", mend="the training that made it diverged: lower its learning rate")
    # One entry: several are written in an order that changes, and with it the hash of the file.
    return save(whole, metadata={"base": f"{base.digest} {base.name}"})


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        ModelError: It is not safetensors, was made for another base, or a tensor is not finite.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the weights cannot be read: {error}", where=str(path)) from error
    digest, _, name = about.get("base", base.digest).partition(" ")  # other tools write none
    if digest != base.digest:
        made = f"the base {name} ({digest[:12]})"
        what = f"the weights were made for {made}, and this base is {base.name} ({base.digest[:12]})"
        raise ModelError(what, where=str(path), mend="name the base that they were made for")
    broken = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if broken:
        raise ModelError(f"{broken} is not finite", where=str(path))
    return tensors
