"""Small tasks with a known optimum: do the algorithms of reinforcement learning reach it, and how soon?

    python benchmarks/small_tasks.py [--seeds 5] [--updates 320] [--only grpo ppo]

A bandit with a context: the prompt is one of eight ids, the answer is one token, and it earns 1 where its id has the
same remainder by 4 as the prompt's, else 0. A random model earns 0.25, the best one 1.0. The model is a random Llama
of two layers with an adapter; nothing is pretrained. Printed as a Markdown table: the mean reward of the last five
rollouts (320 answers, drawn and not greedy) of each seed, and the rollouts until one reached 0.95.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from online import online_loop
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.config import Rl
from burnish.models.adapters import Lora
from burnish.models.base import Base
from burnish.models.language import LanguageModel
from burnish.rewards.scores import Asked, Score, Scores
from burnish.sampling import Engine, Sample
from burnish.training.loop import Loop, Settings
from burnish.training.rollouts import Rollouts

RATE = 5e-3  # down to a tenth of it at the end
PROMPTS, WORDS, CLASSES, GOAL = 8, 32, 4, 0.95
ALGORITHMS = ("ppo", "grpo", "dr_grpo", "dapo", "rloo", "reinforce++", "online_dpo", "rejection")


def model_of(seed: int) -> LanguageModel:
    """A random model of 32 words with an adapter on all its layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    base = LanguageModel(module, Base("random", Path(), "random", 0))
    return base.trainable(Lora(8), seed)


def score(asked: list[Asked], samples: list[list[Sample]], *_: object) -> Scores:
    """1 where the first id of an answer has the prompt's remainder."""
    total = [
        [float(sample.ids[0] % CLASSES == prompt.ids[0] % CLASSES) for sample in group]
        for prompt, group in zip(asked, samples, strict=True)
    ]
    return Scores(total, {}, [list(range(len(group))) for group in total])


def student(
    table: Rl, seed: int, pay: Score, folder: Path, longest: int = 1, stop_ids: tuple[int, ...] = (), **pace: Any
) -> tuple[Loop, Rollouts]:
    """A random model before its first update, with the prompts 1 to 8, and where its windows come from.

    ``pay`` gives rewards, an answer has ``longest`` ids or ends with one of ``stop_ids``, ``pace`` is the loop's.
    """
    policy = model_of(seed)
    return online_loop(
        policy, lambda: Engine(policy, slots=table.prompts * table.group), policy.frozen_copy(),
        range(1, PROMPTS + 1), table, seed, pay, longest,
        Settings(table.updates, **{"learning_rate": RATE, **pace}), folder, stop_ids,
    )  # fmt: skip


def run(algorithm: str, seed: int, updates: int, folder: Path) -> list[float]:
    """The mean reward of each rollout."""
    loop, rollouts = student(Rl(algorithm=algorithm, updates=updates, prompts=PROMPTS, group=8), seed, score, folder)
    figures = [loop.update(step, rollouts.window(step)) for step in range(updates)]
    return [found["reward"] for found in figures if "reward" in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=320)
    parser.add_argument("--only", nargs="*", default=ALGORITHMS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| algorithm | reward at the end, by seed | rollouts until 0.95, by seed |\n|---|---|---|")
    for algorithm in arguments.only:
        ends, firsts = [], []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                rewards = run(algorithm, seed, arguments.updates, Path(folder))
            ends.append(sum(rewards[-5:]) / 5)
            firsts.append(next((n for n, reward in enumerate(rewards, 1) if reward >= GOAL), None))
        shown = ", ".join("never" if n is None else str(n) for n in firsts)
        print(f"| `{algorithm}` | {', '.join(f'{end:.2f}' for end in ends)} | {shown} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
