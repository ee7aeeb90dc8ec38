"""Votes: what is taken, how it is bound, and what is refused."""

from __future__ import annotations

import math
import sqlite3
from typing import Any

import pytest
from sqlalchemy import event, select

from burnish.errors import FeedbackError
from burnish.feedback import Receipt, count, ensure_rater, record_vote, undo, votes
from burnish.feedback.comparisons import left_side
from burnish.store import schema as tables


@pytest.fixture
def ann(desk: Any) -> str:
    return ensure_rater(desk.store, "support", "ann")


def broken(desk: Any) -> list[str]:
    return list(desk.store.verify().problems)


def test_each_kind_is_kept_and_bound_to_its_answer(desk: Any, ann: str) -> None:
    (item,) = desk.items(1)
    answer = desk.answer("Look in your inbox.", version=desk.base.id)
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=item.id, choice="right")
    record_vote(desk.store, "support", ann, "rating", key="2", exchange=answer, value=4)
    record_vote(desk.store, "support", ann, "thumb", key="3", exchange=answer, value=-1)
    record_vote(desk.store, "support", ann, "edit", key="4", exchange=answer, text="Open the link.")
    compare, rating, thumb, edit = votes(desk.store, "support")
    left = left_side(item.id, ann)
    assert (compare.exchange, compare.other, compare.comparison) == (item.a, item.b, item.id)
    assert (compare.choice, compare.left) == ("b" if left == "a" else "a", left)
    assert (compare.version, compare.other_version) == (desk.tuned.id, desk.tuned.id)
    assert (rating.value, thumb.value, edit.text) == (4.0, -1.0, "Open the link.")
    assert {vote.version for vote in (rating, thumb, edit)} == {desk.base.id}
    assert {(vote.rater, vote.source) for vote in votes(desk.store, "support")} == {(ann, "human")}
    assert [vote.sequence for vote in votes(desk.store, "support")] == [1, 2, 3, 4]
    assert broken(desk) == []


def test_a_tie_is_a_tie(desk: Any, ann: str) -> None:
    (item,) = desk.items(1)
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=item.id, choice="tie")
    assert votes(desk.store, "support")[0].choice == "tie"


def test_the_same_event_again_is_acknowledged_and_kept_once(desk: Any, ann: str) -> None:
    answer = desk.answer("No.")
    for kind, content in (("thumb", {"value": 1}), ("edit", {"text": "Yes."})):
        first = record_vote(desk.store, "support", ann, kind, key=kind, exchange=answer, **content)  # type: ignore[arg-type]
        again = record_vote(desk.store, "support", ann, kind, key=kind, exchange=answer, **content)  # type: ignore[arg-type]
        assert (first.duplicate, again) == (False, Receipt(first.sequence, True))
    (item,) = desk.items(1)
    for duplicate in (False, True):
        receipt = record_vote(desk.store, "support", ann, "compare", key="c", comparison=item.id, choice="left")
        assert receipt == Receipt(3, duplicate)
    assert count(desk.store, "support") == 3
    assert broken(desk) == []


def test_the_same_key_with_other_content_is_refused(desk: Any, ann: str) -> None:
    answer, other = desk.answer("No."), desk.answer("Never.")
    bob = ensure_rater(desk.store, "support", "bob")
    record_vote(desk.store, "support", ann, "thumb", key="k", exchange=answer, value=1)
    record_vote(desk.store, "support", ann, "edit", key="e", exchange=answer, text="Yes.")
    for rater, kind, key, content in (
        (ann, "thumb", "k", {"exchange": answer, "value": -1}),
        (ann, "thumb", "k", {"exchange": other, "value": 1}),
        (ann, "rating", "k", {"exchange": answer, "value": 1}),
        (bob, "thumb", "k", {"exchange": answer, "value": 1}),
        (ann, "edit", "e", {"exchange": answer, "text": "Perhaps."}),
    ):
        with pytest.raises(FeedbackError, match="belongs to another vote"):
            record_vote(desk.store, "support", rater, kind, key=key, **content)  # type: ignore[arg-type]
    assert count(desk.store, "support") == 2


