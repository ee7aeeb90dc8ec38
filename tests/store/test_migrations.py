"""Any schema that was ever released is brought to the present one; a failure leaves the store as it was."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from burnish.errors import StoreError
from burnish.feedback import ensure_rater
from burnish.store import database, open_store
from burnish.store.schema import metadata
from store.samples import PROJECT, row, version, work

FIRST = Path(__file__).with_name("schema_0001.sql")

LATER = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0004", "0003"
def upgrade():
    op.create_table("later", sa.Column("id", sa.Text(), primary_key=True))
    op.execute("UPDATE raters SET name = 'moved'")
    {then}
"""


def _first(folder: Path) -> Path:
    """A store as the first release left it."""
    folder.mkdir()
    db = sqlite3.connect(folder / "burnish.db")
    db.executescript(FIRST.read_text(encoding="utf-8"))
    db.close()
    return folder


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations of a later release: ours and one more."""
    folder = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, folder)
    monkeypatch.setattr(database, "MIGRATIONS", folder)
    return folder / "versions" / "0004_later.py"


def test_the_first_schema_becomes_the_present_one(tmp_path: Path) -> None:
    store = open_store(_first(tmp_path / "old"))
    assert [(record.kind, record.name) for record in store.records(PROJECT)] == [
        ("dataset", None),
        ("version", "support@0"),
    ]
    data = store.records(PROJECT, "dataset")[0]
    assert store.datasets.rows(data.id, "train") == [row(1, "hello", subject="anna")]
    assert store.exchanges.get("e1").answer == "On its way."
    assert store.verify().problems == []
    assert version(store, (data,), seed=9).name == "support@1"
    assert store.forget(PROJECT, "anna").texts == 2
    store.close()


def test_a_migrated_store_is_like_a_new_one(tmp_path: Path) -> None:
    for folder in (_first(tmp_path / "old"), tmp_path / "new"):
        store = open_store(folder)
        with store.read() as conn:
            assert compare_metadata(MigrationContext.configure(conn), metadata) == []
            query = "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
            triggers = [name for (name,) in conn.exec_driver_sql(query)]
        assert ensure_rater(store, PROJECT, "a model", "judge")  # a source that the first schema did not know
        with pytest.raises(IntegrityError), store.write() as conn:
            conn.exec_driver_sql("UPDATE raters SET source = 'somebody'")
        assert triggers == [
            f"{table}_no_{change}"
            for table in ("lineage", "promotions", "records", "votes")
            for change in ("delete", "update")
        ]
        store.close()


def test_the_copy_made_before_a_migration_goes_with_its_text(tmp_path: Path, next_release: Path) -> None:
    next_release.write_text(LATER.format(then="pass"))
    store = open_store(_first(tmp_path / "old"))
    with store.read() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM later").scalar() == 0
    assert [path.name for path in store.path.iterdir() if "before" in path.name] == []
    store.close()


def test_a_migration_that_fails_changes_nothing_and_names_its_copy(tmp_path: Path, next_release: Path) -> None:
    next_release.write_text(LATER.format(then="raise RuntimeError('a bad row')"))
    folder = _first(tmp_path / "old")
    dump = _dump(folder / "burnish.db")
    with pytest.raises(StoreError, match="a bad row") as caught:
        open_store(folder)
    assert _dump(folder / "burnish.db") == dump
    copy = folder / "burnish.db.before-0001"
    assert str(copy) in str(caught.value)
    assert _dump(copy) == dump
    next_release.write_text(LATER.format(then="pass"))
    open_store(folder).close()
    assert not copy.exists()


def test_the_release_before_refuses_what_the_next_one_wrote(
    tmp_path: Path, next_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_release.write_text(LATER.format(then="pass"))
    open_store(_first(tmp_path / "old")).close()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="schema 0004"):
        open_store(tmp_path / "old")


def test_the_dump_is_the_first_schema() -> None:
    """The dump is history: it never changes, or migrations from it prove nothing."""
    assert "'0001'" in FIRST.read_text(encoding="utf-8")
    assert work("dataset", "data").id in FIRST.read_text(encoding="utf-8")


def _dump(file: Path) -> list[str]:
    db = sqlite3.connect(file)
    lines = list(db.iterdump())
    db.close()
    return lines
