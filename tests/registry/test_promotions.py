"""One function promotes, and believes nothing but what it reads and computes itself."""

from __future__ import annotations

import math
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from burnish import registry
from burnish.errors import Refused, StoreError
from burnish.evaluation.gates import decide
from burnish.records import Record
from burnish.store import Work, canonical
from evaluation.samples import PROJECT, RECIPE, Desk, gate, noise


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def promote(desk: Desk, version: Record | None = None):
    return registry.promote(desk.store, PROJECT, (version or desk.rl).id, by="anna")


def verdict_saying(desk: Desk, version: Record | None = None, **changes) -> Record:
    """A real verdict record whose body says something else than the gate would have said."""
    honest = desk.passed(version)
    work = Work("verdict", "gate", 1, {"changed": sorted(changes)}, (version or desk.rl,), 1, PROJECT)
    return desk.store.once(work, lambda: {**honest.body, **changes})


def refused(desk: Desk, match: str, version: Record | None = None) -> None:
    with pytest.raises(Refused, match=match) as said:
        promote(desk, version)
    assert said.value.exit_code == 1
    assert registry.history(desk.store, PROJECT) == [] and registry.production(desk.store, PROJECT) is None


def test_a_passing_verdict_lets_a_version_serve(desk: Desk):
    verdict = desk.passed()
    line = promote(desk)
    assert (line.action, line.version, line.previous, line.verdict, line.by) == (
        "promote", desk.rl.id, None, verdict.id, "anna",
    )  # fmt: skip
    assert registry.production(desk.store, PROJECT) == desk.rl
    assert registry.history(desk.store, PROJECT) == [line]
    assert desk.store.verify().problems == []


def test_a_version_goes_by_its_name_too(desk: Desk):
    desk.passed()
    assert registry.promote(desk.store, PROJECT, "support@2", by="anna").version == desk.rl.id


def test_without_a_verdict_nothing_is_promoted(desk: Desk):
    refused(desk, "support@2 is not promoted: there is no verdict on it")
    refused(desk, "support@0 is not promoted: there is no verdict", desk.base)


def test_a_verdict_on_another_version_does_not_count(desk: Desk):
    desk.passed()
    refused(desk, "there is no verdict on it", desk.sft)
    verdict_saying(desk, desk.sft, candidate=desk.rl.id)
    refused(desk, "about another version", desk.sft)


def test_a_gates_no_stops_promotion(desk: Desk):
    worse = desk.evaluation(desk.numbers(loss=noise(96, 4.0, 0.3, 1)))
    decide(RECIPE, desk.store, candidate=desk.rl, evaluation=worse, judgement=desk.judgement(worse), stage="rl")
    refused(desk, "loss against support@1: 1.9.*needed not worse by 0.3: no")


def test_the_newest_verdict_counts(desk: Desk):
    desk.passed()
    worse = desk.evaluation(desk.numbers(loss=noise(96, 4.0, 0.3, 1)), seed=7)
    decide(RECIPE, desk.store, candidate=desk.rl, evaluation=worse, judgement=desk.judgement(worse), stage="rl")
    refused(desk, "needed not worse by")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_never_promote(desk: Desk, bad: float):
    evaluation = desk.evaluation(desk.numbers(loss=[bad, *noise(95, 2.0, 0.3, 1)]))
    decide(
        RECIPE, desk.store, candidate=desk.rl, evaluation=evaluation, judgement=desk.judgement(evaluation), stage="rl"
    )
    refused(desk, "not a number")


def test_a_missing_metric_never_promotes(desk: Desk):
    numbers = desk.numbers()
    del numbers["rl"]["kl"]
    rules = [gate("kl", at_most=1.0)]
    decide(RECIPE, desk.store, candidate=desk.rl, evaluation=desk.evaluation(numbers), rules=rules, stage="rl")
    refused(desk, "was not measured")


def test_five_rows_never_promote(tmp_path: Path):
    desk = Desk(tmp_path / "five", items=5)
    evaluation = desk.evaluation()
    decide(
        RECIPE, desk.store, candidate=desk.rl, evaluation=evaluation, judgement=desk.judgement(evaluation), stage="rl"
    )
    refused(desk, "5 independent prompts are too few")


@pytest.mark.parametrize(
    "changes",
    [
        {"value": math.nan},
        {"low": math.nan},
        {"low": None, "high": None},
        {"clusters": 5},
        {"low": 0.6, "high": 0.6},
        {"low": 0.4},
    ],
)
def test_a_verdict_that_says_yes_over_figures_that_say_no_is_not_believed(desk: Desk, changes: dict):
    rules = [dict(rule) for rule in desk.passed().body["rules"]]
    rules[0]["figure"] = rules[0]["figure"] | changes
    verdict_saying(desk, rules=rules)
    refused(desk, "win_rate: ")


def test_a_verdict_without_figures_or_rules_is_not_believed(desk: Desk):
    rules = [dict(rule) for rule in desk.passed().body["rules"]]
    verdict_saying(desk, rules=[])
    refused(desk, "has no rules")
    verdict_saying(desk, rules=[rules[0] | {"figure": None}], stage="x")
    refused(desk, "win_rate: ")


