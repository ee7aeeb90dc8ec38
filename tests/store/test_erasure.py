"""One of 300 people is erased, and no byte of their text is left in any file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from burnish.errors import StoreError
from burnish.records import Exchange, Message, Row
from burnish.store import RunLog, Store, append, now, open_store
from burnish.store.schema import comparisons, exchanges, leases, raters, texts, votes
from store.samples import PROJECT, compare, dataset, exchange, new_store, promote, rater, row, version, vote, work

PEOPLE = 300
GONE = 137


def who(number: int) -> str:
    return f"subject-{number:03d}-id"


def secret(number: int, what: str) -> str:
    return f"the {what} of person {number:03d} speaks of plan {number * 7919}"


@pytest.fixture
def people(tmp_path: Path, folder_of_people: Path) -> Iterator[Store]:
    """A copy of the store of 300 people."""
    shutil.copytree(folder_of_people, tmp_path / "people")
    opened = open_store(tmp_path / "people")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def folder_of_people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """300 people, each with two rows, an exchange, and votes with a comment and a correction about it."""
    store = new_store(tmp_path_factory.mktemp("people"))
    rows = [row(n, secret(n, "question"), secret(n, "answer"), who(n)) for n in range(PEOPLE)]
    long = "and so on and on, " * 900  # more than a page of the database
    rows += [
        Row((Message("user", secret(n, "story") + long),), None, PEOPLE + n, who(n), who(n) + "-case")
        for n in range(PEOPLE)
    ]
    data = dataset(store, rows)
    base = version(store, stage="base")
    tuned = version(store, (base, data))
    asked = [
        exchange(
            f"e{n}",
            tuned,
            said=secret(n, "prompt"),
            answer=secret(n, "reply"),
            prompt_ids=(n, 50_000 + n),
            subject=who(n),
            case=who(n) + "-case",
        )
        for n in range(PEOPLE)
    ]
    ben = rater(store, "ben")
    with store.write() as conn:
        for one in asked:
            store.exchanges.add(conn, one)
        store.exchanges.add(conn, exchange("other", tuned))
    with store.write() as conn:
        for n, one in enumerate(asked):
            _vote(store, conn, n, one, ben)
            values = {"id": f"c{n}", "project": PROJECT, "a": one.id, "b": "other", "purpose": "train"}
            values |= {"campaign": "x", "votes_wanted": 2, "prompt_key": f"{n:03d} hashed", "created_at": now()}
            conn.execute(insert(comparisons).values(values))
    yield store.path
    store.close()


def _vote(store: Store, conn: object, n: int, about: Exchange, rater: str) -> None:
    for kind, subject in (("rating", None), ("edit", about.subject)):
        text = store.texts.add(conn, PROJECT, {"text": secret(n, kind)}, subject=subject)  # type: ignore[arg-type]
        values = {"project": PROJECT, "key": f"{kind} {n}", "kind": kind, "exchange": about.id, "value": 3}
        values |= {"version": about.version, "rater_id": rater, "source": "human", "text_id": text.id}
        append(conn, votes, values)  # type: ignore[arg-type]


def traces(store: Store, *needles: str) -> list[Path]:
    """The files of the store that hold one of the needles."""
    found = []
    for path in store.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += [path for needle in needles if needle.encode() in data]
    return found


def everything_of(number: int) -> list[str]:
    parts = [secret(number, what) for what in ("question", "answer", "story", "prompt", "reply", "rating", "edit")]
    return [*parts, f"person {number:03d}", f"plan {number * 7919}", who(number), f"{number:03d} hashed"]


def test_no_byte_is_left_and_everything_still_verifies(people: Store) -> None:
    late = exchange("late", people.record("support@1"), said=secret(GONE, "prompt"), subject=who(GONE))
    with people.write() as conn:
        people.exchanges.add(conn, late)
    assert {path.name for path in traces(people, *everything_of(GONE))} == {"burnish.db", "burnish.db-wal"}
    before = people.verify()
    result = people.forget(PROJECT, who(GONE))
    assert traces(people, *everything_of(GONE)) == []
    assert (people.file.with_name("burnish.db-wal")).stat().st_size == 0
    after = people.verify()
    assert after.problems == []
    assert (before.tombstones, after.tombstones) == (0, 6)
    assert after.checked == before.checked
    assert (result.texts, result.rows, result.exchanges, result.votes) == (6, 2, 2, 2)
    assert result.versions == ("support@1",)
    people.close()
    assert traces(people, *everything_of(GONE)) == []


def test_everybody_else_is_untouched(people: Store) -> None:
    data = people.records(PROJECT, "dataset")[0]
    rows = people.datasets.rows(data.id, "train")
    asked = people.exchanges.many([f"e{n}" for n in range(PEOPLE)])
    people.forget(PROJECT, who(GONE))
    assert people.datasets.rows(data.id, "train") == [row for row in rows if row.subject != who(GONE)]
    assert people.exchanges.many([f"e{n}" for n in range(PEOPLE)]) == {
        id: one for id, one in asked.items() if one.subject != who(GONE)
    }
    with pytest.raises(StoreError, match="erased"):
        people.exchanges.get(f"e{GONE}")
    with people.read() as conn:
        kept = people.texts.get(conn, conn.scalars(select(votes.c.text_id)))
        assert sum(payload is None for payload in kept.values()) == 2
        assert len(kept) == 2 * PEOPLE
        asking = dict(conn.execute(select(comparisons.c.id, comparisons.c.votes_wanted)).all())
    assert {id for id, wanted in asking.items() if wanted == 0} == {f"c{GONE}"}


def test_a_tombstone_keeps_the_digest_and_nothing_to_check_a_guess_with(people: Store) -> None:
    people.forget(PROJECT, who(GONE))
    with people.read() as conn:
        buried = conn.execute(select(texts).where(texts.c.erased_at.is_not(None))).all()
        row = conn.execute(select(exchanges).where(exchanges.c.id == f"e{GONE}")).one()
    assert len(buried) == 5
    for text in buried:
        assert len(text.digest) == 64
        assert (text.payload, text.salt, text.subject, text.case) == (None, None, None, None)
    assert (row.subject, row.case) == (None, None)


def test_a_second_call_and_a_stranger_change_nothing(people: Store) -> None:
    people.forget(PROJECT, who(GONE))
    again = people.forget(PROJECT, who(GONE))
    stranger = people.forget(PROJECT, "nobody")
    elsewhere = people.forget("other", who(3))
    for result in (again, stranger, elsewhere):
        assert (result.texts, result.exchanges, result.votes, result.versions) == (0, 0, 0, ())
    assert len(traces(people, secret(3, "question"))) == 1


def test_logs_caches_copies_and_working_files(store: Store) -> None:
    clean = version(store, seed=1)
    data = dataset(store, [row(1, secret(5, "question"), subject=who(5)), row(2, "Where is my parcel?")])
    touched = version(store, (data,))
    folders = {name: store.path / "runs" / key[:16] for name, key in (("clean", clean.key), ("touched", touched.key))}
    folders["unfinished"] = store.work_folder(work(seed=99))
    for folder in folders.values():
        log = RunLog(folder)
        log.log(1, reward=0.25, samples=[{"prompt": secret(5, "question"), "answer": "Fine."}, {"prompt": "Hello"}])
        log.log(2, reward=0.5, sample=secret(5, "question")[:30], subject=who(5))
        log.log(3, reward=0.75, sample="Where is my parcel?")
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "state.json").write_text("{}")
    (folders["touched"] / "checkpoint" / "state.json").write_text(json.dumps(secret(5, "question")))
    with (folders["touched"] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "sample": "' + secret(5, "question")[:20])  # killed while writing
    store.cache.mkdir()
    (store.cache / "logps").write_text(secret(5, "question"))
    (store.path / "judgements.jsonl").write_text(secret(5, "question"))
    (store.path / "burnish.db.before-0001").write_text(secret(5, "question"))
    (store.path / "blobs" / "partial").mkdir(parents=True)
    (store.path / "blobs" / "partial" / "half").write_text(secret(5, "question"))
    result = store.forget(PROJECT, who(5))
    assert traces(store, "question of person", who(5), "plan ") == []
    assert result.lines == 7
    for folder in folders.values():
        lines = RunLog.read(folder)
        assert [line["reward"] for line in lines] == [0.25, 0.5, 0.75]
        assert lines[0]["samples"] == [{"prompt": "[erased]", "answer": "Fine."}, {"prompt": "Hello"}]
        assert lines[2]["sample"] == "Where is my parcel?"
    assert (folders["clean"] / "checkpoint" / "state.json").exists()
    assert not (folders["touched"] / "checkpoint" / "state.json").exists()
    assert not (folders["unfinished"] / "checkpoint" / "state.json").exists()
    assert store.verify().problems == []


def test_a_blob_that_quotes_them_goes_and_weights_stay(store: Store) -> None:
    data = dataset(store, [row(1, secret(5, "question"), "Yes.", subject=who(5))])

    def body() -> dict[str, object]:
        report = json.dumps([{"prompt": secret(5, "question") + "\n", "answer": "Yes."}]).encode()
        files = {"report.json": report, "weights": b"\x00" + secret(5, "question").encode(), "fine": b"Yes."}
        return {"tree": store.blobs.put_tree(files)}

    made = store.once(work("evaluation", "evaluate", (data,)), body)
    result = store.forget(PROJECT, who(5))
    assert result.blobs == 1
    problems = store.verify()
    assert problems.problems == []
    assert problems.tombstones == 2
    with pytest.raises(StoreError, match="not in the store"):
        store.blobs.tree(made.body["tree"])


def test_a_system_prompt_is_nobody_s(store: Store) -> None:
    prompt = "You answer for the support desk of a shop."
    template = store.blobs.put(prompt.encode())
    dataset(store, [Row((Message("system", prompt), Message("user", "Hi")), "Hello.", 1, who(5))])
    assert store.forget(PROJECT, who(5)).blobs == 0
    assert store.blobs.read(template)


def test_versions_that_learned_from_their_votes_are_listed(store: Store) -> None:
    base = version(store, stage="base")
    early = store.once(work("snapshot", "snapshot", (base,), settings={"up_to": 0}), lambda: {"up_to": 0})
    before = version(store, (base, early), stage="rl")
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", base, subject=who(5)))
    vote(store, "k", store.exchanges.get("e1"), rater(store, "ben"))
    late = store.once(work("snapshot", "snapshot", (base,), settings={"up_to": 1}), lambda: {"up_to": 1})
    reward = store.once(work("reward", "reward", (before, late)), dict)
    after = version(store, (before, reward), stage="rl", seed=8)
    promote(store, after)
    assert store.forget(PROJECT, who(5)).versions == (after.name,)
    assert store.verify().problems == []


def test_a_rater_of_that_name_loses_name_and_words(store: Store) -> None:
    made = version(store)
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", made))
    with store.write() as conn:
        conn.execute(insert(raters).values(id="r1", project=PROJECT, name=who(5), source="human", created_at=now()))
    vote(store, "k", store.exchanges.get("e1"), "r1", comment=secret(5, "comment"))
    store.forget(PROJECT, who(5))
    assert traces(store, who(5), secret(5, "comment")) == []
    assert store.exchanges.get("e1").answer == "On its way."
    assert store.verify().problems == []


def test_leases_on_erased_answers_end(store: Store) -> None:
    made, ben = version(store), rater(store, "ben")
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", made, subject=who(5)))
        store.exchanges.add(conn, exchange("e2", made, subject=who(5)))
    compare(store, "c", "e1", "e2")
    with store.write() as conn:
        conn.execute(insert(leases).values(comparison_id="c", rater_id=ben, project=PROJECT, expires_at=now()))
    store.forget(PROJECT, who(5))
    with store.read() as conn:
        assert conn.execute(select(leases)).all() == []


def test_a_run_in_progress_is_not_disturbed(people: Store) -> None:
    with people.run_lock("burnish run"), pytest.raises(StoreError, match="burnish run"):
        people.forget(PROJECT, who(GONE))
    assert traces(people, who(GONE))


KILLED = """
import os, sys
from pathlib import Path
import burnish.store.erasure as erasure
from burnish.store import Store
def die(*_):
    os._exit(9)
