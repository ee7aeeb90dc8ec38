"""Marks: kept with their places, taken once, replaced, refused where they lie nowhere, and handed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.data import read_rows
from burnish.errors import FeedbackError
from burnish.feedback import (
    Receipt,
    ensure_rater,
    export_votes,
    next_to_mark,
    overlap,
    record_vote,
    snapshot,
    undo,
    votes,
)
from burnish.records import Mark

ANSWER = "Größe 😀: e\u0301 it is far, far away."  # a composed and a two-part character, and one beyond 16 bits


@pytest.fixture
def ann(desk: Any) -> str:
    return ensure_rater(desk.store, "support", "ann")


def mark(desk: Any, rater: str, key: str, answer: str, *marks: Mark) -> Receipt:
    return record_vote(desk.store, "support", rater, "span", key=key, exchange=answer, marks=marks)


def test_marks_are_kept_at_their_places_and_bound_to_the_answers_version(desk: Any, ann: str) -> None:
    answer = desk.answer(ANSWER, version=desk.base.id)
    far, face = ANSWER.index("far"), ANSWER.index("😀")
    given = (Mark(face, face + 1, "tone"), Mark(far, far + 3, " vague "))
    first, again = mark(desk, ann, "k", answer, *given), mark(desk, ann, "k", answer, *given)
    assert again == Receipt(first.sequence, duplicate=True)
    (vote,) = votes(desk.store, "support")
    assert (vote.kind, vote.version, vote.source, vote.text) == ("span", desk.base.id, "human", None)
    assert vote.marks == (given[0], Mark(far, far + 3, "vague"))
    said = desk.store.exchanges.get(answer).answer
    assert [said[m.start : m.stop] for m in vote.marks] == ["😀", "far"]
    assert not desk.store.verify().problems


def test_no_mark_is_a_vote_too_and_a_later_one_takes_its_place_until_it_is_taken_back(desk: Any, ann: str) -> None:
    answer = desk.answer(ANSWER)
    mark(desk, ann, "1", answer)
    assert votes(desk.store, "support")[0].marks == ()
    mark(desk, ann, "2", answer, Mark(0, 5, "tone"))
    bob = ensure_rater(desk.store, "support", "bob", "simulated")
    mark(desk, bob, "3", answer)
    assert [(v.rater, v.marks, v.source) for v in votes(desk.store, "support")] == [
        (ann, (Mark(0, 5, "tone"),), "human"), (bob, (), "simulated"),
    ]  # fmt: skip
    undo(desk.store, "support", ann, key="4")
    assert [v.marks for v in votes(desk.store, "support", sources=["human"])] == [()]
    frozen = snapshot(desk.store, "support", (desk.tuned,), 0, ["human", "simulated"])
    assert frozen.body["by_kind"] == {"span": 2} and frozen.body["by_source"] == {"human": 1, "simulated": 1}


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([Mark(0, len(ANSWER) + 1, "x")], f"from 0 to {len(ANSWER) + 1}, and the answer has {len(ANSWER)} characters"),
        ([Mark(3, 3, "x")], "from 3 to 3 holds no character"),
        ([Mark(-1, 3, "x")], "from -1 to 3"),
        ([Mark(True, 3, "x")], "from True to 3"),
        ([Mark(0, 3, " ")], "a mark's type is a word"),
        ([Mark(0, 3, "x" * 81)], "a mark's type is a word"),
        ([Mark(0, 3, "x"), Mark(2, 5, "x")], 'two marks of type "x" overlap at character 2'),
        ([Mark(n, n + 1, "x") for n in range(201)], "201 marks on one answer"),
    ],
)
def test_marks_that_lie_nowhere_are_refused_and_nothing_is_kept(
    desk: Any, ann: str, marks: list[Mark], said: str
) -> None:
    with pytest.raises(FeedbackError) as error:
        mark(desk, ann, "k", desk.answer(ANSWER), *marks)
    assert said in str(error.value) and votes(desk.store, "support") == []


def test_a_key_of_other_marks_and_a_vote_that_does_not_fit_are_refused(desk: Any, ann: str) -> None:
    answer = desk.answer(ANSWER)
    mark(desk, ann, "k", answer, Mark(0, 5, "x"))
    with pytest.raises(FeedbackError, match="belongs to another vote"):
        mark(desk, ann, "k", answer, Mark(0, 4, "x"))
    with pytest.raises(FeedbackError, match="needs marks"):
        record_vote(desk.store, "support", ann, "span", key="2", exchange=answer)
    with pytest.raises(FeedbackError, match="takes no marks"):
        record_vote(desk.store, "support", ann, "thumb", key="2", exchange=answer, value=1, marks=[])


def test_overlap_is_of_one_kind() -> None:
    assert overlap([Mark(0, 4, "x"), Mark(2, 6, "y"), Mark(4, 6, "x")]) is None
    assert overlap([Mark(5, 9, "x"), Mark(0, 6, "x")]) == (Mark(0, 6, "x"), Mark(5, 9, "x"))


def test_marked_answers_are_exported_in_the_form_that_data_files_have(desk: Any, ann: str, tmp_path: Path) -> None:
    answer = desk.answer(ANSWER)
    far = ANSWER.index("far")
    mark(desk, ann, "1", answer, Mark(far, far + 3, "vague"))
    mark(desk, ann, "2", desk.answer("It is near."))
    assert export_votes(desk.store, "support", tmp_path / "out.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["human", "human"] and lines[1]["spans"] == []
    for wanted in ("preferences", "answers"):
        rows = read_rows(tmp_path / "out.jsonl", wanted=wanted).rows  # type: ignore[arg-type]
        assert [row.prompt[0].content for row in rows] == ["Where is my kettle?"] * 2
        (found,) = rows[0].marks or ()
        assert (rows[0].answer or "")[found.start : found.stop] == "far" and found.kind == "vague"
        assert rows[1].marks == ()


def test_an_erased_answer_takes_its_marks_with_it(desk: Any, ann: str) -> None:
    answer = desk.answer(ANSWER, subject="s-1")
    mark(desk, ann, "1", answer, Mark(0, 5, "x"))
    desk.store.forget("support", subject="s-1")
    assert votes(desk.store, "support") == [] and not desk.store.verify().problems
    with pytest.raises(FeedbackError, match="erased"):
        mark(desk, ann, "2", answer)


def test_the_least_marked_answers_of_training_pairs_come_first_and_nobody_meets_one_twice(desk: Any, ann: str) -> None:
    items = desk.items(3)
    desk.items(1, campaign="judge", purpose="judge")
    bob = ensure_rater(desk.store, "support", "bob")
    known = {id for item in items for id in (item.a, item.b)}
    met = []
    for number in range(6):
        found, left = next_to_mark(desk.store, "support", ann)
        assert found is not None and left == 6 - number
        met.append(found.id)
        mark(desk, ann, str(number), found.id)
        if number == 0:
            other, left = next_to_mark(desk.store, "support", bob)
            assert other is not None and other.id != found.id and left == 6
    assert set(met) == known and next_to_mark(desk.store, "support", ann) == (None, 0)
    first, _ = next_to_mark(desk.store, "support", bob)
    assert first is not None
    second, left = next_to_mark(desk.store, "support", bob, skipped=[first.id])
    assert second is not None and second.id != first.id and left == 6