def test_every_part_of_a_verdict_must_say_yes(desk: Desk):
    rules = [dict(rule) for rule in desk.passed().body["rules"]]
    verdict_saying(desk, passed=False)
    refused(desk, "its verdict is no")
    verdict_saying(desk, rules=[rules[0] | {"passed": "yes"}, *rules[1:]])
    refused(desk, "win rate")


@pytest.mark.parametrize("kind", ["verdict", "evaluation", "judgement"])
def test_a_record_that_was_changed_on_the_disk_is_not_believed(desk: Desk, kind: str):
    desk.passed()
    record = desk.store.records(PROJECT, kind)[-1]
    body = canonical({**record.body, "note": "changed"})
    with sqlite3.connect(desk.store.path / "burnish.db") as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("UPDATE records SET body = ? WHERE id = ?", (body, record.id))
    refused(desk, f"{record.id} is not what was written")


def test_a_version_that_serves_stays_and_the_log_does_not_grow(desk: Desk):
    desk.passed()
    assert promote(desk) == promote(desk)
    assert len(registry.history(desk.store, PROJECT)) == 1


def test_only_versions_of_the_project_and_only_somebody_promotes(desk: Desk):
    with pytest.raises(StoreError, match="is no version of support"):
        registry.promote(desk.store, PROJECT, desk.dataset.id, by="anna")
    with pytest.raises(StoreError, match="is no version of other"):
        registry.promote(desk.store, "other", desk.rl.id, by="anna")
    desk.passed()
    with pytest.raises(StoreError, match="who decided"):
        registry.promote(desk.store, PROJECT, desk.rl.id, by=" ")


def three(desk: Desk) -> list[Record]:
    """Three versions, promoted one after the other."""
    made = [desk.rl, desk.version("rl", again=1), desk.version("rl", again=2)]
    for seed, version in enumerate(made):
        desk.passed(version, seed=seed)
        promote(desk, version)
    return made


def test_a_rollback_goes_back_one_version_each_time(desk: Desk):
    first, second, third = three(desk)
    line = registry.rollback(desk.store, PROJECT, by="ben")
    assert (line.action, line.version, line.previous, line.by) == ("rollback", second.id, third.id, "ben")
    assert line.verdict is not None and desk.store.record(line.verdict).body["candidate"] == second.id
    assert registry.rollback(desk.store, PROJECT, by="ben").version == first.id
    assert registry.production(desk.store, PROJECT) == first
    with pytest.raises(Refused, match="no version served before"):
        registry.rollback(desk.store, PROJECT, by="ben")
    assert promote(desk, third).previous == first.id
    assert registry.rollback(desk.store, PROJECT, by="ben").version == first.id
    assert desk.store.verify().problems == []


def test_history_says_what_served_at_a_time(desk: Desk):
    first, second, _ = three(desk)
    lines = registry.history(desk.store, PROJECT)
    at = [datetime.fromisoformat(line.created_at) for line in lines]
    before = at[0] - timedelta(microseconds=1)
    assert registry.production(desk.store, PROJECT, at=before) is None
    assert registry.production(desk.store, PROJECT, at=at[0]) == first
    assert registry.production(desk.store, PROJECT, at=at[1].replace(tzinfo=None)) == second
    assert registry.production(desk.store, PROJECT, at=at[1].astimezone()) == second
    assert registry.history(desk.store, PROJECT, at=at[1]) == lines[:2]
    assert registry.production(desk.store, PROJECT, at=datetime.now(UTC)) == desk.store.record(lines[2].version)


def test_the_log_is_chained_and_append_only(desk: Desk):
    three(desk)
    with sqlite3.connect(desk.store.path / "burnish.db") as raw:
        with pytest.raises(sqlite3.DatabaseError):
            raw.execute("UPDATE promotions SET by_whom = 'mallory' WHERE sequence = 2")
        with pytest.raises(sqlite3.DatabaseError):
            raw.execute("DELETE FROM promotions WHERE sequence = 3")
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("UPDATE promotions SET by_whom = 'mallory' WHERE sequence = 2")
    assert any("promotions 2" in problem for problem in desk.store.verify().problems)


def test_promotions_at_once_make_one_straight_log(desk: Desk):
    made = [desk.version("rl", again=n) for n in range(4)]
    for seed, version in enumerate(made):
        desk.passed(version, seed=seed)
    threads = [threading.Thread(target=promote, args=(desk, version)) for version in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = registry.history(desk.store, PROJECT)
    assert [line.previous for line in lines] == [None, *[line.version for line in lines[:-1]]]
    assert desk.store.verify().problems == []


def test_versions_are_listed_with_where_they_stand(desk: Desk):
    desk.passed()
    promote(desk)
    newer = desk.version("rl", again=1)
    desk.passed(newer, seed=1)
    worse = desk.evaluation(desk.numbers(loss=noise(96, 4.0, 0.3, 1)), rl=desk.version("rl", again=2), seed=2)
    decide(
        RECIPE, desk.store, candidate=desk.version("rl", again=2), evaluation=worse,
        judgement=desk.judgement(worse), stage="rl",
    )  # fmt: skip
    listed = {each.record.name: each.state for each in registry.versions(desk.store, PROJECT)}
    assert listed == {
        "support@0": "unjudged",
        "support@1": "unjudged",
        "support@2": "production",
        "support@3": "passed",
        "support@4": "refused",
    }
    promote(desk, newer)
    assert [each.state for each in registry.versions(desk.store, PROJECT)][2:4] == ["former", "production"]
