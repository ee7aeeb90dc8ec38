"""Every algorithm, from a recipe to a version; and PPO, killed in the middle, ends with the same bits."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from burnish.errors import TrainingError
from burnish.models import language
from burnish.models.replay import replayed
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Record
from burnish.sampling import packed
from burnish.training.loop import Loop

BEGINNING = """
[rl]
prompts = 2
stop_kl = 100.0
stop_length = 100.0
"""
OWN = """
[[rl.rewards]]
kind = "own"
function = "mine:score"
"""
SCORE = "def score(reply):\n    return len(set(reply.answer)) / 10 + len(reply.answer) / 97\n"
WAYS = {
    "ppo": 'algorithm = "ppo"',
    "ppo, no group": 'algorithm = "ppo"\ngroup = 1\nwhiten = ["rewards", "advantages"]\nkl_target = 0.05',
    "dr_grpo": 'algorithm = "dr_grpo"',
    "dapo": 'algorithm = "dapo"',
    "gspo": 'algorithm = "gspo"',
    "rloo": 'algorithm = "rloo"\nentropy = 0.01',
    "reinforce++": 'algorithm = "reinforce++"\ngroup = 1',
    "online_dpo": 'algorithm = "online_dpo"',
    "rejection": 'algorithm = "rejection"',
    "ptx": "demonstrations = 0.2",
    "chord": "[rl.chord]\nmu = [0.9, 0.1]",
    "luffy": "[rl.luffy]\ngamma = 0.2",
    "8 bits": 'sampler = "int8"\nimportance_cap = 1.5\nalgorithm = "ppo"',
    "8 bits, luffy": 'sampler = "int8"\n[rl.luffy]',
    "8 bits, pairs": 'sampler = "int8"\nalgorithm = "online_dpo"',
}

WEIGHED = ("8 bits", "8 bits, luffy")  # by their probability in training over that in sampling


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A project whose supervised stage is done, with its recipe."""
    from pipeline.conftest import make_project

    recipe = make_project(tmp_path_factory.mktemp("tuned"), tiny_model_folder)
    text = recipe.read_text()
    text = text[: text.index("[feedback]")].replace('prompts = "prompts.jsonl"\n', "")
    recipe.write_text(text.replace("epochs = 2", "epochs = 1").replace("max_new_tokens = 12", "max_new_tokens = 6"))
    (recipe.parent / "mine.py").write_text(SCORE)
    Project(recipe, progress=Silent()).train(stage="sft")
    return recipe


def with_rl(recipe: Path, keys: str, updates: int = 4) -> Project:
    """The project, whose recipe has these keys in [rl]."""
    text = recipe.read_text().split("\n[rl]\n")[0]
    group = "" if "group = " in keys else "group = 3\n"
    recipe.write_text(f"{text}{BEGINNING}updates = {updates}\n{group}{keys}\n{OWN}")
    return Project(recipe, progress=Silent())


def learned(project: Project) -> Record:
    """The version that reinforcement learning makes; the supervised stage is done already."""
    project.train(stage="rl")
    return [record for record in project.store.records("tiny", "version") if record.body["stage"] == "rl"][-1]


@pytest.mark.parametrize("way", WAYS)
def test_every_algorithm_makes_a_version(tuned: Path, way: str) -> None:
    project = with_rl(tuned, WAYS[way])
    version = learned(project)
    lines = project.store.metrics(version)
    updates = [line for line in lines if "loss" in line]
    assert len(updates) == 4 and all(math.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in updates)
    wanted = {"ppo": "value/error", "chord": "chord/phi", "luffy": "shaped", "online_dpo": "preference/margin"}
    for name in (*(figure for key, figure in wanted.items() if way.startswith(key)), "mismatch", "reward"):
        assert math.isfinite(updates[0][name])
    assert updates[0]["mismatch"] == pytest.approx(1.0, abs=0.05 if way.startswith("8 bits") else 1e-3)
    assert ("policy/importance" in updates[0]) == ("policy/truncated_share" in updates[0]) == (way in WEIGHED)
    project.store.close()


