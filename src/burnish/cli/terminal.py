"""Progress for people at a terminal: one live panel, finished lines above it. Elsewhere plain lines."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.progress import TELLING, Plain, Progress, in_words, name_of, number
from burnish.records import Json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

BARS = "▁▂▃▄▅▆▇█"
TREND = 24  # updates that the small curve beside a figure shows


class Panel:
    """The step at work: a bar with the time left, and under it the latest figures, each with its last values.

    It appears with the first step and goes with the last one; `close` takes it away whenever work ends otherwise.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        self._console = console or Console(stderr=True)
        self._bar = Rich(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None)
        self._what = self._note = ""
        self._figures: dict[str, list[Json]] = {}
        self._live = Live(console=self._console, transient=True, refresh_per_second=4, get_renderable=self._drawn)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def update(self, what: str, done: int, total: int, note: str | Mapping[str, Json] = "") -> None:
        if what != self._what:
            self._bar.reset(self._task, description=what, total=total)
            self._what, self._figures = what, {}
            self._live.start()
        if isinstance(note, str):
            self._note = note
        else:
            self._note = ""
            for key in TELLING:
                if key in note:
                    self._figures[key] = [*self._figures.get(key, []), note[key]][-TREND:]
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self.close()
            if self._figures:  # the panel goes, its last figures stay
                self.say(f"{what} {done}/{total}: {in_words({key: had[-1] for key, had in self._figures.items()})}")

    def close(self) -> None:
        """Take the panel away and give the terminal back."""
        self._live.stop()
        self._what = ""

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self._figures:
            return Group(self._bar, Text(self._note)) if self._note else self._bar
        table = Table.grid(padding=(0, 2))
        for key, values in self._figures.items():
            broken = not _finite(values[-1])
            shown = Text(number(values[-1]), style="bold red" if broken else "bold")
            table.add_row(f"  {name_of(key)}", shown, Text(curve(values), style="cyan"))
        return Group(self._bar, table)


def curve(values: list[Json]) -> str:
    """The values as a row of bars; what is not finite is a cross, never a bar."""
    finite = [float(value) for value in values if _finite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((float(v) - low) * scale)] if _finite(v) else "×" for v in values)


def progress() -> Progress:
    """The speaker that fits where standard error goes."""
    return Panel() if sys.stderr.isatty() else Plain()


def _finite(value: Json) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
