"""What a learned reward has learned: how its score moves with each part of the simulated raters' rule.

    python benchmarks/reward_parts.py RECIPE [--prompts 90]

Prints the correlation of the reward with the rule's utility and with each part, over sampled answers of the collecting
stage (most of them were trained on), and the mean reward by length. The rule is never visible to the model.
"""

from __future__ import annotations

import argparse

import numpy as np

from burnish.models.artifacts import load_reward
from burnish.pipeline import Project
from burnish.recipes.support.raters import parts
from burnish.records import Exchange
from burnish.rewards.learned import score_answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--prompts", type=int, default=90)
    arguments = parser.parse_args()
    project = Project(arguments.recipe)
    store, name = project.store, project.recipe.name
    reward = load_reward(store, store.records(name, "reward")[-1], project.cache)
    groups: dict[tuple[int, ...], list[Exchange]] = {}
    for exchange in store.exchanges.recent(name, 100_000, purpose="feedback"):
        groups.setdefault(exchange.prompt_ids, []).append(exchange)
    prompts = list(groups)[: arguments.prompts]
    scored = score_answers(reward, prompts, [[e.answer_ids for e in groups[p]] for p in prompts])
    scores = np.array([score for group in scored for score in group])
    answers = [exchange for prompt in prompts for exchange in groups[prompt]]
    found = [parts(e.prompt[-1].content, e.answer, e.finish_reason == "stop") for e in answers]
    print(f"{len(answers)} answers to {len(prompts)} prompts; correlation of the reward with")
    columns = {"utility": [sum(p.values()) for p in found]} | {n: [p[n] for p in found] for n in found[0]}
    for part, values in columns.items():
        spread = float(np.std(values))
        print(f"  {part:8} {np.corrcoef(scores, values)[0, 1]:+.2f}" if spread else f"  {part:8} does not vary")
    lengths = np.array([len(e.answer.split()) for e in answers])
    for low, high in ((0, 12), (12, 20), (20, 37), (37, 100)):
        within = (lengths >= low) & (lengths < high)
        if within.any():
            print(f"  {low} to {high - 1} words: mean reward {scores[within].mean():.2f} ({within.sum()} answers)")


if __name__ == "__main__":
    main()
