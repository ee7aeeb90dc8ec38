"""Segments of an answer, the tokens that end them, and which are wrong, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.data.marks import marks_of
from burnish.data.read import read_rows
from burnish.data.render import Renderer
from burnish.data.segments import ends, segments, wrong
from burnish.data.shapes import BadRow
from burnish.errors import DataError
from burnish.records import Mark


def texts(text: str, size: str) -> list[str]:
    return [text[start:stop] for start, stop in segments(text, size)]  # type: ignore[arg-type]


def test_sentences_end_with_their_marks_and_with_lines() -> None:
    assert texts('  He left. "Why?" No one knows!\n- a list\n\n', "sentence") == [
        "He left.", '"Why?"', "No one knows!", "- a list",
    ]  # fmt: skip
    assert texts("Version 2.5 costs 3.10 euros", "sentence") == ["Version 2.5 costs 3.10 euros"]
    assert texts("他走了。为什么？", "sentence") == ["他走了。", "为什么？"]
    assert texts("", "sentence") == texts(" \n", "sentence") == []


def test_a_short_clause_belongs_to_the_next_and_the_last_one_to_the_one_before() -> None:
    text = "Well, it came out in May of 2018, and the album followed in August, too. Yes, really."
    assert texts(text, "clause") == [
        "Well, it came out in May of 2018,",
        "and the album followed in August, too.",
        "Yes, really.",
    ]


def test_the_whole_answer_is_one_segment_even_where_it_is_empty() -> None:
    assert segments(" a. b. ", "answer") == [(0, 7)] and segments("", "answer") == [(0, 0)]


def test_a_segment_ends_with_the_last_token_that_stands_for_a_character_of_it() -> None:
    # "No", ". It", " is", ".", stop: the second token stands for the end of one sentence and the start of the next
    offsets = [(0, 2), (2, 6), (6, 9), (9, 10), (10, 10)]
    assert segments("No. It is.", "sentence") == [(0, 3), (4, 10)]
    assert ends([(0, 3), (4, 10)], offsets, "sentence") == [1, 3]
    assert ends([(0, 10)], offsets, "answer") == [4]
    assert ends([(3, 4)], [(0, 3), (4, 5)], "clause") == [None]


def test_a_segment_is_wrong_where_a_mark_of_the_kind_shares_a_character() -> None:
    places = [(0, 3), (4, 10)]
    assert wrong(places, [Mark(0, 4, "x"), Mark(5, 6, "y")], "x") == [True, False]
    assert wrong(places, [Mark(2, 5, "x")], "x") == [True, True]
    assert wrong(places, [Mark(3, 4, "x")], "x") == [False, False] == wrong(places, [], "x")


@pytest.mark.parametrize("text", ["the kettle. is it in the post?", "Größe 😀 the end. é", "", "a😀b, c"])
def test_places_of_sampled_ids_are_the_characters_that_each_adds(tiny_model_folder: Path, text: str) -> None:
    renderer = Renderer.from_folder(tiny_model_folder, None)
    ids = renderer.answer(text)
    places = renderer.places(ids)
    assert len(places) == len(ids) and places[-1] == (len(text), len(text))
    assert "".join(text[start:stop] for start, stop in places) == text == renderer.text(ids)
    if text.isascii():
        assert places == renderer.offsets(text)
    for size in ("clause", "sentence", "answer"):
        found = segments(text, size)
        assert ends(found, places, size) == ends(found, renderer.offsets(text), size)


def test_an_unfinished_character_at_the_end_has_its_place(tiny_model_folder: Path) -> None:
    renderer = Renderer.from_folder(tiny_model_folder, None)
    cut = renderer.answer("a😀")[:-2]  # without the last byte of the character, and the stop token
    assert renderer.places(cut)[0] == (0, 1) and renderer.places(cut)[-1][1] <= len(renderer.text(cut))


def test_two_spans_of_one_type_on_the_same_characters_are_refused() -> None:
    spans = [{"start": 0, "end": 5, "type": "x"}, {"start": 4, "end": 8, "type": "x"}]
    with pytest.raises(BadRow, match='two spans of type "x" overlap, at characters 4 to 5'):
        marks_of(spans, "It is far.")
    spans[1]["type"] = "y"
    assert len(marks_of(spans, "It is far.")) == 2
    assert len(marks_of([{"start": 0, "end": 4, "type": "x"}, {"start": 4, "end": 8, "type": "x"}], "It is far.")) == 2


def test_a_row_with_spans_alone_is_a_marked_answer_and_an_empty_list_says_that_somebody_looked(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(
        '{"prompt": "a", "completion": "It is.", "spans": [{"start": 0, "end": 2, "type": "x"}]}\n'
        '{"prompt": "b", "completion": "It is.", "spans": []}\n'
        '{"prompt": "c", "completion": "It is.", "label": "good"}\n'
        '{"prompt": "d", "completion": "It is.", "label": "bad", "spans": []}\n'
        '{"prompt": "e", "chosen": "It is.", "rejected": "No."}\n'
    )
    rows = read_rows(file, wanted="preferences").rows
    assert [row.marks for row in rows] == [(Mark(0, 2, "x"),), (), None, (), None]
    assert [row.label for row in rows] == [None, None, True, False, None]


def test_neither_a_pair_nor_a_row_without_judgement_takes_the_place_of_a_marked_answer(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(
        '{"prompt": "e", "chosen": "It is.", "rejected": "No.", "spans": []}\n{"prompt": "a", "completion": "It is."}\n'
    )
    with pytest.raises(DataError) as error:
        read_rows(file, wanted="preferences")
    assert '"spans" of an answer that is no field of its own' in str(error.value)
    assert "neither a rejected answer nor a label nor spans" in str(error.value)
