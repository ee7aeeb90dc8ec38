"""Times, numbers and stages as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from burnish.records import Figure, Json

STAGES = {
    "base": "base model",
    "sft": "supervised fine-tuning",
    "preference": "preference training",
    "rl": "reinforcement learning",
    "import": "importing an adapter",
}


def origin(stage: str) -> str:
    """Where a version comes from, as the beginning of a sentence."""
    if stage == "base":
        return "The base model, as it came"
    return f"Made by {STAGES.get(stage, stage)}"


def when(moment: str) -> str:
    """``23 Nov 2024, 09:14 UTC``; the pages' script turns it into the reader's own time."""
    try:
        return f"{datetime.fromisoformat(moment):%-d %b %Y, %H:%M} UTC"
    except ValueError:
        return moment


def number(value: Json) -> str:
    """The digits that say something: ``1,240``, ``30.4``, ``1.12``, ``0.061``.

    A dash where there is none, and "not a number" for what is not finite.
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number"
    size = abs(value)
    digits = 0 if isinstance(value, int) or size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
    return f"{value:,.{digits}f}".replace("-", "−")


def figure_of(value: Json) -> Figure | None:
    """A figure as records hold it (a mapping with value, low and high), or None."""
    if isinstance(value, Figure):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("value"), int | float):
        return None
    clusters = value.get("clusters", 0)
    return Figure(value["value"], value.get("low"), value.get("high"), clusters, value.get("level", 0.95))


def interval(figure: Figure | None) -> str:
    """``0.41 (0.32 to 0.50)``."""
    if figure is None:
        return "–"
    text = number(figure.value)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} ({number(figure.low)} to {number(figure.high)})"


def ruled(why: str) -> str:
    """A rule's sentence beside its mark: the mark says yes already."""
    text = why.removesuffix(": yes")
    return text[:1].upper() + text[1:]


def count(amount: int, thing: str) -> str:
    """``1 vote``, ``1,240 votes``."""
    return f"{amount:,} {thing}{'' if amount == 1 else 's'}"
