"""The database file: how it is opened, migrated, read and written."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from burnish.errors import StoreError

PRAGMAS = {
    "busy_timeout": 60_000,  # milliseconds
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: a commit is on the disk when it returns
    "foreign_keys": 1,
    "secure_delete": 1,  # erased text is overwritten with zeros
    "recursive_triggers": 1,  # so that INSERT OR REPLACE meets the append-only triggers too
    "temp_store": 2,  # memory: no text in temporary files
}
MIGRATIONS = Path(__file__).parent / "migrations"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Database:
    """Read and write transactions over ``burnish.db``: any number of readers, one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "burnish.db"
        self.engine = _engine(self.file)
        self._turn = threading.Lock()
        self._writer: int | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent view, which writers do not wait for."""
        with explained(self.path), self.engine.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, committed to the disk at exit and rolled back by an exception.

        Raises:
            StoreError: The disk is full, the file is locked or damaged, or this thread is writing already.
        """
        self.require_no_write()
        with self._turn, explained(self.path), self.engine.connect() as conn:
            self._writer = threading.get_ident()
            try:
                with conn.execution_options(burnish_begin="IMMEDIATE").begin():
                    yield conn
            finally:
                self._writer = None

    def require_no_write(self) -> None:
        """Raise where this thread is inside ``write()``: a second one would wait for the first forever."""
        if self._writer == threading.get_ident():
            raise StoreError("a write was opened inside a write", mend="pass the open connection on instead")

    def compact(self) -> None:
        """Rewrite the file without its free pages and empty the write-ahead log.

        Raises:
            StoreError: Another process reads without pause, so that the log cannot be emptied.
        """
        with self._turn, explained(self.path), self.engine.connect() as conn:
            raw = conn.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("VACUUM")
            busy = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            what = "a long read of another process keeps the write-ahead log, with what was erased in it"
            raise StoreError(what, where=str(self.file), mend="run the same command again when it has ended")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a failure of the disk or the database file into a StoreError that says which and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path) from error
        if error.errno in FORBIDDEN:
            raise StoreError("no permission to write here", where=str(path), mend="see who owns the folder") from error
        raise
    except IntegrityError:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        said = str(error.__cause__ or error)
        if "full" in said or "disk I/O" in said:
            raise disk_full(path) from error
        if "locked" in said or "readonly" in said or "unable to open" in said:
            raise StoreError(said, where=str(path), mend="see what else uses it, and who may write there") from error
        if "malformed" in said or "not a database" in said:
            raise StoreError(said, where=str(path), mend="burnish verify says what is damaged") from error
        raise


def disk_full(path: Path) -> StoreError:
    """What is said when a file could not be written: nothing of it is kept, and nothing else is lost."""
    near = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(near).free / 1e6
    mend = "free some space there and run the same command again; nothing half-saved was kept"
    return StoreError(f"cannot write: {free:.1f} MB are free on this disk", where=str(path), mend=mend)


def prepare(path: Path) -> None:
    """Create the folder and the database, or migrate an older one, under a lock and after a copy.

    Raises:
        StoreError: The schema is newer than this Burnish, or the file is no store. Nothing was touched.
    """
    if path.exists() and not path.is_dir():
        raise StoreError("the store is a folder, and this is a file", where=str(path), mend="name another folder")
    config = _config()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if _current(path, known) == script.get_current_head():
        return
    try:
        with explained(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(path / "open.lock", timeout=60):
                current = _current(path, known)
                if current != script.get_current_head():
                    _migrate(path, config, current)
    except Timeout as error:
        raise StoreError("another process is migrating it", where=str(path), mend="wait for it") from error


def _migrate(path: Path, config: Config, current: str | None) -> None:
    database = Database(path)
    copy = path / f"burnish.db.before-{current}"
    try:
        if current is not None:
            copy.unlink(missing_ok=True)
            with closing(sqlite3.connect(database.file)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        with database.write() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
        # the copy holds the personal text of its time: kept longer, it would escape erasure
        copy.unlink(missing_ok=True)
    except StoreError:
        raise
    except Exception as error:
        what = f"the store could not be brought to this schema: {getattr(error, 'orig', error)}"
        kept = f", and a copy is in {copy}" if copy.exists() else ""
        raise StoreError(what, where=str(path), mend=f"it is as it was{kept}") from error
    finally:
        database.close()


def _current(path: Path, known: set[str]) -> str | None:
    """The schema's revision, None where there is no database yet; read without leaving a trace."""
    file = path / "burnish.db"
    if not file.exists() or file.stat().st_size == 0:
        return None
    source = sqlite3.connect(file, timeout=60)
    try:
        tables = {row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            if tables:
                raise StoreError("this database is not Burnish's", where=str(file), mend="name another folder")
            return None
        row = source.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"not a Burnish store: {error}", where=str(file), mend="name another folder") from error
    finally:
        source.close()
    if row and row[0] not in known:
        mend = "update Burnish, or name another folder; nothing was changed"
        raise StoreError(f"the store was written by a newer Burnish (schema {row[0]})", where=str(path), mend=mend)
    return row[0] if row else None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _engine(file: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{file}",
        pool_size=8,
        max_overflow=-1,
        connect_args={"timeout": PRAGMAS["busy_timeout"] / 1000, "isolation_level": None},  # type: ignore[operator]
    )

    @event.listens_for(engine, "connect")
    def settle(raw: sqlite3.Connection, _: Any) -> None:
        for name, wanted in PRAGMAS.items():
            raw.execute(f"PRAGMA {name} = {wanted}")
        if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            raise StoreError("this disk does not allow a write-ahead log", where=str(file), mend="use a local disk")

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        # a write takes its lock at once: a read that became a write would fail where another was faster
        conn.exec_driver_sql(f"BEGIN {conn.get_execution_options().get('burnish_begin', 'DEFERRED')}")

    return engine
