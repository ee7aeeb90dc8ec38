"""Opening, reading and writing: what is acknowledged is on the disk, once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from burnish.errors import StoreError
from burnish.store import Store, now, open_store
from burnish.store.database import explained
from burnish.store.schema import metadata, raters, records, votes
from store.samples import PROJECT, exchange, promote, rater, version, vote


def test_every_connection_keeps_what_it_commits(store: Store) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    for transaction in (store.read, store.write):
        with transaction() as conn:
            found = {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted}
            assert found == wanted
            assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 30_000


def test_a_write_is_rolled_back_by_an_exception(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as conn:
        conn.execute(insert(raters).values(_rater("a")))
        raise RuntimeError
    assert _count(store) == 0


def test_a_read_is_one_view_while_others_write(store: Store) -> None:
    with store.read() as conn:
        before = conn.scalar(select(func.count()).select_from(raters))
        with store.write() as writer:
            writer.execute(insert(raters).values(_rater("a")))
        assert conn.scalar(select(func.count()).select_from(raters)) == before == 0
    assert _count(store) == 1


def test_a_write_inside_a_write_is_an_error_and_no_deadlock(store: Store) -> None:
    with store.write(), pytest.raises(StoreError, match="inside a write"), store.write():
        pass
    with store.write() as conn:
        conn.execute(insert(raters).values(_rater("a")))
    assert _count(store) == 1


def test_a_write_takes_its_lock_before_it_reads(store: Store) -> None:
    """Two that read a number and write the next one must not both read the same."""

    def add() -> None:
        other = Store(store.path)  # its own connections and no common lock in this process
        for _ in range(20):
            with other.write() as conn:
                number = conn.scalar(select(func.count()).select_from(raters))
                conn.execute(insert(raters).values(_rater(f"rater {number}")))
        other.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _count(store) == 80


def test_many_threads_write_through_one_store(store: Store) -> None:
    failed: list[Exception] = []

    def add(who: int) -> None:
        try:
            for turn in range(10):
                with store.write() as conn:
                    conn.execute(insert(raters).values(_rater(f"{who} {turn}")))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(who,)) for who in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert _count(store) == 160


@pytest.mark.parametrize("table", ["records", "lineage", "votes", "promotions"])
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
def test_history_cannot_be_rewritten(store: Store, table: str, change: str) -> None:
    first = version(store)
    second = version(store, (first,), seed=8)
    promote(store, second)
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", second))
    vote(store, "k1", store.exchanges.get("e1"), rater(store, "ben"))
    column = {"lineage": "position"}.get(table, "created_at")
    with pytest.raises(IntegrityError, match="append-only"), store.write() as conn:
        conn.execute(text(change.format(table, column, column)))


def test_insert_or_replace_is_no_way_around(store: Store) -> None:
    version(store)
    with pytest.raises(IntegrityError, match="append-only"), store.write() as conn:
        conn.execute(text("INSERT OR REPLACE INTO records SELECT * FROM records"))


def test_a_reference_to_nothing_is_refused(store: Store) -> None:
    made = version(store)
    with pytest.raises(IntegrityError), store.write() as conn:
        store.exchanges.add(conn, exchange("e1", made, version="version-0000"))
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", made))
    with pytest.raises(IntegrityError):
        vote(store, "k1", store.exchanges.get("e1"), "nobody")


def test_an_idempotency_key_counts_once(store: Store) -> None:
    made, ben = version(store), rater(store, "ben")
    with store.write() as conn:
        store.exchanges.add(conn, exchange("e1", made))
    vote(store, "k1", store.exchanges.get("e1"), ben)
    with pytest.raises(IntegrityError):
        vote(store, "k1", store.exchanges.get("e1"), ben)
    with store.read() as conn:
        assert conn.scalar(select(func.count()).select_from(votes)) == 1


WRITER = """
import sys
from pathlib import Path
from sqlalchemy import insert
from burnish.store import open_store, now
from burnish.store.schema import raters
store = open_store(Path(sys.argv[1]))
for number in range(100_000):
    name = f"{sys.argv[2]} {number}"
    with store.write() as conn:
        conn.execute(insert(raters).values(id=name, project="p", name=name, source="human", created_at=now()))
    print(name, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9_and_is_there_once(tmp_path: Path) -> None:
    folder = tmp_path / ".burnish"
    open_store(folder).close()
    acknowledged: list[str] = []
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(attempt)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(25 + attempt)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.read().split("\n")[:-1]  # what it said before it died
        process.wait()
    store = open_store(folder)
    with store.read() as conn:
        kept = list(conn.scalars(select(raters.c.name)))
    assert len(acknowledged) >= 78
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept)) <= len(acknowledged) + 3  # at most one commit a kill was not yet told
    assert store.verify().problems == []
    store.close()


def test_two_processes_create_one_store(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from burnish.store import open_store; open_store(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "new" / ".burnish")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".burnish"
    store = open_store(folder)
    with store.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    before = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    with pytest.raises(StoreError, match="newer Burnish") as caught:
        open_store(folder)
    assert caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in sorted(folder.iterdir())} == before


@pytest.mark.parametrize("content", [b"no database at all, though long enough to be one" * 40, None])
def test_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "burnish.db"
    if content is None:
        other = sqlite3.connect(file)
        other.execute("CREATE TABLE theirs (id)")
        other.commit()
        other.close()
        content = file.read_bytes()
    else:
        file.write_bytes(content)
    with pytest.raises(StoreError):
        open_store(tmp_path)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(StoreError, match="a file"):
        open_store(tmp_path / "store")


def test_a_damaged_database_is_named(store: Store) -> None:
    for number in range(200):
        with store.write() as conn:
            conn.execute(insert(raters).values(_rater(f"{number} " + "x" * 300)))
    store.close()
    data = bytearray(store.file.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    store.file.write_bytes(data)
    with pytest.raises(StoreError), store.read() as conn:
        list(conn.execute(select(raters)))
    assert store.verify().problems


def test_an_error_of_the_caller_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explained(tmp_path):
        (tmp_path / "missing").read_text()


def test_the_tables_are_portable() -> None:
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=postgresql.dialect()))
        assert "project" in table.c or table.name in {"lineage", "record_blobs", "erased_blobs"}
    assert records.c.project.nullable is False


def _rater(name: str) -> dict[str, str]:
    return {"id": name, "project": PROJECT, "name": name, "source": "human", "created_at": now()}


def _count(store: Store) -> int:
    with store.read() as conn:
        return conn.scalar(select(func.count()).select_from(raters)) or 0
