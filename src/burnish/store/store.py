"""The store as the rest of Burnish sees it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from burnish.records import Json, Record
from burnish.store.blobs import Blobs
from burnish.store.database import prepare
from burnish.store.datasets import Datasets
from burnish.store.erasure import Forgotten, forget
from burnish.store.exchanges import Exchanges
from burnish.store.gc import Freed, collect
from burnish.store.ledger import Ledger
from burnish.store.lock import run_lock
from burnish.store.runs import RunLog
from burnish.store.texts import Texts
from burnish.store.verify import Verified, verify


class Store(Ledger):
    """A folder with the database, ``blobs/``, ``runs/`` (work in progress and its logs) and ``cache/``.

    ``cache`` may be deleted at any time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cache = path / "cache"
        self.blobs = Blobs(path / "blobs")
        self.texts = Texts()
        self.datasets = Datasets(self, self.texts)
        self.exchanges = Exchanges(self, self.texts)

    def run_lock(self, who: str) -> AbstractContextManager[None]:
        """Hold the store for a run, as ``who`` (the command).

        Raises:
            StoreError: Another process holds it.
        """
        return run_lock(self.path, who)

    def forget(self, project: str, subject: str) -> Forgotten:
        """Erase a subject's rows, prompts, answers and vote texts from database, blobs, logs and caches.

        Raises:
            StoreError: A run holds the store, or a long read keeps the write-ahead log.
        """
        return forget(self, project, subject)

    def collect_garbage(self, dry: bool = False) -> Freed:
        """Delete the cache and the checkpoints of finished work; with ``dry`` only say what would go.

        Raises:
            StoreError: A run holds the store.
        """
        with self.run_lock("burnish store gc"):
            return collect(self, self.cache, dry)

    def verify(self) -> Verified:
        """Hash everything again and say what is not what was written."""
        return verify(self)

    def metrics(self, of: Record | Path) -> list[dict[str, Json]]:
        """The figures that a record's work logged (or those in a work's folder), oldest first."""
        return RunLog.read(of if isinstance(of, Path) else self.path / "runs" / of.key[:16])


def open_store(path: Path) -> Store:
    """Open the store in the folder ``path``; it is created where it is missing, and brought to this schema.

    Raises:
        StoreError: The store was written by a newer Burnish, is no store, or cannot be written.
    """
    path = Path(path).absolute()
    prepare(path)
    return Store(path)
