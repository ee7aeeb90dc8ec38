"""A checkpoint is whole or absent, and says when it was changed."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from burnish.errors import TrainingError
from burnish.training import checkpoint
from burnish.training.checkpoint import Checkpoint


def made(step: int) -> Checkpoint:
    value = torch.full((3, 2), float(step))
    return Checkpoint(step, {"a": value}, {"a/exp_avg": value + 1, "a/step": torch.tensor(2.0)}, {"note": "x"})


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, made(3))
    checkpoint.save(tmp_path, made(7))
    found = checkpoint.load(tmp_path)
    assert found is not None and found.step == 7 and found.state == {"note": "x"}
    assert torch.equal(found.tensors["a"], torch.full((3, 2), 7.0))
    assert torch.equal(found.optimizer["a/exp_avg"], torch.full((3, 2), 8.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint"]


@pytest.mark.parametrize("name", [*checkpoint.FILES, checkpoint.MANIFEST])
def test_a_flipped_byte_is_seen_wherever_it_is(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, made(3))
    path = tmp_path / "checkpoint" / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(TrainingError, match="is not what was written"):
            checkpoint.load(tmp_path)
    path.write_bytes(whole)
    assert checkpoint.load(tmp_path) is not None


@pytest.mark.parametrize("name", checkpoint.FILES)
def test_a_missing_file_is_seen(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, made(3))
    (tmp_path / "checkpoint" / name).unlink()
    with pytest.raises(TrainingError, match=f"{name} is not what was written"):
        checkpoint.load(tmp_path)


def test_the_old_one_serves_when_the_new_one_was_cut_off(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, made(3))
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new" / "tensors.safetensors").write_bytes(b"half")
    found = checkpoint.load(tmp_path)
    assert found is not None and found.step == 3
    # killed between the two renames
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    found = checkpoint.load(tmp_path)
    assert found is not None and found.step == 3


def test_a_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, made(3))
    code = f"""
import resource, signal, torch
from pathlib import Path
from burnish.errors import TrainingError
from burnish.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
big = torch.zeros(100_000)
try:
    checkpoint.save(Path({str(tmp_path)!r}), checkpoint.Checkpoint(9, {{"a": big}}, {{}}, {{}}))
except TrainingError as error:
    assert "could not be written" in str(error) and "disk space" in str(error), error
    raise SystemExit(0)
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = checkpoint.load(tmp_path)
    assert found is not None and found.step == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000
