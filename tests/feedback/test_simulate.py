"""Simulated raters use the same door as people, twice without doubling, and stay told apart."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.feedback import (
    add_comparisons,
    ensure_rater,
    next_comparison,
    raters,
    record_vote,
    simulate_marks,
    simulate_votes,
    votes,
    waiting,
)
from burnish.progress import Silent
from burnish.recipes.support.raters import panel

QUESTION = "The kettle is cold, what now?"
GOOD = (
    "Sorry about that. Please unplug the kettle, wait ten minutes and try another socket in the kitchen. "
    "Shall I send you a new one if it stays cold?"
)
POOR = "It is cold it is cold it is cold"


def pairs(desk: Any, number: int, votes_wanted: int, campaign: str = "turn-1") -> None:
    made = [
        (desk.answer(GOOD, QUESTION), desk.answer(f"{POOR} {n}", QUESTION, finish_reason="length"))
        for n in range(number)
    ]
    add_comparisons(desk.store, "support", made, "train", campaign, votes_wanted)


class Killed(Exception):
    pass


class Dies(Silent):
    """Progress that ends the run in its middle."""

    def update(self, what: str, done: int, total: int, note: str = "") -> None:
        if done == 5:
            raise Killed


def test_a_panel_votes_as_the_rule_says_and_is_marked_simulated(desk: Any) -> None:
    pairs(desk, 12, votes_wanted=2)
    train, _ = panel(0, lapse=0.0)
    assert simulate_votes(desk.store, "support", "turn-1", train) == 24
    found = votes(desk.store, "support")
    assert waiting(desk.store, "support", "turn-1") == (24, 24)
    assert {vote.source for vote in found} == {"simulated"}
    assert {vote.choice for vote in found} == {"a"}
    assert {vote.left for vote in found} == {"a", "b"}
    assert {raters(desk.store, "support")[vote.rater].name for vote in found} == {r.name for r in train}


def test_a_killed_and_repeated_simulation_doubles_nothing(desk: Any) -> None:
    pairs(desk, 8, votes_wanted=3)
    train, _ = panel(0)
    with pytest.raises(Killed):
        simulate_votes(desk.store, "support", "turn-1", train, Dies())
    assert waiting(desk.store, "support", "turn-1") == (15, 24)
    before = votes(desk.store, "support")
    assert simulate_votes(desk.store, "support", "turn-1", train) == 9
    assert simulate_votes(desk.store, "support", "turn-1", train) == 0
    after = votes(desk.store, "support")
    assert after[:15] == before and len({vote.key for vote in after}) == 24


def test_the_same_items_get_the_same_votes(desk: Any, tmp_path: Any, desk_at: Any) -> None:
    other = desk_at(tmp_path / "other")
    for each in (desk, other):
        pairs(each, 10, votes_wanted=1)
        simulate_votes(each.store, "support", "turn-1", panel(3)[0])
    said = [[(v.key, v.choice, v.left) for v in votes(each.store, "support")] for each in (desk, other)]
    assert said[0] == said[1]


def test_people_and_panel_share_a_campaign_and_stay_apart(desk: Any) -> None:
    pairs(desk, 2, votes_wanted=2)
    ann = ensure_rater(desk.store, "support", "ann")
    offer = next_comparison(desk.store, "support", ann)
    assert offer is not None
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=offer.comparison, choice="tie")
    simulate_votes(desk.store, "support", "turn-1", panel(0)[0])
    assert len(votes(desk.store, "support", sources=["human"])) == 1
    assert len(votes(desk.store, "support", sources=["simulated"])) == 4


def test_only_the_named_campaign_is_voted_on(desk: Any) -> None:
    pairs(desk, 1, votes_wanted=1)
    pairs(desk, 1, votes_wanted=1, campaign="judging")
    simulate_votes(desk.store, "support", "judging", panel(0)[1])
    assert waiting(desk.store, "support", "turn-1") == (0, 1)
    assert waiting(desk.store, "support", "judging") == (1, 1)


def test_simulated_raters_mark_what_breaks_their_rule_once_and_as_simulated(desk: Any) -> None:
    pairs(desk, 4, votes_wanted=1)
    raters_now = panel(seed=0, lapse=0.0)[0]
    assert simulate_marks(desk.store, "support", "turn-1", raters_now, ["repeats", "invents"]) == 8
    assert simulate_marks(desk.store, "support", "turn-1", raters_now, ["repeats", "invents"]) == 0
    cast = votes(desk.store, "support", kinds=["span"])
    texts = desk.store.exchanges.many([vote.exchange for vote in cast])
    assert {vote.source for vote in cast} == {"simulated"} and len({vote.rater for vote in cast}) > 1
    for vote in cast:
        answer = texts[vote.exchange].answer
        found = [(mark.kind, answer[mark.start : mark.stop]) for mark in vote.marks or ()]
        if answer == GOOD:
            assert found == []
        else:
            assert found == [("invents", answer[-1]), ("repeats", "it is cold it is cold")]
