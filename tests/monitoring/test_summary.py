"""The figures of answers and votes, against ones counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import feedback
from burnish.feedback.comparisons import left_side
from burnish.monitoring import events, summary
from burnish.records import Exchange, Message, Record
from burnish.store import RunLog, Store, Work, now, open_store

PROJECT = "support"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / ".burnish")


def version(store: Store, stage: str) -> Record:
    work = Work("version", stage, 1, {}, (), 0, PROJECT)
    return store.once(work, lambda: {"stage": stage})


def answer(store: Store, id: str, record: Record, tokens: int, latency: float | None = None, **more: object) -> None:
    values: dict = {
        "purpose": "serve",
        "finish_reason": "stop",
        "delivery": "released",
        "created_at": now(),
        "settings": {"stopped_by_string": False},
    }
    exchange = Exchange(
        id=id,
        project=PROJECT,
        version=record.id,
        prompt=(Message("user", "Where is it?"),),
        answer=f"said {id}",
        prompt_ids=(1,),
        answer_ids=(2,) * tokens,
        logprobs=(-1.0,) * tokens,
        latency_ms=latency,
        **(values | more),
    )
    with store.write() as conn:
        store.exchanges.add(conn, exchange)


def test_answers_are_counted_per_version(store: Store) -> None:
    base, tuned = version(store, "base"), version(store, "sft")
    for number in range(20):
        answer(store, f"a{number}", tuned, tokens=number + 1, latency=10.0 * (number + 1))
    answer(store, "cut", tuned, tokens=30, latency=500.0, finish_reason="length")
    stopped = {"stopped_by_string": True}
    answer(store, "stopped", tuned, tokens=3, latency=30.0, finish_reason="length", settings=stopped)
    answer(store, "left", tuned, tokens=9, latency=9000.0, finish_reason="length", delivery="rejected")
    answer(store, "measured", tuned, tokens=90, purpose="evaluation")
    log = RunLog(events(store, PROJECT))
    log.log(0, event="error", version="support@0", error="ModelError")
    log.log(0, event="overloaded")
    found = summary(store, PROJECT)
    assert [figures["version"] for figures in found["versions"]] == ["support@0", "support@1"]
    silent, figures = found["versions"]
    assert (silent["answers"], silent["errors"], silent["mean_tokens"], silent["cut"]) == (0, 1, None, None)
    assert silent["latency_ms"] == {"p50": None, "p95": None}
    assert (figures["answers"], figures["broken_off"], figures["errors"]) == (22, 1, 0)
    # 10, 20, 30, 30, 40 ... 200, 500: the 11th and the 21st of 22
    assert figures["latency_ms"] == {"p50": 100.0, "p95": 200.0}
    assert figures["mean_tokens"] == pytest.approx((210 + 30 + 3) / 22)
    assert figures["cut"] == pytest.approx(1 / 22)
    assert figures["votes"] == {}
    assert found["overloaded"] == 1
    assert base.id != tuned.id


def test_votes_are_told_apart_by_source(store: Store) -> None:
    one, two = version(store, "sft"), version(store, "rl")
    for name, record in (("x", one), ("y", two), ("z", one)):
        answer(store, name, record, tokens=1)
    pairs = [("x", "y"), ("z", "y"), ("x", "z")]
    items = feedback.add_comparisons(store, PROJECT, pairs, purpose="train", campaign="c", votes_wanted=9)
    sources = {"Ann": "human", "Bob": "human", "sim": "simulated"}
    raters = {name: feedback.ensure_rater(store, PROJECT, name, source) for name, source in sources.items()}

    def side_of(comparison: str, rater: str, wanted: str) -> str:
        """The side on which this rater sees answer a or b of a comparison."""
        return "left" if left_side(comparison, rater) == wanted else "right"

    def compare(rater: str, item: int, wanted: str) -> None:
        id = items[item].id
        choice = "tie" if wanted == "tie" else side_of(id, raters[rater], wanted)
        feedback.record_vote(
            store, PROJECT, raters[rater], "compare", key=f"{rater}{item}", comparison=id, choice=choice
        )

    compare("Ann", 0, "b")
    compare("Ann", 1, "tie")
    compare("Ann", 2, "a")  # a version against itself
    compare("sim", 0, "a")
    vote = feedback.record_vote
    vote(store, PROJECT, raters["Ann"], "thumb", key="t1", exchange="x", value=1)
    vote(store, PROJECT, raters["Bob"], "thumb", key="t2", exchange="x", value=-1)
    vote(store, PROJECT, raters["sim"], "rating", key="r1", exchange="y", value=2)
    vote(store, PROJECT, raters["Bob"], "rating", key="r2", exchange="y", value=5)
    vote(store, PROJECT, raters["Ann"], "rating", key="r3", exchange="y", value=4)
    vote(store, PROJECT, raters["Ann"], "edit", key="e1", exchange="y", text="better")
    first, second = (figures["votes"] for figures in summary(store, PROJECT)["versions"])
    none = {"count": 0, "mean": None}
    assert first["human"] == {
        "thumbs": {"up": 1, "down": 1},
        "ratings": none,
        "edits": 0,
        "comparisons": {"won": 0, "lost": 1, "tied": 1},
    }
    assert first["simulated"]["comparisons"] == {"won": 1, "lost": 0, "tied": 0}
    assert second["human"] == {
        "thumbs": {"up": 0, "down": 0},
        "ratings": {"count": 2, "mean": 4.5},
        "edits": 1,
        "comparisons": {"won": 1, "lost": 0, "tied": 1},
    }
    assert second["simulated"]["ratings"] == {"count": 1, "mean": 2.0}
    assert second["simulated"]["comparisons"] == {"won": 0, "lost": 1, "tied": 0}


def test_since_leaves_out_what_was_before(store: Store) -> None:
    record = version(store, "sft")
    answer(store, "old", record, tokens=1, created_at="2025-01-01T00:00:00.000000+00:00")
    answer(store, "new", record, tokens=5)
    [figures] = summary(store, PROJECT, since="2025-06-01T00:00:00.000000+00:00")["versions"]
    assert (figures["answers"], figures["mean_tokens"]) == (1, 5)
    assert summary(store, PROJECT, since=now())["versions"] == []
    assert summary(store, "another")["versions"] == []