def test_equal_content_with_another_key_is_another_event(desk: Any, ann: str) -> None:
    bob = ensure_rater(desk.store, "support", "bob")
    answer = desk.answer("No.")
    for rater in (ann, bob):
        assert not record_vote(desk.store, "support", rater, "thumb", key=rater, exchange=answer, value=1).duplicate
    assert count(desk.store, "support") == 2


def test_a_later_thumb_replaces_the_former_and_undoing_it_brings_that_back(desk: Any, ann: str) -> None:
    answer = desk.answer("No.")
    record_vote(desk.store, "support", ann, "thumb", key="1", exchange=answer, value=1)
    record_vote(desk.store, "support", ann, "thumb", key="2", exchange=answer, value=-1)
    assert [vote.value for vote in votes(desk.store, "support")] == [-1.0]
    undo(desk.store, "support", ann, key="3")
    assert [vote.value for vote in votes(desk.store, "support")] == [1.0]


def test_undo_takes_back_ones_own_last_vote_once(desk: Any, ann: str) -> None:
    bob = ensure_rater(desk.store, "support", "bob")
    first, second = desk.answer("No."), desk.answer("Yes.")
    with pytest.raises(FeedbackError, match="no vote of yours"):
        undo(desk.store, "support", ann, key="u0")
    record_vote(desk.store, "support", ann, "thumb", key="1", exchange=first, value=1)
    record_vote(desk.store, "support", ann, "thumb", key="2", exchange=second, value=1)
    record_vote(desk.store, "support", bob, "thumb", key="3", exchange=second, value=1)
    receipt = undo(desk.store, "support", ann, key="u1")
    assert [vote.key for vote in votes(desk.store, "support")] == ["1", "3"]
    assert undo(desk.store, "support", ann, key="u1") == Receipt(receipt.sequence, True)
    with pytest.raises(FeedbackError, match="already"):
        undo(desk.store, "support", ann, key="u2")
    for rater, key in ((bob, "u1"), (ann, "1")):
        with pytest.raises(FeedbackError, match="belongs to another"):
            undo(desk.store, "support", rater, key=key)
    assert [vote.key for vote in votes(desk.store, "support", up_to=3)] == ["1", "2", "3"]
    assert broken(desk) == []


def test_votes_by_kind_source_campaign_and_purpose(desk: Any, ann: str) -> None:
    robot = ensure_rater(desk.store, "support", "simulated-1", "simulated")
    train, judge = desk.items(1)[0], desk.items(1, campaign="turn-1-judge", purpose="judge")[0]
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=train.id, choice="left")
    record_vote(desk.store, "support", robot, "compare", key="2", comparison=judge.id, choice="left")
    record_vote(desk.store, "support", ann, "thumb", key="3", exchange=train.a, value=1)
    keys = {
        "human": [v.key for v in votes(desk.store, "support", sources=["human"])],
        "compare": [v.key for v in votes(desk.store, "support", kinds=["compare"])],
        "campaign": [v.key for v in votes(desk.store, "support", campaign="turn-1")],
        "judge": [v.key for v in votes(desk.store, "support", purpose="judge")],
    }
    assert keys == {"human": ["1", "3"], "compare": ["1", "2"], "campaign": ["1"], "judge": ["2"]}
    assert count(desk.store, "support", sources=["simulated"]) == 1


def test_what_decides_a_gate_never_trains(desk: Any, ann: str) -> None:
    judge = desk.items(1, campaign="turn-1-judge", purpose="judge")[0]
    served = desk.answer("No.")
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=judge.id, choice="left")
    record_vote(desk.store, "support", ann, "edit", key="2", exchange=judge.b, text="Better.")
    record_vote(desk.store, "support", ann, "edit", key="3", exchange=served, text="Yes.")
    assert [vote.key for vote in votes(desk.store, "support", purpose="train")] == ["3"]
    assert [vote.key for vote in votes(desk.store, "support", purpose="judge")] == ["1", "2"]


