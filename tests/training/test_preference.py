"""The preference stage on the tiny model: what it learns, what it holds out, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.errors import TrainingError
from burnish.models.adapters import Lora
from burnish.models.artifacts import load_version
from burnish.objectives.methods import METHODS
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Record, Row
from burnish.training import preference, settings
from burnish.training.judged import Judged, gather_judged, method_of
from burnish.training.passes import Epochs, Learner
from burnish.training.preference import train_preference
from burnish.training.remembered import Remembered, with_reference
from burnish.training.settings import Choice

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"

[data]
train = "rows.jsonl"
preferences = "pairs.jsonl"
dev_share = 0.0
test_share = 0.0

[preference]
learning_rate = 1e-2
epochs = 2
batch_size = 8
held_out = 0.2
"""
TOPICS = "kettle lamp parcel toaster invoice refund pan code wok clock desk chair".split()
ASKS = [f"The {a} or {b} again {a} {b}?" for a in TOPICS for b in TOPICS if a < b]


def make(folder: Path, base: Path, pairs: list[dict[str, object]], more: str = "") -> Project:
    (folder / "rows.jsonl").write_text('{"prompt": "Are you there, or is nobody?", "completion": "Yes."}\n')
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "tiny.toml").write_text(RECIPE.format(base=base) + more)
    return Project(folder / "tiny.toml", progress=Silent())


def shorter(count: int = 40) -> list[dict[str, object]]:
    return [{"prompt": ask, "chosen": "It left.", "rejected": "It is on its way, on its way."} for ask in ASKS[:count]]


def run(project: Project, more: Mapping[str, object] | None = None) -> Record:
    recipe = project.recipe
    if more:
        assert recipe.preference is not None
        recipe = recipe.model_copy(update={"preference": recipe.preference.model_copy(update=dict(more))})
    dataset, base = project.prepare(), project.base()
    return train_preference(recipe, base, dataset, None, project.store, project.cache, Silent())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Project:
    torch.set_num_threads(1)
    return make(tmp_path_factory.mktemp("preference"), tiny_model_folder, shorter())


@pytest.fixture(scope="module")
def trained(project: Project) -> Record:
    return run(project)


def test_an_easy_preference_is_learned_and_holds_on_what_was_held_out(project: Project, trained: Record) -> None:
    figures = trained.body["figures"]
    assert figures["learned"] + figures["held_out"] == 40 and figures["held_out"] >= 3
    assert figures["before"]["loss"] == pytest.approx(0.6931, abs=1e-3) and abs(figures["before"]["margin"]) < 1e-3
    assert figures["after"]["loss"] < 0.4 and figures["after"]["accuracy"] == 1.0 and figures["after"]["margin"] > 5
    lines = [line for line in project.store.metrics(trained) if "loss" in line]
    assert len(lines) == figures["updates"] and lines[-1]["loss"] < lines[0]["loss"]
    assert not any("held_out" in line for line in lines)  # two passes, as the recipe says
    assert trained.body["stage"] == "preference" and trained.name == "tiny@1"
    assert trained.body["settings"]["method"]["value"] == "dpo"


def test_the_same_bits_come_out_of_another_store_and_without_the_cache(
    project: Project, trained: Record, tmp_path: Path
) -> None:
    import shutil

    for name in ("rows.jsonl", "pairs.jsonl", "tiny.toml"):
        shutil.copy(project.folder / name, tmp_path / name)
    again = run(Project(tmp_path / "tiny.toml", progress=Silent()))
    assert again.body["adapter"] == trained.body["adapter"]


