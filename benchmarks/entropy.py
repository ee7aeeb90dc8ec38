"""What becomes of a policy's entropy where the reward is a coin, under DAPO's higher upper clip and without it.

    python benchmarks/entropy.py [--seeds 5] [--first 0]

A policy of one token for each of 32 prompts, a table: one of 16 words has 57 % at the start. Every answer earns 0 or 1
by a coin, so that nothing is to be learned, and a rollout is learned from in 32 small passes, so that the clips matter.
What moves the entropy all the same is which of two pushes is cut off first. Prints a Markdown table and writes
``docs/explanation/entropy.svg``: means over seeds with 95 % intervals (Student's t). Settings were chosen on the seeds
from 100 on (``--first 100``), which write no file.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from curves import Panel, mean_and_half, over_seeds, seeds_asked, write
from linear import Linear, training

from burnish.config import Rl
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample

PICTURE = Path(__file__).parents[1] / "docs" / "explanation" / "entropy.svg"
CLIPS = {"0.2": (0.2, 0.2), "0.28": (0.2, 0.28)}  # the upper one; the lower one is 0.2 for both
PARTS = (slice(0, 1), slice(-10, None))  # rollouts of the table's columns
PROMPTS, WORDS, GROUP, LIKELY = 32, 16, 16, 3.0
ROLLOUTS, PASSES, RATE = 40, 32, 5e-3


def entropies(clip: tuple[float, float], seed: int) -> list[float]:
    """The mean entropy of the policy in nats, before each rollout."""
    coin = random.Random(seed)

    def pay(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
        total = [[float(coin.random() < 0.5) for _ in group] for group in samples]
        return Scores(total, {}, [list(range(len(group))) for group in total])

    start = torch.zeros(WORDS, PROMPTS)
    start[0] = LIKELY
    table = Rl(
        algorithm="dapo", clip=clip, updates=ROLLOUTS * PASSES, prompts=PROMPTS, group=GROUP, inner_epochs=PASSES,
        minibatches=1, dynamic_sampling=0, overlong=0.0,
    )  # fmt: skip
    eye = torch.eye(PROMPTS).tolist()
    with tempfile.TemporaryDirectory() as folder:
        policy = Linear(lambda ids: eye[ids[-1]], start)
        loop, rollouts = training(policy, table, seed, pay, 1, RATE, Path(folder))
        found = [loop.update(step, rollouts.window(step))["entropy"] for step in range(table.updates)]
    return [-float(value) for value in found[::PASSES]]  # the term is the entropy with a minus


def main() -> None:
    seeds = seeds_asked(__doc__)
    torch.set_num_threads(1)
    curves = {upper: [entropies(clip, seed) for seed in seeds] for upper, clip in CLIPS.items()}
    print("| upper clip | first rollout | last ten |\n|---|---|---|")
    rows = curves | {
        "difference": [[b - a for a, b in zip(*both, strict=True)] for both in zip(*curves.values(), strict=True)]
    }
    for name, of_seeds in rows.items():
        ends = [mean_and_half([sum(found[part]) / len(found[part]) for found in of_seeds]) for part in PARTS]
        print(f"| {name} | " + " | ".join(f"{m:.2f} ± {half:.2f}" for m, half in ends) + " |")
    if not seeds.start:
        lines = [over_seeds(f"upper clip {upper}", range(ROLLOUTS), found) for upper, found in curves.items()]
        what = "Entropy of a policy whose reward is a coin, by rollout, under upper clips of 0.2 and 0.28"
        write(PICTURE, what, [Panel("Entropy, nats", "rollouts", lines)])


if __name__ == "__main__":
    main()