def test_simulated_votes_never_count_as_human(desk: Any, ann: str) -> None:
    """The source belongs to the rater: neither a caller nor a name can change it."""
    robot = ensure_rater(desk.store, "support", "simulated-1", "simulated")
    answer = desk.answer("No.")
    record_vote(desk.store, "support", robot, "thumb", key="1", exchange=answer, value=1)
    assert votes(desk.store, "support", sources=["human"]) == []
    assert [vote.source for vote in votes(desk.store, "support")] == ["simulated"]
    with pytest.raises(FeedbackError, match="is a simulated rater"):
        ensure_rater(desk.store, "support", "simulated-1", "human")
    with pytest.raises(FeedbackError, match="is a human rater"):
        ensure_rater(desk.store, "support", "ann", "simulated")
    with pytest.raises(FeedbackError, match="no source"):
        ensure_rater(desk.store, "support", "cay", "robot")  # type: ignore[arg-type]
    assert ensure_rater(desk.store, "support", " ann ") == ann


@pytest.mark.parametrize(
    ("kind", "content", "what"),
    [
        ("compare", {"comparison": "comparison-0", "choice": "left"}, "no comparison"),
        ("compare", {"comparison": "comparison-0"}, "needs choice"),
        ("compare", {"comparison": "comparison-0", "choice": "a"}, "left, right or tie"),
        ("compare", {"comparison": ["x"], "choice": "left"}, "a string"),
        ("compare", {"comparison": "c", "choice": "left", "exchange": "e"}, "takes no exchange"),
        ("rating", {"exchange": "ANSWER", "value": 0}, "1, 2, 3, 4, 5"),
        ("rating", {"exchange": "ANSWER", "value": 3.5}, "1, 2, 3, 4, 5"),
        ("rating", {"exchange": "ANSWER", "value": math.nan}, "1, 2, 3, 4, 5"),
        ("rating", {"exchange": "ANSWER", "value": True}, "1, 2, 3, 4, 5"),
        ("rating", {"exchange": "ANSWER", "value": "5"}, "1, 2, 3, 4, 5"),
        ("thumb", {"exchange": "ANSWER", "value": 0}, "1, -1"),
        ("thumb", {"exchange": "exchange-unknown", "value": 1}, "no answer"),
        ("edit", {"exchange": "ANSWER", "text": " \n"}, "empty"),
        ("edit", {"exchange": "ANSWER", "text": " No. "}, "equals the answer"),
        ("edit", {"exchange": "ANSWER", "text": 5}, "empty"),
        ("edit", {"exchange": "ANSWER", "text": "x" * 100_001}, "longer than"),
        ("star", {"exchange": "ANSWER"}, "no kind of vote"),
        ("undo", {"exchange": "ANSWER"}, "no kind of vote"),
    ],
)
def test_what_is_no_vote_is_refused(desk: Any, ann: str, kind: Any, content: dict, what: str) -> None:
    answer = desk.answer("No.")
    content = {name: answer if value == "ANSWER" else value for name, value in content.items()}
    with pytest.raises(FeedbackError, match=what):
        record_vote(desk.store, "support", ann, kind, key="1", **content)
    assert count(desk.store, "support") == 0


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x00b", "a\nb", 7])
def test_a_bad_key_is_refused(desk: Any, ann: str, key: Any) -> None:
    with pytest.raises(FeedbackError, match="key"):
        record_vote(desk.store, "support", ann, "thumb", key=key, exchange=desk.answer("No."), value=1)


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x00b", "a\u2028b"])
def test_a_bad_rater_is_refused(desk: Any, name: str) -> None:
    with pytest.raises(FeedbackError, match="80 printable"):
        ensure_rater(desk.store, "support", name)
    with pytest.raises(FeedbackError, match="no rater"):
        record_vote(desk.store, "support", name, "thumb", key="1", exchange=desk.answer("No."), value=1)


