"""The only step loop: a window of trees in, one optimizer update out.

Supervised, reward and online training differ in where a window comes from and which terms they name; none has a loop of
its own. A term returns a sum and its declared count is taken over the whole window before the first forward: only this
file divides, so that the gradient does not depend on how the window was cut into streams.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from burnish.errors import TrainingError
from burnish.objectives.stream import Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term
from burnish.progress import Progress
from burnish.store.runs import RunLog
from burnish.training import checkpoint
from burnish.training.optimizer import Optimizer, Parameters, only
from burnish.training.schedule import require_fit, share

BEST = "best"  # the folder of the checkpoint that the windows found best


class Stop(Exception):
    """Raised by a source of windows: training ends here, with the parameters of the last checkpoint.

    The brake of reinforcement learning uses it: the window showed that the parameters have gone too far.
    """


class Windows(Protocol):
    """Where the trees of an update come from; ``state`` is what a checkpoint keeps and a resume gives back."""

    state: dict[str, Any]

    def window(self, step: int) -> Sequence[Tree]:
        """The trees of update ``step``, a function of the step and the current parameters alone."""

    def boundary(self, step: int) -> bool:
        """Whether a checkpoint may be taken between the window of ``step`` and its update."""

    def best(self, step: int) -> bool:
        """Whether the window of ``step``, a boundary, has found the parameters to be the best so far."""

    def figures(self) -> Mapping[str, Any]:
        """Figures of the latest window that belong in the log."""


@dataclass(frozen=True)
class Settings:
    """How the optimizer moves. ``budget`` is the largest number of tokens in one forward.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """

    updates: int
    learning_rate: float
    schedule: str = "linear"
    warmup: int = 0
    clip_norm: float = 1.0
    budget: int = 1024
    keep_last: bool = False

    def __post_init__(self) -> None:
        require_fit(self.warmup, self.updates)

    def rate(self, step: int) -> float:
        """The learning rate of update ``step``."""
        return self.learning_rate * share(self.schedule, step, self.updates, self.warmup)


@dataclass
class Loop:
    """One run of the step loop.

    Args:
        parameters: What is trained, by name.
        forward: Stream to Outputs, with gradient.
        windows: Where the trees come from.
        terms: What is minimised: each term's sum over its declared count, times its weight.
        folder: Where checkpoints and ``metrics.jsonl`` go.
        rates: The factor of a parameter's learning rate, by name (layer-wise rates); 1 where it is not named.
        trainable: The names of the parameters that update ``step`` may move (gradual unfreezing); None: all.
    """

    parameters: Parameters
    forward: Callable[[Stream], Outputs]
    windows: Windows
    terms: Sequence[Term]
    settings: Settings
    folder: Path
    progress: Progress
    what: str = "update"
    rates: Mapping[str, float] = field(default_factory=dict)
    trainable: Callable[[int], Set[str]] | None = None

    def __post_init__(self) -> None:
        self.log = RunLog(self.folder)
        self.optimizer = Optimizer(self.parameters, self.rates)

    def run(self) -> tuple[int, str | None]:
        """Train to the last update, from the last whole checkpoint on.

        Returns:
            The number of updates done, and why it stopped early (None: it did not).

        Raises:
            TrainingError: A loss or gradient is not finite, or a checkpoint is not what was written.
        """
        start = self.restore()
        for step in range(start, self.settings.updates):
            try:
                trees = self.windows.window(step)
            except Stop as stop:
                self.log.log(step, **self.windows.figures(), stopped=str(stop))
                return self.restore(), str(stop)
            if self.windows.boundary(step):
                if self.windows.best(step):
                    self.save(step, self.folder / BEST)
                self.save(step, self.folder)
            figures = self.update(step, trees)
            self.log.log(step, **figures)
            self.progress.update(self.what, step + 1, self.settings.updates, figures)
        return self.settings.updates, None

    def update(self, step: int, trees: Sequence[Tree]) -> dict[str, Any]:
        """One optimizer update on one window; returns its figures."""
        began = time.perf_counter()
        counts = {term.name: term.count(trees) for term in self.terms}
        if not any(counts[term.name] for term in self.terms if term.weight):
            raise TrainingError(f"update {step} has nothing to learn: no row of it holds a supervised token")
        sums: dict[str, float] = {}
        tokens = 0
        streams = pack(trees, self.settings.budget, keep_last=self.settings.keep_last)
        window = self._statistics(trees)
        with only(self.parameters, self.trainable(step) if self.trainable else None):
            for stream in streams:
                stream.window = window
                tokens += len(stream.ids_T)
                self._backward(step, stream, counts, sums)
        _require_used(step, self.terms, counts, sums)
        norm = self.optimizer.clip(self.settings.clip_norm)
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient of update {step} is not finite ({norm})", mend=_rows(streams))
        rate = self.settings.rate(step)
        self.optimizer.step(rate)
        seconds = time.perf_counter() - began
        figures = {
            name: total / counts[name.split("/")[0]]
            for name, total in sums.items()
            if counts[name.split("/")[0]] and not name.endswith("/used")
        }
        return {
            "loss": sum(term.weight * figures.get(term.name, 0.0) for term in self.terms),
            **figures,
            **self.windows.figures(),
            "gradient_norm": norm,
            "learning_rate": rate,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
        }

    @torch.no_grad()
    def _statistics(self, trees: Sequence[Tree]) -> dict[str, float]:
        """What terms know of the whole window before its first gradient, by the term's name."""
        found: dict[str, float] = {}
        for term in self.terms:
            if term.statistic is not None:
                streams = pack(term.statistic.trees(trees), self.settings.budget, keep_last=self.settings.keep_last)
                results = [term.statistic.read(self.forward(stream), stream) for stream in streams]
                total, units = sum(float(r.total) for r in results), sum(r.units for r in results)
                found[term.name] = total / units if units else 0.0
        return found

    def _backward(self, step: int, stream: Stream, counts: Mapping[str, float], sums: dict[str, float]) -> None:
        outputs = self.forward(stream)
        loss = torch.zeros(())
        for term in self.terms:
            result = term.loss(outputs, stream)
            if counts[term.name] > 0:
                loss = loss + term.weight * result.total / counts[term.name]
            sums[term.name] = sums.get(term.name, 0.0) + float(result.total.detach())
            sums[f"{term.name}/used"] = sums.get(f"{term.name}/used", 0.0) + result.units
            for name, value in result.metrics.items():
                key = f"{term.name}/{name}"
                sums[key] = sums.get(key, 0.0) + float(value)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of update {step} is not finite ({float(loss.detach())})", mend=_rows([stream])
            )
        if loss.requires_grad:
            loss.backward()

    def save(self, step: int, folder: Path) -> None:
        """Write a checkpoint that resumes with update ``step``."""
        tensors = {name: p.detach() for name, p in self.parameters.items()}
        state = self.windows.state
        checkpoint.save(folder, checkpoint.Checkpoint(step, tensors, self.optimizer.state(), state))

    def restore(self, best: bool = False) -> int:
        """Take the last checkpoint's tensors, or the best one's; returns the update to do next (0 without one)."""
        found = checkpoint.load(self.folder / BEST if best else self.folder)
        if found is None:
            return 0
        if set(found.tensors) != set(self.parameters):
            raise TrainingError("the checkpoint holds other tensors than this run trains", where=str(self.folder))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.tensors[name])
        self.optimizer.restore(found.optimizer)
        self.windows.state.update(found.state)
        return found.step


def _require_used(step: int, terms: Sequence[Term], counts: Mapping[str, float], sums: Mapping[str, float]) -> None:
    """The declared count is the units that were used, or a denominator is wrong and the loss with it."""
    for term in terms:
        used = sums.get(f"{term.name}/used", 0.0)
        if not math.isclose(used, counts[term.name], rel_tol=1e-5, abs_tol=1e-6):
            raise TrainingError(
                f"update {step}: the term {term.name} declared {counts[term.name]} {term.unit}s and used {used}",
                mend="this is a bug of the term; please report it",
            )


def _rows(streams: Sequence[Stream]) -> str:
    rows = sorted({int(row) for stream in streams for row in stream.rows_A})
    return f"look at rows {', '.join(map(str, rows[:20]))}; a lower learning_rate may help"
