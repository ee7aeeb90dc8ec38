"""Checkpoints: safetensors and JSON, whole or not at all; the old one goes only after the new one is verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from burnish.errors import TrainingError

MANIFEST = "manifest.json"
NAME = "checkpoint"
FILES = ("tensors.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: the update to do next, the trainable tensors, the optimizer's, and plain state."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``folder/checkpoint`` atomically.

    The files are written beside, synced, hashed back from disk, and only then take the old one's place, so that a crash
    at any moment leaves one whole checkpoint.

    Raises:
        TrainingError: The disk is full or a file does not read back as written.
    """
    fresh, place, old = folder / f"{NAME}.new", folder / NAME, folder / f"{NAME}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        save_file(_contiguous(checkpoint.tensors), fresh / "tensors.safetensors")
        save_file(_contiguous(checkpoint.optimizer), fresh / "optimizer.safetensors")
        (fresh / "state.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.state}))
        (fresh / MANIFEST).write_text(json.dumps({name: _digest(fresh / name) for name in FILES}))
        for name in (*FILES, MANIFEST):
            _sync(fresh / name)
        _sync(fresh)
        _verified(fresh)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingError(
            f"the checkpoint of update {checkpoint.step} could not be written: {error}",
            where=str(folder),
            mend="free some disk space and run again: training goes on from the last whole checkpoint",
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    _sync(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Checkpoint | None:
    """The last whole checkpoint of ``folder``, or None where there is none.

    Raises:
        TrainingError: A file of it was changed or taken away after it was written.
    """
    place = _place(folder)
    if place is None:
        return None
    _verified(place)
    state = json.loads((place / "state.json").read_text())
    step = state.pop("step")
    return Checkpoint(step, load_file(place / "tensors.safetensors"), load_file(place / "optimizer.safetensors"), state)


def kept(folder: Path) -> int | None:
    """How many updates the last whole checkpoint of ``folder`` holds, its tensors unread; None: there is none."""
    place = _place(folder)
    return None if place is None else int(json.loads((place / "state.json").read_text())["step"])


def _place(folder: Path) -> Path | None:
    return next((p for p in (folder / NAME, folder / f"{NAME}.old") if (p / MANIFEST).exists()), None)


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _verified(place: Path) -> None:
    """Every file is there and is what the manifest says, and the manifest names them all."""
    mend = f"remove {place} to train this stage anew"
    try:
        digests = json.loads((place / MANIFEST).read_text())
        named = set(digests) == set(FILES)
    except (OSError, ValueError, TypeError):
        named = False
    if not named:
        raise TrainingError(f"{MANIFEST} is not what was written", where=str(place), mend=mend)
    for name in FILES:
        if not (place / name).is_file() or _digest(place / name) != digests[name]:
            raise TrainingError(f"{name} is not what was written", where=str(place), mend=mend)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
