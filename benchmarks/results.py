"""What a benchmark has measured so far: a JSON file, written after every part: an interruption loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
Result = dict[str, Any]


class Results:
    """The parts in benchmarks/results/NAME.json; delete the file to measure again."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / f"{name}.json"
        self.parts: dict[str, Result] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def once(self, part: str, command: Sequence[str]) -> Result | None:
        """The part as it was kept, or else the JSON line that the command prints last; None where it fails."""
        if part not in self.parts:
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if done.returncode or not lines:
                print(f"{part}: ended with {done.returncode}: {done.stderr[-500:]}", flush=True)
                return None
            self.parts[part] = json.loads(lines[-1]) | {"at": time.strftime("%Y-%m-%d %H:%M")}
            self.path.parent.mkdir(exist_ok=True)
            whole = self.path.with_suffix(".new")
            whole.write_text(json.dumps(self.parts, indent=1))
            whole.replace(self.path)
        return self.parts[part]
