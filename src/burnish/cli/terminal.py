"""Progress for people at a terminal: one live bar, finished lines above it. Elsewhere plain lines."""

from __future__ import annotations

import sys

from burnish.progress import Plain, Progress


class Bar:
    """One line that moves while a step works."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Rich

        self._rich = Rich(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._rich.add_task("", total=None, note="", visible=False)
        self._what = ""

    def say(self, line: str) -> None:
        self._rich.console.print(line, markup=False, highlight=False)

    def update(self, what: str, done: int, total: int, note: str = "") -> None:
        if what != self._what:
            self._rich.reset(self._task, description=what, total=total, note=note, visible=True)
            self._what = what
            self._rich.start()
        self._rich.update(self._task, completed=done, total=total, note=note)
        if done >= total:
            self._rich.update(self._task, visible=False)
            self._rich.stop()
            self._what = ""


def progress() -> Progress:
    """The speaker that fits where standard error goes."""
    return Bar() if sys.stderr.isatty() else Plain()
