"""How much a value head takes off the variance of a policy's gradient where the reward is delayed.

    python benchmarks/variance.py [--seeds 5] [--first 0]

Answers of twelve coins earn the share of heads, paid at the end. The policy stands still at fair coins, while PPO's
value head, linear in the place and in the lead of heads so far, learns from rollout after rollout. Every five of them:
the gradient of 48 rollouts against the values (lambda 1 or 0.95, nothing whitened), and of the same rollouts against
the mean of the other answers (RLOO). With lambda 1 both expect the same gradient, so that the smaller variance is the
better one. Prints a Markdown table and writes ``docs/explanation/variance.svg``: means over seeds with 95 % intervals
(Student's t). Settings were chosen on the seeds from 100 on (``--first 100``), which write no file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from curves import Panel, mean_and_half, over_seeds, seeds_asked, write
from linear import Linear, training

from burnish.config import Rl
from burnish.objectives import Tree
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample
from burnish.store import derive_seed
from burnish.training.gradient import Objective
from burnish.training.loop import Loop
from burnish.training.plan import Plan, plan_of
from burnish.training.rollouts import Rollouts
from burnish.training.workers import Workers

PICTURE = Path(__file__).parents[1] / "docs" / "explanation" / "variance.svg"
PROMPTS, GROUP, COINS, HEADS = 4, 8, 12, 1
UPDATES, EVERY, MEASURED, RATE = 160, 5, 48, 1e-2  # PPO has four updates a rollout
LAMBDAS = (1.0, 0.95)


def features(ids: Sequence[int]) -> list[float]:
    """One, the place in the answer, and by how many heads lead so far; the first id is the prompt."""
    tossed, heads = len(ids) - 1, sum(token == HEADS for token in ids[1:])
    return [1.0, tossed / COINS, (2 * heads - tossed) / 4]


def pay(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
    """The share of heads."""
    total = [[sum(token == HEADS for token in sample.ids) / COINS for sample in group] for group in samples]
    return Scores(total, {}, [list(range(len(group))) for group in total])


def ratios(gae_lambda: float, seed: int) -> list[float]:
    """The variance against the values over that against the mean, before the first rollout and every five."""
    table = Rl(
        algorithm="ppo", updates=UPDATES, prompts=PROMPTS, group=GROUP, gae_lambda=gae_lambda, whiten=(), minibatches=2
    )
    rloo = plan_of(Rl(algorithm="rloo", updates=UPDATES, prompts=PROMPTS), 0.0, COINS)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        policy = Linear(features, torch.zeros(2, 3))
        loop, rollouts = training(policy, table, seed, pay, COINS, RATE, Path(folder))
        loop.trainable = lambda step: {"value.head", "value.bias"}
        each = EVERY * rollouts.plan.inner.updates
        for step in range(UPDATES + 1):
            if step % each == 0:
                found.append(_ratio(loop, rollouts, rloo, derive_seed(seed, "variance", str(step))))
            if step < UPDATES:
                loop.update(step, rollouts.window(step))
    return found


def _ratio(loop: Loop, rollouts: Rollouts, rloo: Plan, seed: int) -> float:
    spreads = []
    for plan in (rollouts.plan, rloo):
        drawing = replace(rollouts, plan=plan, seed=seed, state={})
        spreads.append(_spread([_gradient(loop, plan, drawing.collect(n, 0)) for n in range(MEASURED)]))
    return spreads[0] / spreads[1]


def _gradient(loop: Loop, plan: Plan, trees: Sequence[Tree]) -> torch.Tensor:
    """Of the policy's term alone."""
    head = {"head": loop.parameters["head"]}
    Objective(head, loop.forward, plan.terms[:1], lambda _: 4096, False, Workers()).gradient(0, trees)
    found, head["head"].grad = head["head"].grad, None
    assert found is not None
    return found.flatten()


def _spread(gradients: Sequence[torch.Tensor]) -> float:
    """The variance, summed over the parameters."""
    return float(torch.stack(list(gradients)).var(0).sum())


def main() -> None:
    seeds = seeds_asked(__doc__)
    torch.set_num_threads(1)
    curves: dict[str, Any] = {f"lambda {each:g}": [ratios(each, seed) for seed in seeds] for each in LAMBDAS}
    print("| | before the first rollout | after the last |\n|---|---|---|")
    for name, of_seeds in curves.items():
        ends = [mean_and_half([found[at] for found in of_seeds]) for at in (0, -1)]
        print(f"| {name} | " + " | ".join(f"{m:.2f} ± {half:.2f}" for m, half in ends) + " |")
    if not seeds.start:
        x = range(0, UPDATES // 4 + 1, EVERY)
        lines = [over_seeds(name, x, found) for name, found in curves.items()]
        what = "Variance of the policy's gradient against a value head, over that against the mean of the other answers"
        write(PICTURE, what, [Panel("Variance: value head over mean of others", "rollouts", lines)])


if __name__ == "__main__":
    main()
