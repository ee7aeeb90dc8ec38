"""Adapters of other tools at the command line: what fits comes in, what does not is refused with both shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from burnish.cli import main


def adapter(folder: Path, width: int, base: str) -> Path:
    """An adapter of rank 4 on one projection of a base that is ``width`` wide."""
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": torch.ones(4, width), f"{name}.lora_B.weight": torch.zeros(width, 4)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    return folder


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Where is it?", "completion": "On its way."}\n')
    path = tmp_path / "bot.toml"
    path.write_text(f'task = "chat"\nbase = "{tiny_model_folder}"\n\n[data]\ntrain = "rows.jsonl"\n')
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return path


@pytest.mark.parametrize(
    ("width", "base", "code", "said"),
    [
        (64, "BASE", 0, "bot@1 is a version now; a recipe goes on from it where it is the base"),
        (64, "other/model", 0, 'says that it was made for "other/model", and this base is'),
        (
            32,
            "other/model",
            2,
            "made for other/model: model.layers.0.self_attn.q_proj is (4, 32) and (32, 4) in the adapter",
        ),
    ],
)
def test_an_adapter_of_another_tool(
    recipe: Path,
    tiny_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    width: int,
    base: str,
    code: int,
    said: str,
) -> None:
    folder = adapter(recipe.parent / "theirs", width, base.replace("BASE", tiny_model_folder.name))
    with pytest.raises(SystemExit) as leaving:
        main(["models", "import", str(folder), "--recipe", str(recipe)])
    out, err = capsys.readouterr()
    assert leaving.value.code == code and said in out + err
    assert ("was made for" in err) == (base == "other/model")
    assert ("or --base" in err) == (code == 2)
