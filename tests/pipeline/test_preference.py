"""A turn with [preference] in place of [reward] and [rl], from a file and from votes, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish import registry
from pipeline.conftest import make_project
from pipeline.test_circle import burnish, store_of

LEARN = """
[preference]
learning_rate = 5e-3
epochs = 1
"""


def make(folder: Path, base: Path, table: str = LEARN, gate: str = "", votes: str | None = None) -> Path:
    """The tiny project without [reward] and [rl], with pairs in a file."""
    recipe = make_project(folder, base)
    text = recipe.read_text().partition("[reward]")[0]
    if votes is None:
        text = text.replace('prompts = "prompts.jsonl"\n', 'prompts = "prompts.jsonl"\npreferences = "pairs.jsonl"\n')
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()[:48]]
        pairs = [
            {"messages": row["messages"][:-1], "chosen": "Of course.", "rejected": "No, no, no, no."} for row in rows
        ]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe.write_text(text + table + gate)
    return recipe


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A project that learned from a file of pairs and was judged by simulated raters."""
    recipe = make(tmp_path_factory.mktemp("turned"), tiny_model_folder)
    burnish("run", recipe, code=(0, 1))
    return recipe


def test_a_turn_from_a_file_of_pairs(turned: Path) -> None:
    store = store_of(turned)
    turn = store.records("tiny", "turn")[-1].body
    candidate = store.record(turn["stages"]["candidate"])
    assert turn["stages"]["preference"] == candidate.id and candidate.body["stage"] == "preference"
    sft = store.record(turn["stages"]["sft"])
    assert turn["stages"]["start"] == sft.id or sft.id in candidate.parents
    assert store.record(turn["stages"]["evaluation"]).body["split"] == "test"
    assert store.record(turn["stages"]["verdict"]).body["stage"] == "preference"
    assert "judgement" in turn["stages"]
    kinds = {record.kind for record in store.records("tiny")}
    assert "reward" not in kinds and "snapshot" not in kinds  # no votes were learned from
    serving = registry.production(store, "tiny")
    assert (serving is not None and serving.id == candidate.id) == turn["passed"]
    assert not store.verify().problems


def test_a_second_run_repeats_nothing_and_the_summary_says_what_was_learned(turned: Path) -> None:
    said = burnish("run", turned, code=(0, 1))
    assert "nothing ran" in said and "updates of dpo on " in said and "held out, accuracy" in said
    said = burnish("check", turned)
    assert "preference.beta = 0.1 (auto: dpo's default)" in said
    assert "preference.learning_rate: no probe: the recipe gives the rate" in said
    assert "preference.batch_size = " in said and "48 rows read (JSONL, chosen and rejected)" in said
    assert "preference: 5 rules on 60 independent test prompts" in said


def test_a_changed_method_runs_the_stage_again_and_not_what_comes_before(turned: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(turned.parent, copy)
    recipe = copy / turned.name
    recipe.write_text(recipe.read_text() + 'method = "ipo"\n')
    said = burnish("train", recipe)
    assert "preference runs again: preference.method changed dpo -> ipo" in said and "sft runs again" not in said


def test_own_rules_that_read_no_votes_need_no_rater(tmp_path: Path, tiny_model_folder: Path) -> None:
    gate = """[[gate]]\nmetric = "loss"\nagainst = "start"\nnot_worse_by = 5.0\n"""
    recipe = make(tmp_path, tiny_model_folder, gate=gate)
    text = recipe.read_text().replace('simulate = "support-desk"\nsources = ["simulated", "human"]\n', "")
    recipe.write_text(text)
    burnish("run", recipe, code=0)
    store = store_of(recipe)
    turn = store.records("tiny", "turn")[-1].body
    assert turn["passed"] and "judgement" not in turn["stages"]
    serving = registry.production(store, "tiny")
    assert serving is not None and serving.id == turn["stages"]["preference"]


def test_votes_are_collected_and_learned_from(tmp_path: Path, tiny_model_folder: Path) -> None:
    table = LEARN + 'learn_from = ["compare", "edit"]\nmin_votes = 30\n'
    recipe = make(tmp_path, tiny_model_folder, table, votes="simulated")
    burnish("run", recipe, code=(0, 1))
    store = store_of(recipe)
    turn = store.records("tiny", "turn")[-1].body
    candidate = store.record(turn["stages"]["preference"])
    assert turn["stages"]["snapshot"] in candidate.parents and candidate.body["figures"]["learned"] > 20
    assert "campaign" in turn["stages"] and "next" in turn["stages"]


def test_a_method_that_does_not_fit_its_rows_is_one_message_before_anything_is_trained(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    recipe = make(tmp_path, tiny_model_folder)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "Quite another thing here?", "completion": "Yes.", "label": true}\n')
    for command in ("check", "run"):
        said = burnish(command, recipe, code=2)
        assert "dpo compares two answers, and 1 rows of data.preferences have one with a label (rows 1)" in said
    assert not store_of(recipe).records("tiny", "version")
