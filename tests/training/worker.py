"""One of two workers, in a process of its own: python worker.py RANK MEETING BASE OUT. Started by test_workers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from burnish.errors import TrainingError
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives import Answer, Outputs, Stream, Term, TermResult, Tree, kto_term, likelihood_term
from burnish.progress import Silent
from burnish.training.held_out import HeldOut
from burnish.training.loop import Loop, Settings
from burnish.training.workers import Workers


def tree(prompt: list[int], answer: list[int], row: int, weight: float = 1.0, label: float | None = None) -> Tree:
    streams = {"reference_logp": [-9.0] * len(answer)} if label is not None else {}
    given = Answer(answer, [weight] * len(answer), streams, row)
    if label is None:
        return Tree(prompt, (given,))
    return Tree(prompt, (given,), {"label": label}, mismatched=replace(given, ids=answer[::-1]))


FOUR = [
    tree([5, 9, 11], [7, 8, 2], 1),
    tree([6, 4], [1, 12, 13, 14, 2], 2),
    tree([3] * 9, [9], 3),
    tree([8], [4, 2], 4),
]
WINDOWS = {
    "four rows": FOUR,
    "an odd number of rows": FOUR[:3],
    "no supervised token on the second worker": [FOUR[0], tree([6, 4], [1, 2], 2, weight=0.0)],
    "no row on the second worker": FOUR[:1],
    "a statistic of the window": [tree([5, 9], [7, 2], 1, label=1.0), tree([6, 4, 4], [1, 12, 2], 2, label=0.0)] * 2,
}


class Fixed:
    def __init__(self, trees: Sequence[Tree]) -> None:
        self.trees, self.state = trees, dict[str, Any]()

    def window(self, step: int) -> Sequence[Tree]:
        return self.trees

    def boundary(self, step: int) -> bool:
        return step == 1

    def figures(self) -> dict[str, Any]:
        return {}


def poisoned() -> Term:
    """A likelihood that is no number on row 2, which is the second worker's."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        found = likelihood_term().loss(outputs, stream)
        return replace(found, total=found.total * math.nan) if 2 in stream.rows_A else found

    return replace(likelihood_term(), loss=loss)


def model_on(base: LanguageModel) -> LanguageModel:
    model = base.sibling(lora=Lora(4), trainable=True, seed=3)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def loop_of(model: LanguageModel, trees: list[Tree], term: Term, folder: Path, workers: Workers) -> Loop:
    settings = Settings(3, 1e-2, "constant", budget=12)
    return Loop(model.parameters(), model.logp, Fixed(trees), [term], settings, folder, Silent(), workers=workers)


class Said(Silent):
    """Keeps the lines that it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Killed(Exception):
    pass


def watched(base: LanguageModel, folder: Path, workers: Workers, killed_at: int = 99) -> Loop:
    """Eight updates that look at other rows after each, and get worse there: the rate is too high.

    ``killed_at`` is the update before which every worker dies.
    """
    model = model_on(base)
    windows = Fixed(FOUR)
    windows.boundary = lambda step: step in (1, 3)  # type: ignore[method-assign]
    settings = Settings(8, 0.03, "constant", budget=12)
    loop = Loop(
        model.parameters(), model.logp, windows, [likelihood_term()], settings, folder, Said(), workers=workers
    )  # fmt: skip
    unseen = [tree([5, 9, 12], [7, 8, 2], 11), tree([3, 3], [9, 1, 2], 12)]

    def measure(step: int) -> dict[str, float]:
        if step == killed_at:
            raise Killed
        # another worker's figure is another one: all of them must go by the first one's
        return {"held_out": loop.objective.value(unseen)["loss"] - 100.0 * workers.rank * step}

    loop.held_out = HeldOut(measure, every=1, patience=2, first=True)
    return loop


def stopped_early(base: LanguageModel, out: Path, workers: Workers) -> dict[str, Any]:
    """A run that stops early, the same one killed and resumed, and a checkpoint of one worker resumed by these."""
    found: dict[str, Any] = {}
    whole = watched(base, out / "watched", workers)
    found["whole"] = whole.run()
    tensors = {f"whole/{name}": p.detach() for name, p in whole.parameters.items()}
    for at in (2, 4):
        try:
            watched(base, out / "killed", workers, killed_at=at).run()
        except Killed:
            found[f"killed at {at}"] = True
    again = watched(base, out / "killed", workers)
    found["resumed"] = again.run()
    tensors |= {f"resumed/{name}": p.detach() for name, p in again.parameters.items()}
    other = watched(base, out / f"alone-{workers.rank}", Workers(), killed_at=2)
    try:
        other.run()
    except Killed:
        other = watched(base, out / f"alone-{workers.rank}", workers)
        other.run()
    assert isinstance(other.progress, Said)
    found["said"] = other.progress.lines
    save_file(tensors, out / f"stopped-{workers.rank}.safetensors")
    return found


def work(workers: Workers, folder: Path, out: Path) -> None:
    """Each window's gradient, figures and parameters after three updates, and what a poisoned one says."""
    base, said = LanguageModel.load(resolve_base(str(folder), out)), dict[str, Any]()
    for name, trees in WINDOWS.items():
        model = model_on(base)
        term = kto_term() if "statistic" in name else likelihood_term()
        loop = loop_of(model, trees, term, out / name.replace(" ", "-"), workers)
        figures, tokens = loop.objective.gradient(0, trees)
        said[name] = {"figures": figures, "tokens": tokens}
        found = {f"gradient/{n}": p.grad.clone() for n, p in model.parameters().items() if p.grad is not None}
        loop.optimizer.clear()
        loop.run()
        found |= {f"after/{n}": p.detach() for n, p in model.parameters().items()}
        save_file(found, out / f"{name}-{workers.rank}.safetensors")
    try:
        loop_of(model_on(base), FOUR, poisoned(), out / "poisoned", workers).run()
    except TrainingError as error:
        said["poisoned"] = str(error)
    said["stopped early"] = stopped_early(base, out, workers)
    (out / f"said-{workers.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    rank, meeting, base, out = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    workers = Workers.join(rank, 2, meeting)
    work(workers, base, out)
    workers.leave()
