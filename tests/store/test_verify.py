"""One flipped byte anywhere is found and named."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.records import Record
from burnish.store import Store
from store.samples import compare, dataset, exchange, promote, rater, row, version, vote, work


@pytest.fixture
def full(store: Store) -> Store:
    """A store with one of everything."""
    data = dataset(store, [row(1, "hello", subject="anna"), row(2, "bye")])
    report = store.once(work("evaluation", "evaluate", (data,)), lambda: {"report": store.blobs.put(b"all well")})

    def body() -> dict[str, object]:
        return {"adapter": store.blobs.put_tree({"adapter_model.safetensors": b"\x01\x00weights"})}

    made = store.once(work(parents=(data, report)), body)
    asked = [exchange(f"e{number}", made, subject="anna") for number in (1, 2)]
    with store.write() as conn:
        for one in asked:
            store.exchanges.add(conn, one)
    ben = rater(store, "ben")
    compare(store, "c1", "e1", "e2")
    for number in range(3):
        vote(store, f"k{number}", asked[0], ben, comment=f"comment {number}")
    for _ in range(3):
        promote(store, made)
    place = store.work_folder(work()) / "checkpoint"
    place.mkdir(parents=True)
    (place / "tensors.safetensors").write_bytes(b"tensors")
    (place / "manifest.json").write_text(json.dumps({"tensors.safetensors": hashlib.sha256(b"tensors").hexdigest()}))
    return store


def test_a_sound_store_passes(full: Store) -> None:
    result = full.verify()
    assert result.problems == []
    assert result.tombstones == 0
    # database, 3 records, 7 texts, 2 rows, 2 exchanges, 3 votes, 3 promotions, 3 blobs, 1 checkpoint
    assert result.checked == 25


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_flipped_byte_of_a_blob(full: Store) -> None:
    record = full.records("support", "evaluation")[0]
    _flip(full.blobs.path(record.body["report"]))
    assert [line.split(" of ")[1] for line in full.verify().problems] == [f"{record.id} was changed on the disk"]


def test_a_flipped_byte_of_an_adapter(full: Store) -> None:
    _flip(full.blobs.tree(full.record("support@0").body["adapter"])["adapter_model.safetensors"])
    problems = full.verify().problems
    assert len(problems) == 1
    assert "of support@0 (adapter_model.safetensors) was changed on the disk" in problems[0]


def test_a_flipped_byte_of_a_manifest(full: Store) -> None:
    _flip(full.blobs.path(full.record("support@0").body["adapter"]))
    assert ["of support@0 was changed" in line for line in full.verify().problems] == [True]


@pytest.mark.parametrize("part", ["adapter", "adapter_model.safetensors"])
def test_a_missing_blob(full: Store, part: str) -> None:
    tree = full.record("support@0").body["adapter"]
    path = full.blobs.path(tree) if part == "adapter" else full.blobs.tree(tree)[part]
    path.unlink()
    assert ["of support@0" in line and "is gone" in line for line in full.verify().problems] == [True]


@pytest.mark.parametrize("file", ["tensors.safetensors", "manifest.json"])
def test_a_flipped_byte_of_a_checkpoint(full: Store, file: str) -> None:
    place = full.work_folder(work()) / "checkpoint"
    _flip(place / file)
    assert [str(place) in line for line in full.verify().problems] == [True]


ROWS = {
    "records": "id kind stage stage_version key name seed settings body libraries digest created_at seal project",
    "votes": "key kind exchange version value text_id rater_id created_at previous digest project",
    "promotions": "action version by_whom created_at previous digest project",
    "texts": "payload salt digest subject",
    "exchanges": "version purpose text_id subject delivery settings created_at digest",
    "dataset_rows": "split position number text_id digest",
}
CELLS = [(table, column) for table, columns in ROWS.items() for column in columns.split()]


@pytest.mark.parametrize(("table", "column"), CELLS)
def test_a_flipped_byte_of_a_row(full: Store, table: str, column: str) -> None:
    def change(db: sqlite3.Connection) -> None:
        where = f"rowid = (SELECT max(rowid) FROM {table} WHERE {column} IS NOT NULL)"
        value = db.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()[0]
        if isinstance(value, str):
            middle = len(value) // 2
            value = value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :]
        else:
            value += 1
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))

    _behind_its_back(full, change)
    named = {"records": "record", "texts": "text", "exchanges": "exchange", "dataset_rows": "dataset"}
    problems = full.verify().problems
    assert any(line.startswith(named.get(table, table)) for line in problems), problems


@pytest.mark.parametrize("table", ["records", "votes", "promotions"])
def test_a_row_taken_out_of_the_history(full: Store, table: str) -> None:
    _behind_its_back(full, lambda db: db.execute(f"DELETE FROM {table} WHERE rowid = 2"))
    assert any("number 2 is gone" in line for line in full.verify().problems)


def test_votes_put_in_another_order(full: Store) -> None:
    def change(db: sqlite3.Connection) -> None:
        for old, new in ((1, 9), (2, 1), (9, 2)):
            db.execute("UPDATE votes SET sequence = ? WHERE sequence = ?", (new, old))

    _behind_its_back(full, change)
    assert len(full.verify().problems) >= 2


def test_a_rewritten_vote_with_a_fresh_digest_breaks_the_chain(full: Store) -> None:
    from burnish.store.chain import link

    def change(db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM votes WHERE sequence = 2").fetchone())
        row["value"] = 1.0
        text = db.execute("SELECT digest FROM texts WHERE id = ?", (row["text_id"],)).fetchone()[0]
        db.execute("UPDATE votes SET value = 1.0, digest = ? WHERE sequence = 2", (link(row, text),))

    _behind_its_back(full, change)
    assert full.verify().problems == ["votes 3: it does not follow the row before it"]


def test_a_changed_parent_is_seen(full: Store) -> None:
    _behind_its_back(full, lambda db: db.execute("DELETE FROM lineage WHERE position = 1"))
    assert any("record version-" in line for line in full.verify().problems)


def test_text_left_in_a_tombstone_is_seen(full: Store) -> None:
    _behind_its_back(full, lambda db: db.execute("UPDATE texts SET erased_at = 'now' WHERE rowid = 1"))
    assert any("erased, yet" in line for line in full.verify().problems)


def test_projects_have_chains_of_their_own(store: Store) -> None:
    for project in ("one", "two"):
        made: Record = version(store, project=project)
        with store.write() as conn:
            store.exchanges.add(conn, exchange(project, made, project=project))
    ben = rater(store, "ben")
    for number in range(4):
        project = ("one", "two")[number % 2]
        vote(store, f"k{number}", store.exchanges.get(project), ben, project=project)
    assert store.verify().problems == []


def _behind_its_back(store: Store, change: Callable[[sqlite3.Connection], object]) -> None:
    db = sqlite3.connect(store.file)
    for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {trigger}")
    change(db)
    db.commit()
    db.close()
