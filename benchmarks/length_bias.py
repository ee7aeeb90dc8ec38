"""What becomes of the length of answers where length is of no consequence, under GRPO and under Dr. GRPO.

    python benchmarks/length_bias.py [--seeds 5] [--first 0]

On the model and prompts of ``small_tasks.py``: an answer earns 1 where its first id has the prompt's remainder by 4,
however long it goes on. Prints a Markdown table and writes ``docs/explanation/length.svg``: means over seeds with 95 %
intervals (Student's t). Settings were chosen on the seeds from 100 on (``--first 100``), which write no file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from curves import Panel, mean_and_half, over_seeds, seeds_asked, write
from small_tasks import WORDS, score, student

from burnish.config import Rl
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample

PICTURE = Path(__file__).parents[1] / "docs" / "explanation" / "length.svg"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "GRPO": {"algorithm": "grpo", "aggregate": "sequence", "clip": (0.2, 0.2), "kl": 0.0},
    "Dr. GRPO": {"algorithm": "dr_grpo"},
}
PANELS = {"wrong": "Tokens of a wrong answer", "ratio": "Length of wrong over that of right answers"}
UPDATES, BLOCK = 160, 10  # a rollout has two updates; rollouts in a point of a curve
LONGEST, STOPS = 16, tuple(range(WORDS - 8, WORDS))  # any of 8 ids ends an answer, two of each remainder


def lengths(variant: str, seed: int) -> dict[str, list[float]]:
    """The mean length of wrong answers, and its ratio to that of right ones, over each block of rollouts."""
    told: list[list[tuple[bool, int]]] = []

    def pay(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
        scores = score(asked, samples)
        flat = zip((r for group in scores.total for r in group), (s for group in samples for s in group), strict=True)
        told.append([(reward > 0, len(sample.ids)) for reward, sample in flat])
        return scores

    table = Rl(updates=UPDATES, prompts=8, group=8, **VARIANTS[variant])
    with tempfile.TemporaryDirectory() as folder:
        pace: dict[str, Any] = {"learning_rate": 2e-3, "schedule": "constant"}
        loop, rollouts = student(table, seed, pay, Path(folder), longest=LONGEST, stop_ids=STOPS, **pace)
        for step in range(table.updates):
            loop.update(step, rollouts.window(step))
    found: dict[str, list[float]] = {"wrong": [], "ratio": []}
    for at in range(0, len(told), BLOCK):
        block = [one for rollout in told[at : at + BLOCK] for one in rollout]
        wrong, right = (mean(length for ok, length in block if ok is which) for which in (False, True))
        found["wrong"].append(wrong)
        found["ratio"].append(wrong / right)
    return found


def main() -> None:
    seeds = seeds_asked(__doc__)
    torch.set_num_threads(1)
    runs = {variant: [lengths(variant, seed) for seed in seeds] for variant in VARIANTS}
    panels = []
    print("| | | first rollouts | last rollouts |\n|---|---|---|---|")
    for figure, title in PANELS.items():
        curves = {variant: [found[figure] for found in of_seeds] for variant, of_seeds in runs.items()}
        for variant, of_seeds in curves.items():
            ends = [mean_and_half([found[at] for found in of_seeds]) for at in (0, -1)]
            print(f"| {title} | {variant} | " + " | ".join(f"{m:.2f} ± {half:.2f}" for m, half in ends) + " |")
        x = range(BLOCK, UPDATES // 2 + 1, BLOCK)
        lines = [over_seeds(variant, x, of_seeds) for variant, of_seeds in curves.items()]
        panels.append(Panel(title, "rollouts", lines))
    if not seeds.start:
        write(
            PICTURE,
            "Mean length of answers by rollout, under GRPO with the mean of each answer and under Dr. GRPO",
            panels,
        )


if __name__ == "__main__":
    main()
