"""The only step loop: a window of trees in, one optimizer update out.

Supervised, preference, reward and online training differ in where a window comes from and which terms they name; none
has a loop of its own. ``gradient.py`` says what a window's gradient is, ``optimizer.py`` and ``schedule.py`` how far a
step goes; here is their order, and what is kept, looked at and refused on the way.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from burnish.errors import TrainingError
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term
from burnish.progress import Progress
from burnish.records import Json
from burnish.store.ledger import changes
from burnish.store.runs import RunLog
from burnish.training import checkpoint
from burnish.training.conditions import conditions, deterministic
from burnish.training.gradient import Objective
from burnish.training.held_out import HeldOut, Stop
from burnish.training.optimizer import Optimizer, Parameters, only
from burnish.training.schedule import require_fit, share
from burnish.training.workers import Workers

BEST = "best"  # the folder of the checkpoint whose held-out figure was the best
STILL = 8  # updates in a row whose margin may be exactly zero


class Windows(Protocol):
    """Where the trees of an update come from; ``state`` is what a checkpoint keeps and a resume gives back."""

    state: dict[str, Any]

    def window(self, step: int) -> Sequence[Tree]:
        """The trees of update ``step``, a function of the step and the current parameters alone."""

    def boundary(self, step: int) -> bool:
        """Whether a checkpoint may be taken between the window of ``step`` and its update."""

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
        held_out: How to look at rows that are not trained on; the run then ends with the best parameters it saw.
        recipe: The stage's resolved settings by table: a checkpoint of others is refused.
        workers: The processes that share each window; every one of them makes the same loop.
        room: Where it depends on the trees, the largest number of tokens in one forward; else ``settings.budget``.
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
    held_out: HeldOut | None = None
    recipe: Mapping[str, Json] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    room: Callable[[Sequence[Tree]], int] | None = None

    def __post_init__(self) -> None:
        self.log = RunLog(self.folder)
        self.optimizer = Optimizer(self.parameters, self.rates)
        budget, keep_last = self.room or (lambda trees: self.settings.budget), self.settings.keep_last
        self.objective = Objective(self.parameters, self.forward, self.terms, budget, keep_last, self.workers)
        self.seen: dict[str, Any] = {}  # what the looks at held-out rows have shown
        self._still = 0

    def run(self) -> tuple[int, str | None]:
        """Train to the last update, from the last whole checkpoint on.

        Returns:
            The number of updates that the parameters have had, and why training stopped early (None: it did not).

        Raises:
            TrainingError: A loss or gradient is not finite, the margin does not move, or a checkpoint is not what was
                written or of other settings.
        """
        with deterministic():
            step, stopped, last = self._resume(), None, self.settings.updates
            if step and self.workers.first:
                self.progress.say(f"{self.what} {step} of {last} is kept: it goes on from there")
            try:
                while step < last:
                    look = self._look(step)
                    trees = self.windows.window(step)
                    if self.windows.boundary(step):
                        self.save(step, self.folder)
                    figures = {**look, **self.update(step, trees)}
                    self._log(step, figures)
                    step += 1
                    if self.workers.first:
                        self.progress.update(self.what, step, last, figures)
                look = self._look(step)
                if look:
                    self._log(step, look)
            except Stop as stop:
                stopped = str(stop)
                self._log(step, {**stop.figures, "stopped": stopped})
            best = self.seen.get("best")
            if best is not None and best["step"] != step:
                seen, step = self.seen, self.restore(self.folder / BEST)
                self.seen = seen  # the looks after the best one too
        return step, stopped

    def update(self, step: int, trees: Sequence[Tree]) -> dict[str, Any]:
        """One optimizer update on one window; returns its figures."""
        began = time.perf_counter()
        with only(self.parameters, self.trainable(step) if self.trainable else None):
            figures, tokens = self.objective.gradient(step, trees)
            self._require_margin(step, figures, trees)
            norm = self.optimizer.clip(self.settings.clip_norm)
            if not math.isfinite(norm):
                raise self.objective.blame(step, "gradient", trees)
        rate = self.settings.rate(step)
        self.optimizer.step(rate)
        seconds = time.perf_counter() - began
        return {
            "loss": sum(term.at(step) * figures.get(term.name, 0.0) for term in self.terms),
            **figures,
            **self.windows.figures(),
            "gradient_norm": norm,
            "learning_rate": rate,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
        }

    def save(self, step: int, folder: Path) -> None:
        """Write a checkpoint that resumes with update ``step``."""
        if self.workers.first:
            tensors = {name: p.detach() for name, p in self.parameters.items()}
            state = {
                "windows": self.windows.state,
                "seen": self.seen,
                "settings": self._described(),
                "conditions": conditions(self.workers),
            }
            checkpoint.save(folder, checkpoint.Checkpoint(step, tensors, self.optimizer.state(), state))

    def restore(self, folder: Path) -> int:
        """Take the tensors and the state of ``folder``'s checkpoint; returns the update to do next (0 without one).

        Raises:
            TrainingError: It is not what was written, or it was made with other settings; the message says which.
        """
        found = checkpoint.load(folder)
        if found is None:
            return 0
        differ = list(changes("", "", found.state.get("settings", {}), self._described()))
        if differ or set(found.tensors) != set(self.parameters):
            what = "; ".join(differ[:5]) or "it holds other tensors than this run trains"
            mend = f"bring the old settings back, or remove {folder} to train this stage anew"
            raise TrainingError(f"the checkpoint was made with other settings: {what}", where=str(folder), mend=mend)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.tensors[name])
        self.optimizer.restore(found.optimizer)
        self.windows.state.update(found.state["windows"])
        self.seen = found.state["seen"]
        moved = list(changes("", "", {"run": found.state["conditions"]}, {"run": conditions(self.workers)}))
        if moved and self.workers.first and folder == self.folder:  # the best of this run was read back from elsewhere
            self.progress.say(f"resumed under other conditions, the last bits may differ: {'; '.join(moved)}")
        return found.step

    def _resume(self) -> int:
        """The last checkpoint, which all workers must have read before the first one writes another."""
        step = self.restore(self.folder)
        if len(set(self.workers.exchange(step))) > 1:
            raise TrainingError("the workers read different checkpoints", where=str(self.folder))
        return step

    def _look(self, step: int) -> Mapping[str, Any]:
        """Look at held-out rows where it is time, and keep the parameters where they are the best so far.

        Raises:
            Stop: It is time to stop.
        """
        if self.held_out is None or not self.held_out.due(step, self.settings.updates):
            return {}
        if self.seen.get("step") != step:  # a resumed run has seen it
            figures = self.workers.exchange(self.held_out.measure(step))[0]
            self.seen = self.held_out.judged(self.seen, step, figures)
            best = self.seen["best"]
            if best is not None and best["step"] == step:
                self.save(step, self.folder / BEST)
            self.held_out.require_patience(self.seen)
        return self.seen["figures"]

    def _log(self, step: int, figures: Mapping[str, Any]) -> None:
        if self.workers.first:
            self.log.log(step, **figures)

    def _require_margin(self, step: int, figures: Mapping[str, float], trees: Sequence[Tree]) -> None:
        """A margin of exactly zero means that both answers are alike, or that nothing trained reaches the loss.

        Where every pair is a tie, as online pairs of a solved task are, it is zero by definition and says nothing.
        """
        margins = [value for name, value in figures.items() if name.endswith("/margin")]
        said = (tree.streams.get("preference", 1.0) for tree in trees)
        shares = [share for each in said for share in (each if isinstance(each, Sequence) else [each])]
        ties = all(share in (0.5, None) for share in shares)
        self._still = self._still + 1 if margins and not any(margins) and not ties else 0
        if self._still >= STILL:
            raise TrainingError(
                f"the margin was exactly 0 for {STILL} updates, the last one is {step}: nothing is learned",
                mend="are the two answers of each row the same, or is the learning rate 0?",
            )

    def _described(self) -> dict[str, Json]:
        """What a checkpoint must agree with, by table, as JSON gives it back."""
        terms = {term.name: term.weight for term in self.terms}
        described = {"loop": asdict(self.settings), "terms": terms, **self.recipe}
        return dict(json.loads(json.dumps(described)))
