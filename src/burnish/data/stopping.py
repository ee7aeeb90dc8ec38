"""Stop strings: where a text ends although the model went on. Strings, not ids: a string may cross tokens' borders."""

from __future__ import annotations

from collections.abc import Sequence


def first_stop(text: str, strings: Sequence[str]) -> tuple[int, str] | None:
    """Where the first stop string of a text begins, and which one it is; None where there is none."""
    return min(((at, stop) for stop in strings if (at := text.find(stop)) >= 0), default=None)
