"""What can be made again, and may go: the cache, and the checkpoints of work that is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from burnish.store.database import explained
from burnish.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Freed:
    """Folders that went (or would go), and their bytes."""

    folders: tuple[Path, ...]
    bytes: int


def collect(ledger: Ledger, cache: Path, dry: bool) -> Freed:
    """Delete what is in ``cache`` and what finished work left beside its log; with ``dry`` only count it.

    A stage that was not finished keeps its checkpoints: it goes on from them. The caller holds the run lock.

    Raises:
        StoreError: A folder cannot be deleted.
    """
    done = {record.key[:16] for project in ledger.projects() for record in ledger.records(project)}
    folders = tuple(_finished(ledger.path / "runs", done)) + tuple(p for p in sorted(cache.glob("*")) if p.is_dir())
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    if not dry:
        for folder in folders:
            with explained(folder):
                shutil.rmtree(folder)
    return Freed(folders, size)


def _finished(runs: Path, done: set[str]) -> Iterator[Path]:
    for work in sorted(runs.glob("*")):
        if work.name in done:
            yield from (part for part in sorted(work.iterdir()) if part.is_dir())
