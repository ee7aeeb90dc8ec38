"""How long work speaks to whoever waits: a protocol, and the silent and the plain speaker."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """What a stage may say while it works."""

    def say(self, line: str) -> None:
        """One finished line for the reader."""

    def update(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` steps of ``what`` are done; ``note`` holds the latest figures."""


class Silent:
    """Says nothing."""

    def say(self, line: str) -> None: ...

    def update(self, what: str, done: int, total: int, note: str = "") -> None: ...


class Plain:
    """Plain lines on standard error, at most one a ``every`` seconds for a running step."""

    def __init__(self, every: float = 5.0) -> None:
        self.every = every
        self._last = 0.0

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def update(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self._last < self.every:
            return
        self._last = now
        print(f"  {what} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)