def test_it_continues_its_start_and_the_reference_is_that_start(
    project: Project, trained: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second stage starts at a margin of zero: its reference is the version that it starts from, not the base."""
    recipe = project.recipe.model_copy(update={"seed": 5})
    dataset = project.prepare()
    second = train_preference(recipe, trained, dataset, None, project.store, project.cache, Silent())
    assert abs(second.body["figures"]["before"]["margin"]) < 1e-3
    assert second.body["figures"]["before"]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert trained.id in second.parents


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"dpo"}))
def test_every_method_of_the_table_lowers_its_loss(project: Project, name: str) -> None:
    record = run(project, {"method": name, "epochs": 2, "learning_rate": 5e-4})
    before, after = (record.body["figures"][when] for when in ("before", "after"))
    assert after["loss"] < before["loss"]
    assert after["accuracy"] >= before["accuracy"]


def test_labels_and_pairs_as_labels(tmp_path: Path, tiny_model_folder: Path) -> None:
    rows = [{"prompt": ask, "completion": "It left.", "label": "good"} for ask in ASKS[:16]]
    rows += [{"prompt": ask, "completion": "It is on its way, on its way.", "label": -1} for ask in ASKS[16:32]]
    project = make(tmp_path, tiny_model_folder, [*rows, *shorter(4)], 'method = "kto"\n')
    record = run(project)
    figures = record.body["figures"]
    assert figures["learned"] + figures["held_out"] == 32 + 2 * 4
    assert figures["after"]["loss"] < figures["before"]["loss"] and figures["after"]["accuracy"] > 0.9


def test_both_answers_of_a_pair_and_all_pairs_of_a_prompt_are_on_one_side(project: Project) -> None:
    rows = _rows(project)
    twice = [*rows, *(Row(r.prompt, r.answer, 100 + r.number, rejected="Hm.") for r in rows)]
    loaded = load_version(project.store, project.base(), project.cache)
    for name in ("dpo", "kto"):
        judged = gather_judged(project.recipe, METHODS[name], loaded, twice, None, project.store, 0)
        if name == "kto":
            assert [tree.streams["label"] for tree in judged.trees[:4]] == [1.0, 0.0, 1.0, 0.0]
        sides: dict[tuple[int, ...], set[bool]] = {}
        for tree, out in zip(judged.trees, judged.held, strict=True):
            sides.setdefault(tuple(tree.prompt), set()).add(out)
        assert all(len(side) == 1 for side in sides.values()) and {True} in sides.values()


def test_a_method_and_rows_that_do_not_fit(project: Project) -> None:
    labelled = [Row(r.prompt, r.answer, r.number, label=True) for r in _rows(project)[:2]]
    with pytest.raises(TrainingError, match="dpo compares two answers, and 2 rows of") as said:
        method_of(project.recipe, labelled)
    assert said.value.exit_code == 2 and 'method = "kto"' in str(said.value)
    wrong = project.recipe.model_copy(
        update={"preference": project.recipe.preference.model_copy(update={"gamma": 1.0})}  # type: ignore[union-attr]
    )
    with pytest.raises(TrainingError, match="dpo reads no gamma"):
        method_of(wrong)
    thumbs = project.recipe.model_copy(
        update={"preference": project.recipe.preference.model_copy(update={"learn_from": ("thumb",)})}  # type: ignore[union-attr]
    )
    with pytest.raises(TrainingError, match="a thumb judges one"):
        method_of(thumbs)


def test_training_that_moves_nothing_is_an_error(project: Project) -> None:
    with pytest.raises(TrainingError, match="the margin is still zero after the last"):
        run(project, {"learning_rate": 1e-12})


def test_nothing_to_learn_is_said(project: Project) -> None:
    with pytest.raises(TrainingError, match="there is no preference to learn from"):
        run(project, {"held_out": 1.0})


def test_a_killed_run_goes_on_with_the_same_bits(
    project: Project, trained: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    for name in ("rows.jsonl", "pairs.jsonl", "tiny.toml"):
        shutil.copy(project.folder / name, tmp_path / name)
    other = Project(tmp_path / "tiny.toml", progress=Silent())
    windows = Epochs.window

    def killed(self: Epochs, step: int) -> object:
        if step == 6:
            raise KeyboardInterrupt
        return windows(self, step)

    monkeypatch.setattr(Epochs, "every", 2)
    monkeypatch.setattr(Epochs, "window", killed)
    with pytest.raises(KeyboardInterrupt):
        run(other)
    monkeypatch.setattr(Epochs, "window", windows)
    assert run(other).body["adapter"] == trained.body["adapter"]


@pytest.mark.parametrize("name", ["simpo", "kto"])
def test_a_look_measures_what_training_logs(project: Project, tmp_path: Path, name: str) -> None:
    """The figures of one window, taken without gradient and cut otherwise, are those of an update before its step."""
    loaded = load_version(project.store, project.base(), project.cache)
    model = loaded.model.trainable(Lora(4), seed=1)
    for parameter in model.parameters().values():  # away from the start, where all margins are zero but for rounding
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    method, values = METHODS[name], METHODS[name].settings({})
    trees = gather_judged(project.recipe, method, loaded, _rows(project)[:6], None, project.store, 0).trees
    if method.reference:
        source = Remembered(tmp_path, "start")
        trees = with_reference(trees, loaded.model.frozen_copy(), source, Silent())
    learner = Learner("preference", project.recipe.adapt, model.parameters(), model.logp, method.terms(values))
    whole, cut = learner.measured(trees), replace(learner, budget=1).measured(trees)
    assert whole == pytest.approx(cut, rel=1e-4, abs=1e-4)
    choices = {n: Choice(v, "") for n, v in (("learning_rate", 1e-3), ("schedule", "constant"), ("warmup", 0))}
    logged = learner.loop(Epochs(trees, 99, 0), 1, choices, tmp_path, Silent()).update(0, trees)
    assert set(whole) >= {"loss", "accuracy", "margin"} and all(p.grad is None for p in model.parameters().values())
    for figure, value in whole.items():
        named = [v for key, v in logged.items() if key == figure or key.endswith(f"/{figure}")]
        assert [value] == pytest.approx(named, rel=1e-4, abs=1e-4), figure


def test_it_keeps_the_best_on_what_is_held_out_and_stops(project: Project) -> None:
    """At a rate that breaks what was learned, the best look is kept and the run ends after two that are worse."""
    record = run(project, {"learning_rate": 0.3, "epochs": 8, "early_stopping": 2, "evaluate_every": 1})
    figures, lines = record.body["figures"], project.store.metrics(record)
    looks = {line["step"]: line for line in lines if "held_out" in line}
    best = min(looks, key=lambda step: (looks[step]["held_out"], step))
    assert figures["updates"] == best < max(looks) == best + 2 < 32
    assert f"after {best} updates, 2 looks ago" in figures["stopped"] and lines[-1]["stopped"] == figures["stopped"]
    assert figures["before"]["loss"] == looks[0]["held_out"]
    assert figures["after"]["loss"] == pytest.approx(looks[best]["held_out"], rel=1e-6)
    assert {"held_out_accuracy", "held_out_margin", "held_out_chosen_reward"} <= set(looks[best])


def test_a_long_run_probes_its_rate_on_what_is_held_out(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PROBE_SHARE", 0.9)
    record = run(project, {"learning_rate": "auto", "epochs": 10})
    rate, held = record.body["settings"]["learning_rate"], record.body["figures"]["held_out"]
    assert f"loss on {held} unseen rows after" in rate["why"]
    assert record.body["settings"]["beta"] == {"value": 0.1, "why": "auto: dpo's default"}


def test_where_nothing_is_better_than_the_start_it_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held out prefers the other answer: every update makes it worse there."""

    def against(*args: Any) -> Judged:
        found = gather_judged(*args)
        trees = [
            replace(tree, streams={**tree.streams, "preference": 0.0}) if out else tree
            for tree, out in zip(found.trees, found.held, strict=True)
        ]
        return Judged(trees, found.held)

    monkeypatch.setattr(preference, "gather_judged", against)
    record = run(project, {"early_stopping": 1, "evaluate_every": 2})
    figures = record.body["figures"]
    assert figures["updates"] == 0 and figures["after"] == figures["before"]
    assert figures["stopped"] == "held_out was best at 0.6931 after 0 updates, 1 looks ago"
    assert max(line["step"] for line in project.store.metrics(record)) == 2


def _rows(project: Project) -> list[Row]:
    return project.store.datasets.rows(project.prepare().id, "preferences")
