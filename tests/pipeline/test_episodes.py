"""The environment of docs/how-to/episodes.md, taken from its text: a tool that is called, from recipe to version."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from burnish.parts import environment_contract, load
from burnish.pipeline import Project
from burnish.pipeline.preflight import preflight
from burnish.progress import Silent
from burnish.records import Message, Record, Row
from burnish.training.algorithms import ALGORITHMS
from burnish.training.loop import Loop
from pipeline.test_circle import burnish, store_of
from pipeline.test_parts import Heard

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "episodes.md").read_text()
(TOOLS,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
RECIPE = """
name = "tiny"
task = "chat"
base = "tiny-base"

[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
prompts = "prompts.jsonl"

[adapt]
method = "full"

[sft]
learning_rate = 1e-2
epochs = 15
early_stopping = "off"
train_on = "all"

[evaluate]
items = 55
max_new_tokens = 10
prompt_only = false

[[gate]]
metric = "loss"
against = "start"
not_worse_by = 1000.0

[rl]
environment = "tools:start"
turns = 3
updates = 2
prompts = 2
group = 3
stop_kl = 100.0
stop_length = 100.0

[[rl.rewards]]
kind = "environment"

[[rl.rewards]]
kind = "length"
longest = 20
"""


def conversation(a: int, b: int) -> list[dict[str, str]]:
    said = [f"What is {a} + {b}?", f"CALC:{a}+{b}", f"= {a + b}", str(a + b)]
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A project that has learned to call the tool; its recipe."""
    folder = tmp_path_factory.mktemp("episodes")
    shutil.copytree(tiny_model_folder, folder / "tiny-base")
    sums = [(a, b) for b in range(1, 20) for a in range(1, 10)]
    rows = [{"messages": conversation(a, b)} for a, b in sums]
    bare = [{"prompt": f"What is {a} + {b}?", "completion": str(a + b)} for a, b in sums]
    files = {"train": rows[:60], "dev": rows[60:115], "test": rows[115:], "prompts": bare[:16]}
    for name, found in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "tools.py").write_text(TOOLS)
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    Project(recipe, progress=Silent()).train(stage="sft")
    return recipe


def changed(recipe: Path, *pairs: tuple[str, str]) -> Project:
    text = recipe.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text)
    return Project(recipe, progress=Silent())


def figures(project: Project) -> tuple[Record, list[dict[str, float]]]:
    project.train(stage="rl")
    version = [r for r in project.store.records("tiny", "version") if r.body["stage"] == "rl"][-1]
    return version, [line for line in project.store.metrics(version) if "loss" in line]


def test_the_page_says_what_the_check_says(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    part = load(["tools:start"], tmp_path)["tools:start"]
    rows = [Row((Message("user", "What is 12 * 7?"),), "84", n) for n in range(1, 5)]
    said = " ".join(PAGE.split())
    assert f": {', '.join(environment_contract(part, rows, 3, True))}: kept" in said
    episode = part(rows[0], 0)
    assert [episode.reply(text) for text in ("CALC: 12 * 7", "CALC: 1 / 0", "CALC: 2 **", " 84")] == [
        "= 84", "= error", "= error", None,
    ]  # fmt: skip
    assert episode.reward() == 1.0 - 0.15


def test_the_check_tries_it(tuned: Path) -> None:
    said = "\n".join(preflight(Project(tuned), timed=False).lines())
    assert "own environment tools:start (tools.py " in said and "one reward for an episode, ends (12 of 12" in said


def test_it_runs_by_the_command_line(tuned: Path, tmp_path: Path) -> None:
    """Trained and judged; the tool is called, and what it said stands in the kept conversation."""
    shutil.copytree(tuned.parent, tmp_path / "run")
    recipe = tmp_path / "run" / tuned.name
    burnish("run", recipe, code=(0, 1))  # the gate may say no
    store = store_of(recipe)
    version = next(v for v in store.records("tiny", "version") if v.body["stage"] == "rl")
    first = next(line for line in store.metrics(version) if "turns" in line)
    assert first["turns"] > 1.0 and first["mismatch"] == pytest.approx(1.0, abs=1e-3)
    assert {"reward/environment", "reward/length", "dev_reward/environment"} <= set(first)
    kept = [e for e in store.exchanges.many(first["samples"]).values() if len(e.prompt) > 1]
    assert kept and all(e.prompt[1].content.startswith("CALC:") and e.prompt[2].content.startswith("=") for e in kept)
    assert all(len(e.logprobs) == len(e.answer_ids) for e in kept)
    (recipe.parent / "tools.py").write_text(TOOLS.replace("0.05", "0.04"))
    heard = Heard()
    Project(recipe, progress=heard).train()
    assert any(line.startswith("rl runs again: parts.tools:start changed tools.py") for line in heard.lines)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_learns_from_episodes(tuned: Path, algorithm: str) -> None:
    text = tuned.read_text()
    project = changed(tuned, ("[rl]\n", f'[rl]\nalgorithm = "{algorithm}"\n'))
    try:
        _, lines = figures(project)
    finally:
        tuned.write_text(text)
    assert len(lines) == 2 and all(math.isfinite(line["loss"]) for line in lines)
    assert lines[0]["turns"] > 1.0 and lines[0]["mismatch"] == pytest.approx(1.0, abs=1e-3)
    project.store.close()


def test_it_ends_with_the_same_bits_after_an_interruption(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second rollout, whose episodes are played again from their beginning."""
    longer = ("updates = 2", "updates = 6")
    for name in ("whole", "stopped"):
        shutil.copytree(tuned.parent, tmp_path / name)
    whole, wanted = figures(changed(tmp_path / "whole" / tuned.name, longer))
    update = Loop.update

    def until(self: Loop, step: int, trees):  # type: ignore[no-untyped-def]
        if step == 3:
            raise KeyboardInterrupt
        return update(self, step, trees)

    monkeypatch.setattr(Loop, "update", until)
    project = changed(tmp_path / "stopped" / tuned.name, longer)
    with pytest.raises(KeyboardInterrupt):
        figures(project)
    monkeypatch.setattr(Loop, "update", update)
    again, found = figures(project)
    assert again.body["adapter"] == whole.body["adapter"] and again.body["figures"] == whole.body["figures"]
    assert found[-1]["loss"] == wanted[-1]["loss"]
