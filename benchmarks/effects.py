"""Two parts of reinforcement learning, each where it matters: what becomes of lengths and of variance.

    python benchmarks/effects.py [--only length variance] [--seeds 5] [--first 0]

On the model and the prompts of ``small_tasks.py``. Prints a Markdown table of each and writes its curves beside
``docs/explanation/reinforcement.md``: means over seeds with 95 % intervals (Student's t). Settings were chosen on the
seeds from 100 on (``--first 100``), which write no file.

- length: 1 where the first id of an answer has the prompt's remainder by 4, however long the answer goes on. Length is
  of no consequence, so what happens to it is the algorithm's doing.
- variance: an answer of twelve ids earns the share of them that are divisible by 4, all of it at its end.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from curves import Panel, mean_and_half, over_seeds, write
from small_tasks import CLASSES, WORDS, score, student

from burnish.config import Rl
from burnish.objectives import policy_term
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample
from burnish.training.credit import gae
from burnish.training.gradient import Objective
from burnish.training.loop import Loop
from burnish.training.measured import with_stream, with_values
from burnish.training.rollouts import Rollouts
from burnish.training.workers import Workers

DOCS = Path(__file__).parents[1] / "docs" / "explanation"
BLOCK = 10  # rollouts in a point of a curve
Curves = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Effect:
    """Runs of a few variants, and the panels that show them: a title, and (name, variant, figure) of each line.

    ``run`` gives the figures of a seed under a variant, each a curve over ``x``.
    """

    what: str
    run: Callable[[str, int], Curves]
    variants: Sequence[str]
    x: Sequence[float]
    panels: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]


LENGTHS = {
    "mean of answers (GRPO)": {"algorithm": "grpo", "aggregate": "sequence", "clip": (0.2, 0.2), "kl": 0.0},
    "Dr. GRPO": {"algorithm": "dr_grpo"},
}
LONGEST, STOPS = 16, tuple(range(WORDS - 8, WORDS))  # any of 8 ids ends an answer, two of each remainder


def lengths(variant: str, seed: int) -> Curves:
    """The mean length of wrong and of right answers, and their ratio; each block's over all of its answers."""
    told: list[list[tuple[bool, int]]] = []

    def pay(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
        scores = score(asked, samples)
        flat = zip((r for group in scores.total for r in group), (s for group in samples for s in group), strict=True)
        told.append([(reward > 0, len(sample.ids)) for reward, sample in flat])
        return scores

    table = Rl(updates=160, prompts=8, group=8, **LENGTHS[variant])  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        pace = {"longest": LONGEST, "stop_ids": STOPS, "learning_rate": 2e-3, "schedule": "constant"}
        loop, rollouts = student(table, seed, pay, Path(folder), **pace)
        for step in range(table.updates):
            loop.update(step, rollouts.window(step))
    found: dict[str, list[float]] = {"wrong": [], "right": [], "ratio": []}
    for at in range(0, len(told), BLOCK):
        block = [one for rollout in told[at : at + BLOCK] for one in rollout]
        wrong, right = (mean(length for ok, length in block if ok is which) for which in (False, True))
        for name, value in (("wrong", wrong), ("right", right), ("ratio", wrong / right)):
            found[name].append(value)
    return found


ANSWER, LOOKS = 12, 16  # ids of an answer; rollouts of which a look takes the gradient's variance


def paid_late(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
    """The share of an answer's ids that are divisible by 4."""
    total = [[mean(id % CLASSES == 0 for id in sample.ids) for sample in group] for group in samples]
    return Scores(total, {}, [list(range(len(group))) for group in samples])


TRACES = {"lambda 1": 1.0, "lambda 0.95": 0.95}


def noise(loop: Loop, rollouts: Rollouts, seed: int) -> dict[str, float]:
    """The policy gradient's variance with the value head over that with the mean reward in its place, by lambda.

    One and the same policy and answers; the sum of the variances of all entries, of gradients of one rollout each. With
    lambda 1 both are the same gradient but for their noise.
    """
    assert rollouts.critic is not None
    objective = Objective(loop.parameters, loop.forward, [policy_term(clip=(0.2, 0.2))], 1024, False, Workers())
    policy = [parameter for name, parameter in loop.parameters.items() if not name.startswith("value.")]
    found: dict[str, list[torch.Tensor]] = {"plain": [], **{name: [] for name in TRACES}}
    for look in range(LOOKS):
        measured = rollouts.measure(rollouts.sampler(), rollouts.prompts, 8, 1000 * seed + look)
        trees = with_values(measured.trees, rollouts.critic)
        earned = [reward for group in measured.scores.total for reward in group]
        values = [list(answer.streams["value"]) for tree in trees for answer in tree.answers]
        rewards = [[0.0] * (len(values_L) - 1) + [reward] for reward, values_L in zip(earned, values, strict=True)]
        pairs = list(zip(rewards, values, strict=True))
        advantages = {
            **{name: [a for both in pairs for a in gae.advantages(*both, trace=t)] for name, t in TRACES.items()},
            "plain": [reward - mean(earned) for reward, values_L in zip(earned, values, strict=True) for _ in values_L],
        }
        for name, flat in advantages.items():
            for parameter in loop.parameters.values():
                parameter.grad = None
            objective.gradient(0, with_stream(trees, "advantage", flat))
            found[name].append(torch.cat([p.grad.flatten() for p in policy if p.grad is not None]))
    for parameter in loop.parameters.values():
        parameter.grad = None
    spread = {name: float(torch.stack(found[name]).var(0).sum()) for name in found}
    return {name: spread[name] / spread["plain"] for name in TRACES}


PACE: Mapping[str, Mapping[str, object]] = {
    "ppo": {"value_weight": 1.0, "value_clip": "off"},
    "reinforce++": {},
}
INNER = 4  # updates of a rollout


def variances(variant: str, seed: int) -> Curves:
    """The reward by rollout; of PPO's run also the gradient's noise before every tenth one."""
    inner = {"inner_epochs": INNER, "minibatches": 1}
    table = Rl(algorithm=variant, updates=60 * INNER, prompts=8, group=8, **inner, **PACE[variant])  # type: ignore[arg-type]
    found: dict[str, list[float]] = {"reward": [], **{name: [] for name in TRACES}}
    with tempfile.TemporaryDirectory() as folder:
        loop, rollouts = student(
            table, seed, paid_late, Path(folder), longest=ANSWER, learning_rate=1e-3, schedule="constant"
        )
        for step in range(table.updates):
            if variant == "ppo" and step % (INNER * BLOCK) == 0:
                for name, value in noise(loop, rollouts, seed).items():
                    found[name].append(value)
            figures = loop.update(step, rollouts.window(step))
            found["reward"] += [figures["reward"]] if "reward" in figures else []
    return found


EFFECTS = {
    "length": Effect(
        "Mean length of answers by rollout, under GRPO with the mean of each answer and under Dr. GRPO",
        lengths,
        tuple(LENGTHS),
        range(BLOCK, 81, BLOCK),
        [
            ("Tokens of a wrong answer", [(name, name, "wrong") for name in LENGTHS]),
            ("Length of wrong over that of right answers", [(name, name, "ratio") for name in LENGTHS]),
        ],
    ),
    "variance": Effect(
        "Noise of the policy gradient and reward by rollout, with and without a value head",
        variances,
        tuple(PACE),
        range(0, 60, BLOCK),
        [
            ("Variance of the gradient, with over without", [(name, "ppo", name) for name in TRACES]),
            ("Reward", [("value head", "ppo", "reward"), ("none", "reinforce++", "reward")]),
        ],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=EFFECTS, default=list(EFFECTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--first", type=int, default=0, help="The first seed; with another one than 0 no file is written."
    )
    arguments = parser.parse_args()
    if not 2 <= arguments.seeds <= 10:
        parser.error("--seeds: an interval needs 2 to 10")
    torch.set_num_threads(1)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for name in arguments.only:
        effect = EFFECTS[name]
        runs = {variant: [effect.run(variant, seed) for seed in seeds] for variant in effect.variants}
        panels, rows = [], []
        for title, lines in effect.panels:
            curves = [(label, [found[key] for found in runs[variant]]) for label, variant, key in lines]
            for label, of_seeds in curves:
                ends = [mean_and_half([found[at] for found in of_seeds]) for at in (0, -1)]
                rows.append(f"| {title} | {label} | " + " | ".join(f"{m:.2f} ± {half:.2f}" for m, half in ends) + " |")
            x = effect.x if len(effect.x) == len(curves[0][1][0]) else range(1, len(curves[0][1][0]) + 1)
            panels.append(Panel(title, "rollouts", [over_seeds(label, x, of_seeds) for label, of_seeds in curves]))
        print("\n".join([f"\n| {name} | | first | last |", "|---|---|---|---|", *rows]), flush=True)
        if not arguments.first:
            write(DOCS / f"{name}.svg", effect.what, panels)


if __name__ == "__main__":
    main()
