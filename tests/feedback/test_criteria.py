"""Choices by criterion: kept with the vote in the order of the answers, chained, counted, exported, simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import FeedbackError
from burnish.feedback import (
    add_comparisons,
    ensure_rater,
    export_votes,
    record_vote,
    simulate_votes,
    snapshot,
    summary,
    votes,
)
from burnish.feedback.comparisons import left_side
from burnish.recipes.support.raters import panel

ASKED = ("solves it", "house style")


def compare(desk: Any, item: Any, rater: str, choice: str, criteria: dict[str, str] | None, key: str = "") -> Any:
    return record_vote(
        desk.store, "support", rater, "compare", key=key or f"{rater} {item.id}", comparison=item.id, choice=choice,
        criteria=criteria, asked=ASKED,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_choice_by_criterion_is_kept_as_the_answer_that_was_meant(desk: Any) -> None:
    items = desk.items(8)
    ann = ensure_rater(desk.store, "support", "ann")
    assert {left_side(item.id, ann) for item in items} == {"a", "b"}  # or the test would not see sides mixed up
    for item in items:
        compare(desk, item, ann, "tie", {"solves it": "left", "house style": "right"})
    for item, vote in zip(items, votes(desk.store, "support"), strict=True):
        left = left_side(item.id, ann)
        other = "b" if left == "a" else "a"
        assert (vote.choice, dict(vote.criteria)) == ("tie", {"solves it": left, "house style": other})
    assert list(desk.store.verify().problems) == []


def test_criteria_are_optional_and_each_of_them_is(desk: Any) -> None:
    first, second = desk.items(2)
    ann = ensure_rater(desk.store, "support", "ann")
    compare(desk, first, ann, "left", None)
    compare(desk, second, ann, "left", {"house style": "tie"})
    assert [dict(vote.criteria) for vote in votes(desk.store, "support")] == [{}, {"house style": "tie"}]


def test_the_same_event_again_says_the_same_by_criterion(desk: Any) -> None:
    (item,) = desk.items(1)
    ann = ensure_rater(desk.store, "support", "ann")
    compare(desk, item, ann, "left", {"solves it": "left", "house style": "tie"})
    assert compare(desk, item, ann, "left", {"house style": "tie", "solves it": "left"}).duplicate
    with pytest.raises(FeedbackError, match="belongs to another vote"):
        compare(desk, item, ann, "left", {"house style": "left", "solves it": "left"})


def test_what_nobody_asked_about_is_refused(desk: Any) -> None:
    (item,) = desk.items(1)
    ann = ensure_rater(desk.store, "support", "ann")
    with pytest.raises(FeedbackError, match=r'nobody was asked about "tone"\n.*solves it, house style'):
        compare(desk, item, ann, "left", {"tone": "left"})
    with pytest.raises(FeedbackError, match='the choice by "solves it" is left, right or tie'):
        compare(desk, item, ann, "left", {"solves it": "a"})
    with pytest.raises(FeedbackError, match="a vote of kind thumb takes no criteria"):
        record_vote(
            desk.store, "support", ann, "thumb", key="t", exchange=item.a, value=1, criteria={"solves it": "left"},
            asked=ASKED,
        )  # fmt: skip
    assert votes(desk.store, "support") == []


def test_the_chain_holds_what_was_said_by_criterion(desk: Any) -> None:
    (item,) = desk.items(1)
    compare(desk, item, ensure_rater(desk.store, "support", "ann"), "left", {"solves it": "left"})
    with desk.store.write() as conn:
        conn.exec_driver_sql("DROP TRIGGER votes_no_update")
        conn.exec_driver_sql("UPDATE votes SET criteria = NULL")
    assert "votes 1: the row is not what was written" in list(desk.store.verify().problems)


def test_the_summary_counts_each_criterion_by_itself(desk: Any) -> None:
    items = desk.items(2, votes_wanted=2)
    ann, bob = (ensure_rater(desk.store, "support", name) for name in ("ann", "bob"))

    def side(item: Any, rater: str, answer: str) -> str:
        return "left" if left_side(item.id, rater) == answer else "right"

    for item in items:
        compare(desk, item, ann, side(item, ann, "a"), {"solves it": side(item, ann, "a"), "house style": "tie"})
    compare(desk, items[0], bob, side(items[0], bob, "b"), {"solves it": side(items[0], bob, "a")})
    said = snapshot(desk.store, "support", [desk.tuned], 0, ["human"]).body["criteria"]
    assert said == summary(desk.store, "support", votes(desk.store, "support"))["criteria"]
    assert {name: (found["votes"], found["ties"]) for name, found in said.items()} == {
        "solves it": (3, 0.0),
        "house style": (2, 1.0),
    }
    assert (said["solves it"]["agreement"]["value"], said["house style"]["agreement"]) == (1.0, None)


def test_the_export_holds_the_choices_by_criterion(desk: Any, tmp_path: Path) -> None:
    (item,) = desk.items(1)
    ann = ensure_rater(desk.store, "support", "ann")
    compare(desk, item, ann, "left", {"solves it": "left"})
    assert export_votes(desk.store, "support", tmp_path / "votes.jsonl") == 1
    row = json.loads((tmp_path / "votes.jsonl").read_text())
    assert row["criteria"] == {"solves it": row["choice"]}


def test_simulated_raters_judge_by_the_parts_that_a_criterion_is_about(desk: Any) -> None:
    """The first answer solves it and is unfinished, the second is well formed and names nothing."""
    question = "My kettle arrived with a crack, what can I do?"
    solves = "Please reply with a photo of the kettle so that I can send a new one and then I will also"
    polite = "Thank you so much for your kind message, we do read every one of them with care. I am happy to help!"
    made = [
        (desk.answer(solves, question, finish_reason="length"), desk.answer(f"{polite} {n}?", question))
        for n in range(12)
    ]
    add_comparisons(desk.store, "support", made, "train", "turn-1", 1)
    simulate_votes(desk.store, "support", "turn-1", panel(0, lapse=0.0)[0], asked=ASKED)
    said = [vote.criteria for vote in votes(desk.store, "support")]
    won = {name: sum(found[name] == "a" for found in said) for name in ASKED}
    assert won["solves it"] >= 10 and won["house style"] <= 2
    assert {vote.source for vote in votes(desk.store, "support")} == {"simulated"}
