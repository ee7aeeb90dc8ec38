"""A dense reward from marked answers, by the turn that learns it and by the check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.feedback import ensure_rater, next_to_mark, record_vote
from burnish.models.artifacts import load_reward, load_version
from burnish.models.spans import SpanModel
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Mark, Message, Row
from burnish.rewards.scores import Asked
from burnish.rewards.spans import SpanReader
from burnish.sampling import Sample
from pipeline.conftest import make_project
from pipeline.test_circle import burnish, store_of

SPANS = """
[spans]
types = { rude = "sentence", missing = "answer" }
layers = 1
learning_rate = 2e-2
epochs = 4

[rl]
updates = 2
prompts = 4
group = 2
algorithm = "reinforce++"

[[rl.rewards]]
kind = "spans"
type = "rude"
weight = 0.5

[[rl.rewards]]
kind = "spans"
type = "missing"
per = "answer"
"""
GOOD, RUDE = "Of course we can do it.", "No, no, never!"


def make(folder: Path, base: Path, table: str = SPANS) -> Path:
    """The tiny project with marked answers: RUDE is always wrong, and answers without GOOD miss something."""
    recipe = make_project(folder, base)
    text = recipe.read_text().partition("[reward]")[0]
    text = text.replace('prompts = "prompts.jsonl"\n', 'prompts = "prompts.jsonl"\npreferences = "marked.jsonl"\n')
    lines = (folder / "train.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["messages"][-2]["content"] for line in lines]
    rows = []
    for number, prompt in enumerate(prompts):
        answer = " ".join([[GOOD, RUDE], [RUDE, GOOD], [GOOD, GOOD], [RUDE]][number % 4])
        spans = [
            {"start": start, "end": start + len(RUDE), "type": "rude"}
            for start in range(len(answer))
            if answer.startswith(RUDE, start)
        ]
        spans += [] if GOOD in answer else [{"start": 0, "end": len(answer), "type": "missing"}]
        rows.append({"prompt": prompt, "completion": answer, "spans": spans})
    (folder / "marked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.write_text(text + table)
    return recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    recipe = make(tmp_path_factory.mktemp("spans"), tiny_model_folder)
    burnish("train", recipe)
    return recipe


def test_the_heads_find_held_out_errors_and_say_how_often_by_chance(trained: Path) -> None:
    (record,) = store_of(trained).records("tiny", "spans")
    assert record.body["types"]["rude"]["segment"] == "sentence"
    assert min(record.body["answers"]["held_out"], record.body["answers"]["learned"]) > 4
    for kind, rate in (("rude", 0.43), ("missing", 0.25)):
        found = record.body["types"][kind]
        assert found["base_rate"] == pytest.approx(rate, abs=0.2)
        assert found["average_precision"]["value"] > found["base_rate"]
    assert record.body["types"]["rude"]["average_precision"]["value"] > 0.9  # its last letter tells


def test_the_policy_is_paid_by_segments_and_each_type_is_told_apart(trained: Path) -> None:
    store = store_of(trained)
    (spans,) = store.records("tiny", "spans")
    rl = next(v for v in store.records("tiny", "version") if v.body["stage"] == "rl")
    assert spans.id in rl.parents and not store.records("tiny", "reward")
    line = next(line for line in store.metrics(rl) if "reward/rude" in line)
    assert line["reward"] == pytest.approx(0.5 * line["reward/rude"] + line["reward/missing"])
    assert line["reward/missing/segments"] == 1.0
    assert line["reward/missing"] == pytest.approx(1 - 2 * line["reward/missing/wrong"], abs=1e-6)
    assert {"dev_reward/rude", "dev_reward/missing", "reward/rude/wrong"} <= set(line) | {
        name for other in store.metrics(rl) for name in other
    }


def test_what_is_loaded_reads_marked_answers_as_it_learned_them(trained: Path) -> None:
    project = Project(trained, progress=Silent())
    (record,) = project.store.records("tiny", "spans")
    model = load_reward(project.store, record, project.cache, kind=SpanModel)
    start = load_version(project.store, project.store.record(record.body["version"]), project.cache)
    asked = [Asked(start.renderer.prompt([Message("user", "Can you help me?")]), Row((), None, 1))]
    sample = Sample(tuple(start.renderer.answer(f"{GOOD} {RUDE}")), (), "stop")
    ((odds,),) = SpanReader(model, start.renderer)(asked, [[sample]])
    (_, good), (_, rude) = odds["rude"]
    assert good < 0.5 < rude and odds["missing"][0][1] < 0.5


def test_a_second_call_repeats_nothing_and_a_changed_weight_learns_no_head_again(trained: Path) -> None:
    project = Project(trained, progress=Silent())
    assert project.train().repeated
    trained.write_text(trained.read_text().replace("weight = 0.5", "weight = 0.25"))
    assert not Project(trained, progress=Silent()).train().repeated
    assert len(store_of(trained).records("tiny", "spans")) == 1
    trained.write_text(trained.read_text().replace("weight = 0.25", "weight = 0.5"))


def test_the_check_counts_marked_answers_and_names_types_that_teach_nothing(trained: Path) -> None:
    said = burnish("check", trained, "--no-time")
    assert "spans.epochs = 4 (recipe)" in said and "preferences: marked.jsonl, 96 rows read" in said
    text = trained.read_text()
    fewer = text.replace(', missing = "answer"', "").replace('type = "missing"', 'type = "rude"\nname = "twice"')
    trained.write_text(fewer)
    assert "preferences: marked spans that teach nothing: missing (24) (spans.types)" in burnish(
        "check", trained, "--no-time"
    )
    trained.write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('rude = "sentence"', 'rood = "sentence"', "no part of rl.rewards pays spans.types.rood"),
        ('type = "rude"', 'type = "rood"', "no part of rl.rewards pays spans.types.rude"),
        ('type = "rude"\nweight = 0.5', 'type = "rude"\nclip = [-1.0, 1.0]', "clip is for numbers of whole answers"),
        ('[spans]\ntypes = { rude = "sentence", missing = "answer" }\nlayers = 1\nlearning_rate = 2e-2\nepochs = 4\n',
         "", 'kind = "spans" pays what is learned from marked errors: add a [spans] table'),
        ('preferences = "marked.jsonl"\n', "", 'spans.learn_from has "rows": name their file'),
        ('kind = "spans"\ntype = "rude"', 'kind = "spans"', 'kind = "spans" needs type'),
        ("per = ", "pattern = 'x'\nper = ", 'pattern belongs to kind = "format", not "spans"'),
        ("types = { rude", "types = { 'off topic' = 'clause', rude", "spans.types"),
        ('"sentence"', '"paragraph"', "spans.types"),
        ("layers = 1", "layers = 3", "spans.layers: cannot train the last 3 layers: 2 can be"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_mean_anything(
    tmp_path: Path, tiny_model_folder: Path, old: str, new: str, said: str
) -> None:
    recipe = make(tmp_path, tiny_model_folder)
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))
    assert said in burnish("check", recipe, "--no-time", code=2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("It is.", [])], 'spans.types names "missing", and no row marks an error of that type'),
        ([("It is.", [{"start": 0, "end": 7, "type": "rude"}])], "span 1 is from 0 to 7, and the answer has 6"),
        (
            [("It is.", [{"start": 0, "end": 4, "type": "rude"}, {"start": 3, "end": 6, "type": "rude"}])],
            'two spans of type "rude" overlap, at characters 3 to 4',
        ),
        ([("It is.", None)], "neither a rejected answer nor a label nor spans"),
    ],
)
def test_rows_that_teach_nothing(tmp_path: Path, tiny_model_folder: Path, rows: list, said: str) -> None:
    recipe = make(tmp_path, tiny_model_folder)
    lines = [json.dumps({"prompt": "Why?", "completion": text, "spans": spans}) for text, spans in rows]
    (tmp_path / "marked.jsonl").write_text("\n".join(lines) + "\n")
    assert said in burnish("check", recipe, "--no-time", code=2)


def marked_by_people(recipe: Path, number: int) -> None:
    """Two people mark answers of the serving version: its first sentence or word is always rude."""
    store = store_of(recipe)
    raters = [ensure_rater(store, "tiny", name) for name in ("ann", "bob")]
    for at in range(number):
        rater = raters[at % 2]
        found, _ = next_to_mark(store, "tiny", rater)
        assert found is not None
        said = found.answer
        end = len(said.rstrip()) // 2
        marks = [] if at % 3 == 0 or not end else [Mark(0, end, "rude")]
        record_vote(store, "tiny", rater, "span", key=f"m{at}", exchange=found.id, marks=marks)


def test_the_stage_waits_for_marked_answers_and_learns_from_them(tmp_path: Path, tiny_model_folder: Path) -> None:
    keys = 'learn_from = ["span"]\nmin_marked = 40\n'
    table = SPANS.replace(', missing = "answer"', "").replace(
        'type = "missing"\nper = "answer"', 'type = "rude"\nname = "more"'
    )
    recipe = make(tmp_path, tiny_model_folder, table.replace("[spans]\n", f"[spans]\n{keys}"))
    recipe.write_text(
        recipe.read_text().replace('preferences = "marked.jsonl"\n', "").replace('simulate = "support-desk"\n', "")
    )
    assert "waiting for feedback: 0 of 40 marked answers" in burnish("train", recipe)
    marked_by_people(recipe, 40)
    burnish("train", recipe)
    store = store_of(recipe)
    (spans,), (frozen,) = store.records("tiny", "spans"), store.records("tiny", "snapshot")
    assert spans.body["votes"] == {"human": 40} and spans.body["raters"] == 2 and spans.body["rows"] == 0
    assert frozen.id in spans.parents and sum(spans.body["answers"].values()) <= 40
    assert frozen.body["by_kind"] == {"span": 40}
