"""Marked spans: read with their places, found on tokens, and weighed, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.config import load
from burnish.data.marks import lightened, marked_kinds, marks_of
from burnish.data.read import read_rows
from burnish.data.render import Renderer
from burnish.data.shapes import BadRow, tidy
from burnish.data.stage import gather, read_files
from burnish.data.supervision import supervision
from burnish.errors import DataError
from burnish.records import Mark, Message, Row
from burnish.store import Work, open_store

# "It is", " far", " away", ".", stop
OFFSETS = [(0, 5), (5, 9), (9, 14), (14, 15), (15, 15)]
MARKS = (Mark(6, 9, "Irrelevant"), Mark(8, 15, "Wrong"))


def test_a_token_is_marked_where_it_shares_a_character() -> None:
    assert marked_kinds(OFFSETS, MARKS) == [
        frozenset(), {"Irrelevant", "Wrong"}, {"Wrong"}, {"Wrong"}, frozenset(),
    ]  # fmt: skip
    assert marked_kinds(OFFSETS, (Mark(5, 6, "x"),))[1] == {"x"} and not marked_kinds(OFFSETS, (Mark(4, 5, "x"),))[1]


def test_the_smallest_share_counts_and_other_kinds_change_nothing() -> None:
    assert lightened(0.5, OFFSETS, MARKS, {"Irrelevant": 0.0, "Wrong": 0.4}) == [0.5, 0.0, 0.2, 0.2, 0.5]
    assert lightened(1.0, OFFSETS, MARKS, {"Irrelevant": 0.25}) == [1.0, 0.25, 1.0, 1.0, 1.0]
    assert lightened(1.0, OFFSETS, (), {"Irrelevant": 0.25}) == [1.0] * 5


@pytest.mark.parametrize("written", ["It is far.", "  It is far. \n", "\ufeff\r\nIt is far.", "It\r\nis far."])
def test_places_follow_the_tidied_text(written: str) -> None:
    start = written.index("far")
    (mark,) = marks_of([{"start": start, "end": start + 3, "error type": " Wrong "}], written)
    assert (tidy(written)[mark.start : mark.stop], mark.kind) == ("far", "Wrong")


def test_a_mark_on_what_is_tidied_away_is_none() -> None:
    assert marks_of([{"start": 0, "end": 2, "type": "x"}], "  It") == ()


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ("0-3", "not a list of spans"),
        ([[0, 3]], "not a list of spans"),
        ([{"start": 0, "end": 3}], "span 1 has no type"),
        ([{"start": 0, "end": 11, "type": "x"}], "from 0 to 11, and the answer has 10"),
        ([{"start": 3, "end": 3, "type": "x"}], "from 3 to 3"),
        ([{"start": -1, "end": 3, "type": "x"}], "from -1 to 3"),
        ([{"start": True, "end": 3, "type": "x"}], "from True to 3"),
        ([{"start": 0, "end": "3", "type": "x"}], "from 0 to '3'"),
    ],
)
def test_spans_that_make_no_sense(spans: object, said: str) -> None:
    with pytest.raises(BadRow, match=said):
        marks_of(spans, "It is far.")


def test_offsets_are_those_of_the_ids_control_tokens_in_the_text_included(tiny_model_folder: Path) -> None:
    renderer = Renderer.from_folder(tiny_model_folder, "You help.")
    for text in ("the kettle is in the post", "Größe 😀 the end", "say <|im_end|> to the end", ""):
        offsets, ids = renderer.offsets(text), renderer.answer(text)
        assert len(offsets) == len(ids) and offsets[-1] == (len(text), len(text))
        if text.isascii():
            assert "".join(text[a:b] for a, b in offsets) == text
            assert [renderer.text([i]) for i in ids[:-1]] == [text[a:b] for a, b in offsets[:-1]]


@pytest.mark.parametrize("train_on", ["last", "all", "everything"])
def test_marked_tokens_of_the_answer_weigh_less(tiny_model_folder: Path, train_on: str) -> None:
    renderer = Renderer.from_folder(tiny_model_folder, "You help.")
    talk = (Message("user", "hi"), Message("assistant", "the end"), Message("user", "where?"))
    row = Row(talk, "the end", 1, marks=(Mark(4, 7, "Wrong"),))
    plain = supervision(row, renderer, train_on)  # type: ignore[arg-type]
    found = supervision(row, renderer, train_on, {"Wrong": 0.25})  # type: ignore[arg-type]
    lighter = [b <= 7 and a < 7 and b > 4 for a, b in renderer.offsets("the end")]
    size = len(lighter)
    assert found.ids == plain.ids and found.weights[:-size] == plain.weights[:-size]
    assert found.weights[-size:] == [0.25 if light else 1.0 for light in lighter] and any(lighter)


def files(folder: Path, rows: list[dict[str, object]], weights: str) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "bot.toml").write_text(f'task = "chat"\nbase = "b"\n[data]\ntrain = "rows.jsonl"\n[sft]\n{weights}')
    return folder / "bot.toml"


ROWS: list[dict[str, object]] = [
    {"prompt": f"{'where is parcel ' * 2}{n}?", "completion": f"It left {n}.", "spans": spans}
    for n, spans in enumerate([[], None, [{"start": 3, "end": 7, "type": "Wrong"}], []])
]


def test_rows_keep_their_marks_through_the_store(tmp_path: Path) -> None:
    files(tmp_path, ROWS, "")
    reading = read_rows(tmp_path / "rows.jsonl")
    assert not reading.dropped and [row.marks for row in reading.rows] == [(), None, (Mark(3, 7, "Wrong"),), ()]
    store = open_store(tmp_path / "store")
    work = Work("dataset", "prepare", 1, {}, (), 0, "p")
    store.once(work, dict, within=lambda conn: store.datasets.add(conn, work.id, "train", reading.rows))
    assert store.datasets.rows(work.id, "train") == list(reading.rows)


def test_a_weight_of_a_type_that_no_row_marks_is_an_error_and_marks_that_nothing_weighs_are_said(
    tmp_path: Path,
) -> None:
    recipe = load(files(tmp_path, ROWS, "span_weights = { Wong = 0.0 }"))
    with pytest.raises(DataError, match='names "Wong", and no row marks an error of that type') as caught:
        gather(recipe, read_files(recipe, tmp_path), None)
    assert "its spans are of Wrong" in str(caught.value)
    recipe = load(files(tmp_path, ROWS, ""))
    odd = gather(recipe, read_files(recipe, tmp_path), None).odd
    assert any("count like other text: Wrong (1)" in note for note in odd)
    recipe = load(files(tmp_path, ROWS, "span_weights = { Wrong = 0.0 }"))
    assert not any("count like" in note for note in gather(recipe, read_files(recipe, tmp_path), None).odd)


def test_a_conversation_takes_no_spans(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    files(tmp_path, [*ROWS, {"messages": talk, "spans": [{"start": 0, "end": 3, "type": "x"}]}], "")
    (lost,) = read_rows(tmp_path / "rows.jsonl").dropped
    assert "no field of its own" in lost.reason


@pytest.mark.parametrize("share", ["1.5", "-0.1", '"none"'])
def test_a_share_is_from_0_to_1(tmp_path: Path, share: str) -> None:
    from burnish.errors import ConfigError

    with pytest.raises(ConfigError, match="span_weights"):
        load(files(tmp_path, ROWS, f"span_weights = {{ Wrong = {share} }}"))
