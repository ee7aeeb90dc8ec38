"""The append-only log of figures that a stage writes while it works."""

from __future__ import annotations

import json
import math
from pathlib import Path

from burnish.records import Json
from burnish.store.database import explained
from burnish.store.hashing import now

FILE = "metrics.jsonl"


class RunLog:
    """``metrics.jsonl`` in a work's folder: one JSON object per line, with ``step`` and ``at`` (when)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            torn = self.path.exists() and not _ends_whole(self.path)
            if torn:  # a killed process left half a line; what follows must not join it
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def log(self, step: int, **figures: Json) -> None:
        """Append one line. A number that is not finite is spelled "nan", "inf" or "-inf", never left out."""
        line = json.dumps(_spelled({"step": step, "at": now(), **figures}), allow_nan=False)
        with explained(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @staticmethod
    def read(folder: Path) -> list[dict[str, Json]]:
        """The lines so far, oldest first; a line that a killed process left half written is left out."""
        path = folder / FILE
        lines: list[dict[str, Json]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
        return lines


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _spelled(value: Json) -> Json:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return value
