"""A small project on the tiny random model: support rows from the package, cut short."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[2] / "src" / "burnish" / "recipes" / "support"

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"
seed = 2  # one under which two rollouts find what simulated raters like better than the start

[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
prompts = "prompts.jsonl"
system = "You help."

[sft]
learning_rate = 5e-3
epochs = 2

[evaluate]
items = 60
max_new_tokens = 12
prompt_only = false

[feedback]
simulate = "support-desk"
sources = ["simulated", "human"]
pairs = 60

[reward]
min_comparisons = 40
layers = 1
epochs = 1

[rl]
updates = 4
prompts = 2
group = 4
"""


def make_project(folder: Path, base: Path) -> Path:
    """A recipe ``tiny.toml``, its rows and its base in ``folder``; returns the recipe's path.

    The base has the same name wherever the folder lies: it is part of every record's key, and simulated votes with it.
    """
    shutil.copytree(base, folder / "tiny-base")
    for name, most in (("train", 96), ("dev", 60), ("test", 60), ("prompts", 20)):
        lines = (SUPPORT / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:most]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE.format(base="tiny-base"))
    return recipe


@pytest.fixture
def tiny_project(tmp_path: Path, tiny_model_folder: Path) -> Path:
    """A fresh tiny project; its recipe's path."""
    return make_project(tmp_path, tiny_model_folder)
