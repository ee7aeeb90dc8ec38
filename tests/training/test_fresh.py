"""Fresh comparisons while training runs: asked, withdrawn, never waited for, and read the same when repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.data.render import Renderer
from burnish.feedback import ensure_rater, next_comparison, record_vote, votes
from burnish.records import Message, Row
from burnish.rewards.scores import Asked
from burnish.sampling import Sample
from burnish.store import Store, Work, open_store
from burnish.tasks.chat import ChatTask
from burnish.training.fresh import Fresh

TEXTS = ("first", "second", "third")


class Desk:
    """Three prompts before raters, by a store of its own."""

    def __init__(self, folder: Path, base: Path, let_vote: Callable[[str], None] = lambda campaign: None) -> None:
        self.store: Store = open_store(folder / "store")
        self.task = ChatTask(Renderer.from_folder(base, None), max_new_tokens=8)
        start = self.store.once(Work("version", "sft", 1, {}, (), 0, "shop"), lambda: {"stage": "sft"})
        rows = [Row((Message("user", f"Where is parcel {n}?"),), None, n) for n in range(3)]
        self.asked = [Asked(self.task.prompt_ids(row), row) for row in rows]
        sources = ["human", "simulated"]
        self.fresh = Fresh(
            self.store, "shop", "rl-1", start.id, self.task, sources, 3, self.store.path / "runs" / "rl", let_vote
        )

    def say(self, step: int, *texts: str) -> None:
        ids = [self.task.renderer.answer(text) for text in texts]
        samples = [[Sample(tuple(found), (-1.0,) * len(found), "stop")] for found in ids]
        self.fresh.ask(step, self.asked, samples)

    def vote(self, side: str, name: str = "Ada") -> str | None:
        """A person's vote for the answer that says so, where there is an item."""
        rater = ensure_rater(self.store, "shop", name)
        offer = next_comparison(self.store, "shop", rater)
        if offer is None:
            return None
        shown = "left" if offer.left.startswith(side) else "right"
        record_vote(
            self.store, "shop", rater, "compare", key=offer.comparison, comparison=offer.comparison, choice=shown
        )  # type: ignore[arg-type]
        return offer.campaign


@pytest.fixture
def desk(tmp_path: Path, tiny_model_folder: Path) -> Desk:
    return Desk(tmp_path, tiny_model_folder)


def test_current_answers_stand_against_the_starts(desk: Desk) -> None:
    desk.say(0, *TEXTS)
    assert desk.vote("x") is None  # the start against itself is no question
    desk.say(2, "now one", "second", "now three")
    assert desk.fresh.said(2, 3, until=10**6).shares == [None, 0.5, None]  # equal answers are a half, unasked
    assert desk.vote("now") == desk.vote("now", "Bo") == "rl-1-dev-2"
    said = desk.fresh.said(2, 3, until=10**6)
    assert said.shares == [1.0, 0.5, 1.0]
    assert {vote.source for vote in said.votes} == {"human"}
    assert votes(desk.store, "shop", purpose="train") == []  # what watches the reward never trains it


def test_a_look_withdraws_what_was_asked_before(desk: Desk) -> None:
    desk.say(0, *TEXTS)
    desk.say(2, "now one", "now two", "now three")
    assert desk.vote("now") == "rl-1-dev-2"
    desk.say(4, "then one", "then two", "then three")
    assert desk.vote("then") == "rl-1-dev-4"
    desk.fresh.withdraw()
    assert desk.vote("then") is None  # the run is over
    shares = desk.fresh.said(2, 3, until=10**6).shares
    assert shares.count(1.0) == 1 and shares.count(None) == 2  # the vote that was cast stands


def test_a_repeated_look_reads_the_same_votes(desk: Desk) -> None:
    desk.say(0, *TEXTS)
    desk.say(2, "now one", "now two", "now three")
    desk.vote("now")
    until = desk.fresh.until(2)
    read = desk.fresh.said(2, 3, until).shares
    desk.vote("now")  # while the run lies killed
    desk.say(2, "now one", "now two", "now three")  # and is repeated
    assert desk.fresh.until(2) == until and desk.fresh.said(2, 3, until).shares == read
    assert desk.fresh.until(4) > until


def test_a_look_that_was_killed_among_its_votes_still_wants_the_others(desk: Desk) -> None:
    desk.say(0, *TEXTS)
    desk.say(2, "now one", "now two", "now three")
    desk.vote("now")
    desk.say(2, "now one", "now two", "now three")  # killed and repeated
    assert desk.vote("now") == desk.vote("now") == "rl-1-dev-2"
    assert desk.fresh.said(2, 3, desk.fresh.until(2)).shares == [1.0, 1.0, 1.0]


def test_simulated_raters_vote_at_once(tmp_path: Path, tiny_model_folder: Path) -> None:
    asked: list[str] = []
    desk = Desk(tmp_path, tiny_model_folder, asked.append)
    desk.say(0, *TEXTS)
    desk.say(2, *TEXTS)
    desk.say(4, "now one", "second", "third")
    assert asked == ["rl-1-dev-4"]  # nobody is asked about equal answers
