"""The metric of readings.toml."""

from __future__ import annotations

from typing import Any


def right(reply: Any) -> float:
    """1 where the answer is the row's own reading, to the letter."""
    return float(reply.answer.strip() == reply.written)
