"""Where a base comes from and what identifies it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, what: str, done: int, total: int, note: str = "") -> None: ...


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "project" / "base")


def test_a_local_folder(folder, tmp_path, monkeypatch):
    base = resolve_base(str(folder), tmp_path / "cache")
    assert (base.folder, base.parameters) == (folder, 92864)
    assert len(base.digest) == 64
    assert resolve_base("base", tmp_path / "cache", relative_to=folder.parent) == type(base)(
        "base", folder, base.digest, base.parameters
    )
    monkeypatch.chdir(folder.parent)
    assert resolve_base("base", tmp_path / "cache").digest == base.digest


def test_the_digest_follows_weights_and_configuration(folder, tmp_path):
    def digest() -> str:
        return resolve_base(str(folder), tmp_path / "cache").digest

    before = digest()
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = digest()
    assert changed != before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "0.0"}, indent=1))
    assert digest() == changed  # which library wrote it is not what it is
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert digest() != changed


def test_the_digest_is_measured_once(folder, tmp_path, monkeypatch):
    before = resolve_base(str(folder), tmp_path / "cache")
    (memory,) = (tmp_path / "cache" / "bases").iterdir()
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps(known | {"parameters": 7}))
    assert resolve_base(str(folder), tmp_path / "cache").parameters == 7
    memory.write_text("broken")
    assert resolve_base(str(folder), tmp_path / "cache") == before


def test_pickled_weights_are_refused(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        resolve_base(str(folder), tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_something_is_refused(folder, tmp_path, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=r"has no (config|tokenizer|\*)"):
        resolve_base(str(folder), tmp_path)


def test_broken_files_are_refused(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelError, match="not a safetensors file"):
        resolve_base(str(folder), tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))
    base = resolve_base(str(folder), tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        LanguageModel.load(base)


@pytest.mark.parametrize("name", ["./nowhere", "someone/unheard-of", "../up", "a b"])
def test_a_base_that_is_not_there_names_the_three_ways(name, tmp_path):
    with pytest.raises(ModelError, match=r"a local folder with safetensors, package:NAME .*, or a hub name"):
        resolve_base(name, tmp_path)


def test_packages(tmp_path):
    with pytest.raises(ModelError, match="package unheard-of is not installed"):
        resolve_base("package:unheard-of", tmp_path)
    with pytest.raises(ModelError, match="package numpy holds 0 GGUF models"):
        resolve_base("package:numpy", tmp_path)


def test_hub_cache(folder, tmp_path, monkeypatch):
    """A snapshot in the hub's cache is found without a network."""
    import huggingface_hub.constants

    hub = tmp_path / "hub"
    snapshot = hub / "models--someone--something" / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    refs = hub / "models--someone--something" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    base = resolve_base("someone/something", tmp_path / "cache")
    assert base.name == "someone/something"
    assert base.digest == resolve_base(str(folder), tmp_path / "cache").digest
    assert torch.is_tensor(LanguageModel.load(base).head)
