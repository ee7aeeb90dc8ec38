"""The stage: files into a dataset in the store, once, with reasons for every row that is not in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.config import Recipe
from burnish.data.render import Renderer
from burnish.data.stage import gather, prepare, read_files, report
from burnish.errors import DataError
from burnish.store import open_store


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, what: str, done: int, total: int, note: str = "") -> None: ...


@pytest.fixture(scope="module")
def renderer(tiny_model_folder: Path) -> Renderer:
    return Renderer.from_folder(tiny_model_folder, "Be kind.")


def recipe(**data: object) -> Recipe:
    return Recipe(name="shop", task="chat", base="tiny", data={"train": "rows.jsonl", **data})  # type: ignore[arg-type]


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


def rows(count: int, **more: object) -> list[dict[str, object]]:
    return [{"question": f"a{n} b{n} c{n} d{n} e{n} f{n}", "answer": f"say {n}", **more} for n in range(count)]


def test_prepares_once_with_reasons(tmp_path: Path, renderer: Renderer) -> None:
    many = rows(200)
    many[10] = many[9]
    write(tmp_path, "rows.jsonl", many)
    write(tmp_path, "prompts.jsonl", [{"prompt": many[0]["question"]}, {"prompt": "free as a bird in the sky"}])
    store, said = open_store(tmp_path / ".burnish"), Said()
    settings = recipe(prompts="prompts.jsonl", max_length=200)
    record = prepare(settings, tmp_path, store, renderer, said)
    assert record.kind == "dataset"
    splits = {name: store.datasets.rows(record.id, name) for name in ("train", "dev", "test", "prompts")}
    assert record.body["counts"] == {name: len(held) for name, held in splits.items()}
    assert sum(len(splits[name]) for name in ("train", "dev", "test")) == 199
    assert splits["dev"] and splits["test"]
    reasons = {(d["split"], d["row"]): d["reason"] for d in record.body["dropped"]}
    assert reasons["train", 11] == "repeats row 10"
    assert said.lines[0].startswith(f"data: {len(splits['train'])} train, ")
    assert record.body["shape"]["train"] == 'JSONL, columns "question" and "answer"'
    assert "free as a bird" not in json.dumps(dict(record.body))  # no text of a row in the record
    assert record.body["audit"]["train"]["left_out"] == 0
    said.lines.clear()
    assert prepare(settings, tmp_path, store, renderer, said).id == record.id
    assert said.lines == []


def test_the_seed_has_no_part_and_changed_data_is_another_dataset(tmp_path: Path, renderer: Renderer) -> None:
    write(tmp_path, "rows.jsonl", rows(50))
    store, said = open_store(tmp_path / ".burnish"), Said()
    first = prepare(recipe(), tmp_path, store, renderer)
    again = prepare(recipe().model_copy(update={"seed": 7}), tmp_path, store, renderer)
    assert again.id == first.id
    write(tmp_path, "rows.jsonl", rows(60))
    grown = prepare(recipe(), tmp_path, store, renderer, said)
    assert grown.id != first.id
    assert "prepare runs again" in said.lines[0] and "files.train changed" in said.lines[0]
    for name in ("train", "dev", "test"):
        before = {r.number for r in store.datasets.rows(first.id, name)}
        assert before <= {r.number for r in store.datasets.rows(grown.id, name)}


def test_held_out_files_lose_what_is_trained_on(tmp_path: Path) -> None:
    write(tmp_path, "rows.jsonl", rows(20))
    write(tmp_path, "test.jsonl", [*rows(3), {"question": "quite new and never seen before", "answer": "ok"}])
    examples = gather(recipe(test="test.jsonl", dev_share=0.0), read_files(recipe(test="test.jsonl"), tmp_path), None)
    assert [r.number for r in examples.splits["test"]] == [4]
    assert [(d.where, d.number) for d in examples.dropped] == [("test", 1), ("test", 2), ("test", 3)]
    assert "dev: no row is held out: add rows unlike the others, or name them in data.dev" in examples.odd
    assert len(examples.splits["train"]) == 20


def test_subjects_are_kept_for_erasure_and_stay_in_one_split(tmp_path: Path, renderer: Renderer) -> None:
    write(tmp_path, "rows.jsonl", [r | {"Who": f"p{n % 30}"} for n, r in enumerate(rows(300))])
    store = open_store(tmp_path / ".burnish")
    record = prepare(recipe(subject="who"), tmp_path, store, renderer)
    seen = [{r.subject for r in store.datasets.rows(record.id, name)} for name in ("train", "dev", "test")]
    assert record.body["subjects"] == 30 == sum(map(len, seen))
    store.forget("shop", "p3")
    assert all(r.subject != "p3" for name in ("train", "dev", "test") for r in store.datasets.rows(record.id, name))


def test_variations_of_one_text_are_reported(tmp_path: Path) -> None:
    texts = [f"where is my order number {n} that was sent on {day} by parcel" for n in range(60) for day in "abcde"]
    write(tmp_path, "rows.jsonl", [{"question": t, "answer": f"wait {n}"} for n, t in enumerate(texts)])
    examples = gather(recipe(), read_files(recipe(), tmp_path), None)
    assert "most prompts nearly repeat another: like ones were held out together" in examples.odd
    assert any("nearly repeat" in line for line in report(examples))


def test_bad_rows_stop_the_stage_and_leave_no_record(tmp_path: Path, renderer: Renderer) -> None:
    write(tmp_path, "rows.jsonl", [*rows(3), {"question": "a", "answer": ""}])
    store = open_store(tmp_path / ".burnish")
    with pytest.raises(DataError, match="1 of 4 rows cannot be used\n  row 4: the answer is empty"):
        prepare(recipe(), tmp_path, store, renderer)
    assert store.records("shop") == []
    write(tmp_path, "rows.jsonl", rows(3))
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file"):
        prepare(recipe(dev="none.jsonl"), tmp_path, store, renderer)


def test_rows_that_do_not_fit_are_an_error_that_names_them(tmp_path: Path, renderer: Renderer) -> None:
    write(tmp_path, "rows.jsonl", rows(3))
    with pytest.raises(
        DataError,
        match=r"3 rows cannot be trained whole:\n  rows 1, 2, 3: the prompt alone has 46 tokens, data.max_length is 5",
    ):
        prepare(recipe(max_length=5), tmp_path, open_store(tmp_path / ".burnish"), renderer)
    with pytest.raises(DataError, match="no training row is left: all are held out"):
        gather(recipe(test_share=1.0), read_files(recipe(), tmp_path), None)


def test_the_room_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, burnish.data, burnish.recipes.init\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