setattr(erasure, sys.argv[2], die) if sys.argv[2] != "compact" else setattr(erasure.Ledger, "compact", die)
Store(Path(sys.argv[1])).forget("support", sys.argv[3])
"""


@pytest.mark.parametrize("moment", ["_scrub_runs", "_drop_copies", "_bury", "compact"])
def test_a_killed_call_is_finished_by_the_next(people: Store, moment: str) -> None:
    folder = people.work_folder(work())
    RunLog(folder).log(1, sample=secret(GONE, "question"))
    people.blobs.put(secret(GONE, "question").encode())
    done = subprocess.run([sys.executable, "-c", KILLED, str(people.path), moment, who(GONE)])
    assert done.returncode == 9
    assert people.verify().problems == []
    people.forget(PROJECT, who(GONE))
    assert traces(people, *everything_of(GONE)) == []
    assert people.verify().problems == []


def test_a_long_read_elsewhere_is_named_and_the_next_call_finishes(people: Store) -> None:
    reader = sqlite3.connect(people.file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM texts").fetchone()
    with people.engine.connect() as conn:  # one pooled connection, so that the test need not wait a minute
        conn.connection.driver_connection.execute("PRAGMA busy_timeout = 100")  # type: ignore[union-attr]
    with pytest.raises(StoreError, match="long read"):
        people.forget(PROJECT, who(GONE))
    reader.close()
    people.forget(PROJECT, who(GONE))
    assert traces(people, *everything_of(GONE)) == []
