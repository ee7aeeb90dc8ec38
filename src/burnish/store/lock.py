"""The run lock: one run at a time on a store. The operating system holds it, so death releases it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from burnish.errors import StoreError
from burnish.store.database import explained
from burnish.store.hashing import now


@contextmanager
def run_lock(path: Path, who: str) -> Iterator[None]:
    """Hold the store for a run; readers and writers of other processes go on.

    Raises:
        StoreError: Another process holds it; the message names its pid, command and start.
    """
    lock, holder = FileLock(path / "run.lock", thread_local=False), path / "run.holder"
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(_held(holder), where=str(path), mend="wait for it, or stop it") from None
    try:
        with explained(path):
            holder.write_text(json.dumps({"pid": os.getpid(), "who": who, "since": now()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _held(holder: Path) -> str:
    try:
        by = json.loads(holder.read_text(encoding="utf-8"))
        return f"held by pid {by['pid']} `{by['who']}` since {by['since'][:19].replace('T', ' ')} UTC"
    except (OSError, ValueError, KeyError):
        return "another run holds the store"
