"""How long work speaks to whoever waits: a protocol, and the silent and the plain speaker."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from burnish.records import Json

# what a line says of an update's figures, where there is room for a few; the log and the run page have them all
TELLING = (
    "loss",
    "held_out",
    "held_out_accuracy",
    "reward",
    "dev_win_share",
    "dev_held_out_gain",
    "kl",
    "entropy/entropy",
    "length",
    "policy/clip_share",
    "mismatch",
    "pairwise/accuracy",
    "preference/accuracy",
    "kto/accuracy",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
)


class Progress(Protocol):
    """What a stage may say while it works."""

    def say(self, line: str) -> None:
        """One finished line for the reader."""

    def update(self, what: str, done: int, total: int, note: str | Mapping[str, Json] = "") -> None:
        """``done`` of ``total`` steps of ``what`` are done; ``note`` holds the latest figures, in words or by name."""


class Silent:
    """Says nothing."""

    def say(self, line: str) -> None: ...

    def update(self, what: str, done: int, total: int, note: str | Mapping[str, Json] = "") -> None: ...


class Plain:
    """Plain lines on standard error, at most one a ``every`` seconds for a running step."""

    def __init__(self, every: float = 5.0) -> None:
        self.every = every
        self._last = 0.0

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def update(self, what: str, done: int, total: int, note: str | Mapping[str, Json] = "") -> None:
        now = time.monotonic()
        if done < total and now - self._last < self.every:
            return
        self._last = now
        print(f"  {what} {done}/{total} {in_words(note)}".rstrip(), file=sys.stderr, flush=True)


def in_words(note: str | Mapping[str, Json]) -> str:
    """The telling figures of an update in one line: ``loss 2.31, learning rate 0.001``."""
    if isinstance(note, str):
        return note
    return ", ".join(f"{name_of(key)} {number(note[key])}" for key in TELLING if key in note)


def name_of(key: str) -> str:
    """A figure's name as people read it: ``tokens/s``, ``gradient norm``."""
    return key.rpartition("/")[2].replace("_per_second", "/s").replace("held_out", "held-out").replace("_", " ")


def number(value: Json) -> str:
    """Three digits that say something; what is not finite is said, not hidden."""
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