def test_another_projects_answers_and_raters_are_out_of_reach(desk: Any, ann: str) -> None:
    answer = desk.answer("No.")
    stranger = ensure_rater(desk.store, "elsewhere", "ann")
    with pytest.raises(FeedbackError, match="no rater"):
        record_vote(desk.store, "support", stranger, "thumb", key="1", exchange=answer, value=1)
    with pytest.raises(FeedbackError, match="no answer"):
        record_vote(desk.store, "elsewhere", stranger, "thumb", key="1", exchange=answer, value=1)


@pytest.mark.parametrize(
    "text",
    [
        "with \x00 inside",
        "<script>alert(1)</script>",
        "\ud800 lone",
        "מים 水 🫖",
        "'; DROP TABLE votes; --",
        "y" * 100_000,
    ],
    ids=["nul", "script", "surrogate", "scripts", "sql", "huge"],
)
def test_odd_text_comes_back_as_it_was(desk: Any, ann: str, text: str) -> None:
    answer = desk.answer("No.")
    record_vote(desk.store, "support", ann, "edit", key="1", exchange=answer, text=text)
    assert votes(desk.store, "support")[0].text == text
    assert record_vote(desk.store, "support", ann, "edit", key="1", exchange=answer, text=text).duplicate
    assert broken(desk) == []


def test_a_correction_is_erased_with_the_answers_subject(desk: Any, ann: str) -> None:
    answer = desk.answer("No.", subject="s-7")
    record_vote(desk.store, "support", ann, "edit", key="1", exchange=answer, text="Dear Zebedee, yes.")
    desk.store.forget("support", "s-7")
    assert votes(desk.store, "support") == []
    for file in desk.store.path.rglob("*"):
        assert not file.is_file() or b"Zebedee" not in file.read_bytes(), file
    assert broken(desk) == []


def test_the_commit_that_acknowledges_is_synchronous(desk: Any, ann: str) -> None:
    """FULL and WAL on the very connection that commits, and nothing open when the receipt is given."""
    seen: list[tuple[int, str, int]] = []

    def look(conn: Any) -> None:
        raw: sqlite3.Connection = conn.connection.driver_connection
        seen.append(
            (
                raw.execute("PRAGMA synchronous").fetchone()[0],
                raw.execute("PRAGMA journal_mode").fetchone()[0],
                raw.execute("PRAGMA foreign_keys").fetchone()[0],
            )
        )

    answer = desk.answer("No.")
    event.listen(desk.store.engine, "commit", look)
    receipt = record_vote(desk.store, "support", ann, "thumb", key="1", exchange=answer, value=1)
    event.remove(desk.store.engine, "commit", look)
    assert (2, "wal", 1) in seen and set(seen) == {(2, "wal", 1)}
    other = sqlite3.connect(desk.store.path / "burnish.db")  # another process would see the same
    assert other.execute("SELECT key FROM votes WHERE sequence = ?", (receipt.sequence,)).fetchall() == [("1",)]
    other.close()


def test_every_vote_is_chained_to_the_one_before(desk: Any, ann: str) -> None:
    answer = desk.answer("No.")
    for n in range(3):
        record_vote(desk.store, "support", ann, "thumb", key=str(n), exchange=answer, value=1)
    undo(desk.store, "support", ann, key="u")
    with desk.store.read() as conn:
        rows = conn.execute(select(tables.votes).order_by(tables.votes.c.sequence)).all()
    assert [row.previous for row in rows] == [None, *(row.digest for row in rows[:-1])]
    assert len({row.digest for row in rows}) == 4
