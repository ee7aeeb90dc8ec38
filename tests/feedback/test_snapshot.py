"""Frozen feedback, its summary, and its export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import FeedbackError
from burnish.feedback import ensure_rater, export_votes, record_vote, snapshot, summary, undo, votes
from burnish.feedback.comparisons import left_side


@pytest.fixture
def voted(desk: Any) -> Any:
    """Three items: ann and bob agree on the first and differ on the second; ann calls the third a tie."""
    items = desk.items(3, votes_wanted=2)
    ann, bob = (ensure_rater(desk.store, "support", name) for name in ("ann", "bob"))

    def vote(rater: str, item: Any, choice: str) -> None:
        left = left_side(item.id, rater)
        seen = "tie" if choice == "tie" else "left" if choice == left else "right"
        key = f"{rater} {item.id}"
        record_vote(desk.store, "support", rater, "compare", key=key, comparison=item.id, choice=seen)  # type: ignore[arg-type]

    for rater, item, choice in (
        (ann, items[0], "a"), (bob, items[0], "a"), (ann, items[1], "a"), (bob, items[1], "b"), (ann, items[2], "tie"),
    ):  # fmt: skip
        vote(rater, item, choice)
    desk.ann, desk.bob, desk.made = ann, bob, items
    return desk


def test_summary_by_hand(voted: Any) -> None:
    found = votes(voted.store, "support")
    said = summary(voted.store, "support", found)
    assert (said["votes"], said["by_source"], said["by_kind"]) == (5, {"human": 5}, {"compare": 5})
    assert said["by_rater"] == [
        {"rater": voted.ann, "name": "ann", "source": "human", "votes": 3, "share": 0.6},
        {"rater": voted.bob, "name": "bob", "source": "human", "votes": 2, "share": 0.4},
    ]
    assert said["largest_share"] == 0.6
    assert said["ties"] == pytest.approx(0.2)
    assert said["left"] == sum(vote.choice == vote.left for vote in found) / 4
    assert (said["agreement"]["value"], said["agreement"]["items"]) == (0.5, 2)
    assert said["agreement"]["low"] <= 0.5 <= said["agreement"]["high"]


def test_summary_of_nothing_knows_nothing(desk: Any) -> None:
    said = summary(desk.store, "support", [])
    assert said["votes"] == 0
    assert [said[name] for name in ("largest_share", "ties", "left", "agreement")] == [None] * 4


def test_a_snapshot_does_not_change_when_votes_come_in(voted: Any) -> None:
    first = snapshot(voted.store, "support", [voted.tuned], 0, ["human"])
    assert first.kind == "snapshot" and first.parents == (voted.tuned.id,)
    assert (first.body["up_to"], first.body["votes"]) == (5, 5)
    assert snapshot(voted.store, "support", [voted.tuned], 0, ["human"]) == first
    undo(voted.store, "support", voted.ann, key="u")
    record_vote(voted.store, "support", voted.bob, "thumb", key="t", exchange=voted.made[0].a, value=1)
    frozen = votes(voted.store, "support", up_to=first.body["up_to"], purpose="train")
    assert len(frozen) == 5
    assert snapshot(voted.store, "support", [voted.tuned], 0, ["human"], up_to=5) == first
    later = snapshot(voted.store, "support", [voted.tuned], 0, ["human"])
    assert (later.body["up_to"], later.body["votes"]) == (7, 5)  # one taken back, a thumb new
    assert later.digest != first.digest
    assert snapshot(voted.store, "support", [voted.tuned], 0, ["human"], up_to=3).body["votes"] == 3


def test_a_turn_keeps_its_snapshot_however_many_votes_come_in(voted: Any) -> None:
    first = snapshot(voted.store, "support", [voted.tuned], 0, ["human"], turn=1)
    record_vote(voted.store, "support", voted.bob, "thumb", key="t", exchange=voted.made[0].a, value=1)
    assert snapshot(voted.store, "support", [voted.tuned], 0, ["human"], turn=1) == first
    second = snapshot(voted.store, "support", [voted.tuned], 0, ["human"], turn=2)
    assert (first.body["up_to"], second.body["up_to"]) == (5, 6)
    assert snapshot(voted.store, "support", [voted.base], 0, ["human"], turn=1).body["up_to"] == 6
    assert snapshot(voted.store, "support", [voted.tuned], 0, ["human", "simulated"], turn=1).body["up_to"] == 6


def test_a_snapshot_takes_only_the_sources_it_names(voted: Any) -> None:
    robot = ensure_rater(voted.store, "support", "simulated-1", "simulated")
    item = voted.made[2]
    record_vote(voted.store, "support", robot, "compare", key="s", comparison=item.id, choice="left")
    assert snapshot(voted.store, "support", [], 0, ["human"]).body["by_source"] == {"human": 5}
    assert snapshot(voted.store, "support", [], 0, ["simulated"]).body["by_source"] == {"simulated": 1}
    both = snapshot(voted.store, "support", [], 0, ["simulated", "human"])
    assert both.body["by_source"] == {"human": 5, "simulated": 1}
    assert "ann" not in json.dumps(dict(both.body))  # names stay out of records


def test_export_holds_what_was_said_and_by_whom(voted: Any, tmp_path: Path) -> None:
    robot = ensure_rater(voted.store, "support", "simulated-1", "simulated")
    answer = voted.answer("מים \x00 <script>")
    record_vote(voted.store, "support", robot, "edit", key="e", exchange=answer, text="Better.")
    path = tmp_path / "votes.jsonl"
    assert export_votes(voted.store, "support", path) == 6
    rows = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    first, last = rows[0], rows[-1]
    assert (first["kind"], first["choice"], first["source"], first["rater"]) == ("compare", "a", "human", voted.ann)
    assert (first["answer_a"], first["answer_b"]) == ("It is near 0.", "It is far 0.")
    assert first["prompt"] == [{"role": "user", "content": "turn-1: where is parcel 0?"}]
    assert (last["answer"], last["text"], last["source"]) == ("מים \x00 <script>", "Better.", "simulated")
    with pytest.raises(FeedbackError, match="cannot write"):
        export_votes(voted.store, "support", tmp_path / "nowhere" / "votes.jsonl")
