"""A judge's votes: whose they are, which way round they are kept, what a failure is, and what they do not use up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from burnish.errors import FeedbackError
from burnish.feedback import (
    ensure_rater,
    judge_agreement,
    judge_votes,
    next_comparison,
    raters,
    record_vote,
    simulate_votes,
    snapshot,
    votes,
    waiting,
)
from burnish.feedback.comparisons import left_side
from burnish.recipes.support.raters import panel
from burnish.records import Row


class Judge:
    """Prefers the answers that hold ``word``; has no answer about prompts that hold ``silent``."""

    def __init__(self, word: str, silent: str = "nothing at all") -> None:
        self.word, self.silent = word, silent
        self.asked: list[tuple[Row, str, str]] = []

    def __call__(self, cases: Sequence[tuple[Row, str, str]]) -> tuple[list[float | None], str | None]:
        self.asked += cases
        found: list[float | None] = []
        for row, a, b in cases:
            tie = (self.word in a) == (self.word in b)
            found.append(0.5 if tie else float(self.word in a))
            if self.silent in row.prompt[-1].content:
                found[-1] = None
        return found, "answered 500" if None in found else None


def test_a_vote_says_which_answer_was_better_wherever_it_stood(desk: Any) -> None:
    desk.items(12)
    assert judge_votes(desk.store, "support", "turn-1", "model", Judge("near")) == (12, 0, None)
    cast = votes(desk.store, "support")
    assert {(vote.source, vote.choice) for vote in cast} == {("judge", "a")}
    assert {vote.left for vote in cast} == {"a", "b"}
    assert judge_votes(desk.store, "support", "turn-1", "other", Judge("far")).voted == 12
    assert {vote.choice for vote in votes(desk.store, "support") if vote not in cast} == {"b"}
    assert judge_votes(desk.store, "support", "turn-1", "third", Judge("parcel")).voted == 12
    assert sum(vote.choice == "tie" for vote in votes(desk.store, "support")) == 12


def test_no_answer_is_no_vote_is_counted_and_is_asked_again(desk: Any) -> None:
    desk.items(4)
    deaf = Judge("near", silent="parcel 2")
    assert judge_votes(desk.store, "support", "turn-1", "model", deaf) == (3, 1, "answered 500")
    assert len(votes(desk.store, "support")) == 3
    well = Judge("near")
    assert judge_votes(desk.store, "support", "turn-1", "model", well) == (1, 0, None)
    assert ["parcel 2" in row.prompt[0].content for row, _, _ in well.asked] == [True]
    assert judge_votes(desk.store, "support", "turn-1", "model", well) == (0, 0, None) and len(well.asked) == 1


def test_people_are_asked_about_what_a_judge_has_judged(desk: Any) -> None:
    desk.items(3)
    judge_votes(desk.store, "support", "turn-1", "model", Judge("near"))
    assert waiting(desk.store, "support", "turn-1") == (0, 3)
    anna = ensure_rater(desk.store, "support", "anna")
    assert next_comparison(desk.store, "support", anna) is not None
    train, _ = panel(0)
    assert simulate_votes(desk.store, "support", "turn-1", train) == 3
    assert waiting(desk.store, "support", "turn-1") == (3, 3)


def test_only_who_is_named_is_read(desk: Any) -> None:
    desk.items(3)
    judge_votes(desk.store, "support", "turn-1", "model", Judge("near"))
    assert votes(desk.store, "support", sources=["human", "simulated"]) == []
    frozen = snapshot(desk.store, "support", (desk.tuned,), 0, ["human"])
    assert frozen.body["votes"] == 0 and frozen.body["by_source"] == {}
    both = snapshot(desk.store, "support", (desk.tuned,), 0, ["human", "judge"])
    assert both.body["by_source"] == {"judge": 3}


def test_a_judge_is_nobody_else(desk: Any) -> None:
    id = ensure_rater(desk.store, "support", "model", "judge")
    assert raters(desk.store, "support")[id].source == "judge"
    with pytest.raises(FeedbackError, match="is a judge rater"):
        ensure_rater(desk.store, "support", "model")
    with pytest.raises(FeedbackError, match="one of human, simulated, judge"):
        ensure_rater(desk.store, "support", "x", "machine")  # type: ignore[arg-type]


def test_how_far_a_judge_takes_peoples_side_by_hand(desk: Any) -> None:
    items = desk.items(5)
    judge_votes(desk.store, "support", "turn-1", "model", Judge("near"))  # always a
    assert judge_agreement(votes(desk.store, "support")) is None
    anna = ensure_rater(desk.store, "support", "anna")
    for item, choice in zip(items, ("a", "a", "b", "tie"), strict=False):  # of the fifth she says nothing
        seen = "tie" if choice == "tie" else "left" if left_side(item.id, anna) == choice else "right"
        record_vote(desk.store, "support", anna, "compare", key=f"anna:{item.id}", comparison=item.id, choice=seen)
    found = judge_agreement(votes(desk.store, "support"))
    assert found is not None and found.value == pytest.approx(2 / 3) and found.clusters == 3