@pytest.mark.parametrize("sampler", ["exact", "half"])
def test_ppo_ends_with_the_same_bits_after_an_interruption(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """Stopped in the second rollout: its answers are drawn again by the same policy, and valued by the same head."""
    ways = f'algorithm = "ppo"\nlearning_rate = 1e-2\nkl_target = 0.01\nsampler = "{sampler}"'
    for name in ("whole", "stopped"):
        shutil.copytree(tuned.parent, tmp_path / name)
    through = with_rl(tmp_path / "whole" / tuned.name, ways, updates=8)
    whole = learned(through)
    update = Loop.update

    def until(self: Loop, step: int, trees):  # type: ignore[no-untyped-def]
        if step == 6:
            raise KeyboardInterrupt
        return update(self, step, trees)

    monkeypatch.setattr(Loop, "update", until)
    with pytest.raises(KeyboardInterrupt):
        learned(with_rl(tmp_path / "stopped" / tuned.name, ways, updates=8))
    monkeypatch.setattr(Loop, "update", update)
    resumed = with_rl(tmp_path / "stopped" / tuned.name, ways, updates=8)
    again = learned(resumed)
    assert again.body["adapter"] == whole.body["adapter"] and again.body["figures"] == whole.body["figures"]
    told = [{line["step"]: line for line in p.store.metrics(v)} for p, v in ((through, whole), (resumed, again))]
    assert told[0][0]["value_explained"] == 0.0 != told[0][4]["value_explained"]  # the head starts at zero, and learns
    for name in ("loss", "value/error", "gradient_norm", "policy/ratio"):
        assert [told[0][step][name] for step in range(8)] == [told[1][step][name] for step in range(8)]


@pytest.mark.parametrize("weights", ["half", "int8"])
def test_8_bits_that_a_model_cannot_have_are_refused(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setattr(packed, "_agrees", lambda kind, shape: kind is packed.PackedLinear)
    with pytest.raises(TrainingError, match="has no such layers for this model here") as error:
        learned(with_rl(tuned, f'sampler = "{weights}"', updates=2))
    assert 'set rl.sampler = "exact"' in str(error.value)


def test_luffy_needs_written_answers(tuned: Path) -> None:
    text = tuned.read_text()
    tuned.write_text(text.replace('test = "test.jsonl"', 'test = "test.jsonl"\nprompts = "prompts.jsonl"'))
    try:
        with pytest.raises(TrainingError, match="no prompt has one"):
            learned(with_rl(tuned, WAYS["luffy"]))
    finally:
        tuned.write_text(text)


@pytest.mark.parametrize(
    "way", ['algorithm = "grpo"\nminibatches = 1', WAYS["rloo"], WAYS["ppo"], WAYS["dapo"], WAYS["ptx"]]
)
def test_going_back_along_what_the_sampler_computed_learns_the_same(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """With and without: the trainer's own forward is what there is to be the same as."""
    ran: list[int] = []

    def counted(trunk, stream, inputs, take_S):  # type: ignore[no-untyped-def]
        ran.append(len(stream.ids_T))
        return replayed(trunk, stream, inputs, take_S)

    monkeypatch.setattr(language, "replayed", counted)
    found: dict[str, list[float]] = {}
    for name in ("along", "alone"):
        shutil.copytree(tuned.parent, tmp_path / name)
        if name == "alone":
            monkeypatch.setattr(language, "MOST", 0)
        project = with_rl(tmp_path / name / tuned.name, f"{way}\nlearning_rate = 1e-3")
        lines = [line for line in project.store.metrics(learned(project)) if "loss" in line]
        names = ("loss", "gradient_norm", "kl", "mismatch")
        found[name] = [line[figure] for line in lines for figure in names if figure in line]
        assert bool(ran) == (name == "along" and way != WAYS["ptx"])  # demonstrations are of nobody's drawing
        ran.clear()
        project.store.close()
    assert found["along"] == pytest.approx(found["alone"], rel=2e-3, abs=1e-5)
