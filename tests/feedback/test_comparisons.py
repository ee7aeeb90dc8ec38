"""The queue: who is offered what, never beyond what is wanted, never twice."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from burnish.errors import FeedbackError
from burnish.feedback import add_comparisons, comparisons, ensure_rater, next_comparison, record_vote, undo, waiting
from burnish.feedback.comparisons import LEASE, left_side

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_two_raters_hold_two_items_and_a_third_finds_none(desk: Any) -> None:
    desk.items(2)
    ann, bob, cay = (ensure_rater(desk.store, "support", name) for name in ("ann", "bob", "cay"))
    first = next_comparison(desk.store, "support", ann, NOON)
    second = next_comparison(desk.store, "support", bob, NOON)
    assert first and second and first.comparison != second.comparison
    assert next_comparison(desk.store, "support", cay, NOON) is None
    again = next_comparison(desk.store, "support", ann, NOON)
    assert again and again.comparison == first.comparison


def test_a_lease_expires_and_the_item_is_free_again(desk: Any) -> None:
    (item,) = desk.items(1)
    ann, bob = (ensure_rater(desk.store, "support", name) for name in ("ann", "bob"))
    offer = next_comparison(desk.store, "support", ann, NOON)
    assert offer and offer.expires_at == (NOON + LEASE).isoformat(timespec="microseconds")
    just_before, at_the_end = NOON + LEASE - timedelta(microseconds=1), NOON + LEASE
    assert next_comparison(desk.store, "support", bob, just_before) is None
    later = next_comparison(desk.store, "support", bob, at_the_end)
    assert later and later.comparison == item.id
    assert next_comparison(desk.store, "support", ann, at_the_end) is None


def test_threads_lease_distinct_items(desk: Any) -> None:
    desk.items(12)
    raters = [ensure_rater(desk.store, "support", f"rater {n}") for n in range(16)]
    offers: dict[str, Any] = {}
    start = threading.Barrier(len(raters))

    def ask(rater: str) -> None:
        start.wait()
        offers[rater] = next_comparison(desk.store, "support", rater, NOON)

    threads = [threading.Thread(target=ask, args=(rater,)) for rater in raters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [offer.comparison for offer in offers.values() if offer]
    assert len(offers) == 16 and len(taken) == len(set(taken)) == 12


def test_overlap_offers_an_item_to_as_many_as_it_wants(desk: Any) -> None:
    (item,) = desk.items(1, votes_wanted=3)
    raters = [ensure_rater(desk.store, "support", name) for name in "abcd"]
    offers = [next_comparison(desk.store, "support", rater, NOON) for rater in raters]
    assert [bool(offer) for offer in offers] == [True, True, True, False]
    record_vote(desk.store, "support", raters[0], "compare", key="1", comparison=item.id, choice="left")
    assert next_comparison(desk.store, "support", raters[3], NOON) is None  # one vote and two leases
    assert waiting(desk.store, "support", "turn-1") == (1, 3)


def test_a_rater_meets_an_item_again_only_after_taking_the_vote_back(desk: Any) -> None:
    (item,) = desk.items(1, votes_wanted=2)
    ann = ensure_rater(desk.store, "support", "ann")
    record_vote(desk.store, "support", ann, "compare", key="1", comparison=item.id, choice="tie")
    assert next_comparison(desk.store, "support", ann, NOON) is None
    with pytest.raises(FeedbackError, match="already"):
        record_vote(desk.store, "support", ann, "compare", key="2", comparison=item.id, choice="left")
    undo(desk.store, "support", ann, key="3")
    assert waiting(desk.store, "support", "turn-1") == (0, 2)
    again = next_comparison(desk.store, "support", ann, NOON)
    assert again and again.comparison == item.id
    record_vote(desk.store, "support", ann, "compare", key="4", comparison=item.id, choice="left")
    assert waiting(desk.store, "support", "turn-1") == (1, 2)


def test_an_offer_is_blind_and_its_sides_are_drawn_and_kept(desk: Any) -> None:
    items = desk.items(40, votes_wanted=2)
    ann, bob = (ensure_rater(desk.store, "support", name) for name in ("ann", "bob"))
    sides = {}
    for rater in (ann, bob):
        while offer := next_comparison(desk.store, "support", rater, NOON):
            item = next(item for item in items if item.id == offer.comparison)
            a, b = (desk.store.exchanges.get(id).answer for id in (item.a, item.b))
            left = left_side(item.id, rater)
            assert (offer.left, offer.right) == ((a, b) if left == "a" else (b, a))
            assert not {desk.tuned.id, desk.tuned.name} & set(map(str, (offer.comparison, *offer.prompt)))
            record_vote(desk.store, "support", rater, "compare", key=rater + item.id, comparison=item.id, choice="left")
            sides[rater, item.id] = left
    for rater in (ann, bob):
        assert 8 <= sum(sides[rater, item.id] == "a" for item in items) <= 32
    assert any(sides[ann, item.id] != sides[bob, item.id] for item in items)


def test_a_campaign_or_a_project_of_its_own(desk: Any) -> None:
    desk.items(1, campaign="old")
    (new,) = desk.items(1, campaign="new", purpose="judge")
    ann = ensure_rater(desk.store, "support", "ann")
    offer = next_comparison(desk.store, "support", ann, NOON, campaign="new")
    assert offer and (offer.comparison, offer.purpose, offer.campaign) == (new.id, "judge", "new")
    stranger = ensure_rater(desk.store, "elsewhere", "ann")
    assert next_comparison(desk.store, "elsewhere", stranger, NOON) is None
    with pytest.raises(FeedbackError, match="no rater"):
        next_comparison(desk.store, "support", stranger, NOON)


def test_an_item_whose_text_was_erased_is_not_offered(desk: Any) -> None:
    pair = [desk.answer("One.", subject="s-1"), desk.answer("Two.")]
    add_comparisons(desk.store, "support", [(pair[0], pair[1])], "train", "turn-1", 1)
    ann = ensure_rater(desk.store, "support", "ann")
    desk.store.forget("support", "s-1")
    assert next_comparison(desk.store, "support", ann, NOON) is None


def test_adding_the_same_pairs_again_adds_nothing(desk: Any) -> None:
    pair = (desk.answer("One."), desk.answer("Two."))
    first = add_comparisons(desk.store, "support", [pair], "train", "turn-1", 1)
    assert add_comparisons(desk.store, "support", [pair], "train", "turn-1", 1) == first
    assert comparisons(desk.store, "support") == first
    assert len(comparisons(desk.store, "support", ids=[first[0].id, "other"])) == 1


def test_pairs_that_ask_nothing_are_refused_and_nothing_is_added(desk: Any) -> None:
    good = (desk.answer("One."), desk.answer("Two."))
    for pair, what in (
        ((desk.answer("Same."), desk.answer(" Same.\n")), "equal"),
        ((good[0], good[0]), "equal"),
        ((good[0], desk.answer("Two.", "Another prompt?")), "same prompt"),
        ((good[0], "exchange-unknown"), "no exchange"),
    ):
        with pytest.raises(FeedbackError, match=what) as caught:
            add_comparisons(desk.store, "support", [good, pair], "train", "turn-1", 1)
        assert caught.value.where == "pair 2"
    with pytest.raises(FeedbackError, match="0 votes"):
        add_comparisons(desk.store, "support", [good], "train", "turn-1", 0)
    assert comparisons(desk.store, "support") == []
