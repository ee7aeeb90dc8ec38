"""Stages that pass over their rows: what each trains, the loop that they share, and when it has seen enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish.config import Adapt, Passes
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term
from burnish.progress import Progress
from burnish.records import Json
from burnish.store import Work, derive_seed
from burnish.training.adapting import layer_rates, unfreezes
from burnish.training.gradient import Objective
from burnish.training.held_out import HeldOut
from burnish.training.loop import Loop, Settings, Windows
from burnish.training.optimizer import Parameters
from burnish.training.probe import settled
from burnish.training.settings import Choice, Probe, looked, passed, probe_for, said
from burnish.training.workers import Workers

CHECKPOINT_EVERY = 8


@dataclass
class Epochs:
    """Windows of ``batch`` trees; each pass over the trees has an order of its own, drawn from ``seed``."""

    trees: Sequence[Tree]
    batch: int
    seed: int
    every: int = CHECKPOINT_EVERY
    state: dict[str, Any] = field(default_factory=dict)
    _orders: dict[int, list[int]] = field(default_factory=dict)

    @property
    def per_epoch(self) -> int:
        """Updates in one pass; the last one may hold fewer trees."""
        return -(-len(self.trees) // self.batch)

    def window(self, step: int) -> list[Tree]:
        epoch, place = divmod(step, self.per_epoch)
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", str(epoch)))
            self._orders = {epoch: torch.randperm(len(self.trees), generator=generator).tolist()}
        order = self._orders[epoch]
        return [self.trees[i] for i in order[place * self.batch : (place + 1) * self.batch]]

    def boundary(self, step: int) -> bool:
        return step > 0 and step % self.every == 0

    def figures(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True)
class Learner:
    """What a stage trains, and what it minimises.

    Args:
        stage: The stage's table in the recipe.
        adapt: How fast, and from when on, each layer learns.
        parameters: What is trained, by name.
        forward: Stream to Outputs, with gradient.
        terms: What is minimised.
        budget: The largest number of tokens in one forward.
        keep_last: Whether each answer's last token is laid out.
        room: Where it depends on the trees, what stands in the place of ``budget``.
    """

    stage: str
    adapt: Adapt
    parameters: Parameters
    forward: Callable[[Stream], Outputs]
    terms: Sequence[Term]
    budget: int = 1024
    keep_last: bool = False
    room: Callable[[Sequence[Tree]], int] | None = None

    def measured(self, trees: Sequence[Tree]) -> dict[str, float]:
        """The "loss" of these trees and each further figure of the terms ("accuracy"), without a gradient."""
        alone = Workers()  # every worker reads them all
        figures = Objective({}, self.forward, self.terms, lambda _: self.budget, self.keep_last, alone).value(trees)
        further = {_metric(name): value for name, value in figures.items() if "/" in name}
        return {"loss": figures["loss"], **further}

    def loop(
        self,
        windows: Windows,
        updates: int,
        choices: Mapping[str, Choice],
        folder: Path,
        progress: Progress,
        recipe: Mapping[str, Json] | None = None,
    ) -> Loop:
        """The stage's step loop of so many updates, as its choices say."""
        rate, schedule, warmup = (choices[name].value for name in ("learning_rate", "schedule", "warmup"))
        return Loop(
            self.parameters,
            self.forward,
            windows,
            self.terms,
            Settings(updates, rate, schedule, warmup, budget=self.budget, keep_last=self.keep_last),
            folder,
            progress,
            what=f"{self.stage} update",
            rates=layer_rates(self.adapt, self.parameters),
            trainable=unfreezes(self.adapt, self.parameters, updates),
            recipe=recipe or {},
            room=self.room,
        )

    def passes(
        self,
        trees: Sequence[Tree],
        choices: Mapping[str, Choice],
        seed: int,
        folder: Path,
        progress: Progress,
        recipe: Mapping[str, Json] | None = None,
    ) -> Loop:
        """The loop that passes over these trees as often as the choices say."""
        windows = Epochs(trees, choices["batch_size"].value, seed)
        updates = windows.per_epoch * choices["epochs"].value
        return self.loop(windows, updates, choices, folder, progress, recipe)


def _metric(figure: str) -> str:
    """What a term's figure is called without the term: its criterion, where it has one, stays ("accuracy:NAME")."""
    term, _, metric = figure.partition("/")
    _, by, criterion = term.partition(":")
    return metric + by + criterion


@dataclass(frozen=True)
class Ended:
    """What came of a run.

    Args:
        updates: How many are kept.
        stopped: Why it ended early; None: it did not.
        last: The figures of its last look, the loss as "held_out"; None: it never looked.
        choices: The settings, none of which is open any more.
    """

    updates: int
    stopped: str | None
    last: Mapping[str, float] | None
    choices: Mapping[str, Choice]


def watched(stage: str, choices: Mapping[str, Choice], learned: int, unseen: int) -> bool:
    """Whether a stage that learns from so many trees has a use for so many others: looks at them, or a probe."""
    looks = unseen > 0 and looked(stage, choices, unseen)["early_stopping"].value != "off"
    return looks or _probe(choices, learned, unseen)[0] is not None


def learn(
    learner: Learner,
    table: Passes,
    learned: Sequence[Tree],
    unseen: Sequence[Tree],
    choices: Mapping[str, Choice],
    work: Work,
    folder: Path,
    progress: Progress,
    start: Mapping[str, float] | None = None,
) -> Ended:
    """Pass over the ``learned`` trees, looking at the ``unseen`` ones: the whole training of a stage.

    With ``start``, the figures that the start has on the unseen trees, the start itself may be the best.

    Raises:
        TrainingError: The recipe asks for looks and there is no unseen tree, the warm-up is not shorter than the run,
            a loss is not finite, or the margin stays at zero.
    """
    stage = learner.stage
    per_epoch = -(-len(learned) // choices["batch_size"].value)
    paced = passed(table, stage, choices["epochs"], per_epoch)
    known = {name: choice for name, choice in choices.items() if name != "evaluate_every"}
    choices = looked(stage, known | paced, len(unseen))
    progress.say(f"{stage}: {said(choices)}")
    choices |= {"learning_rate": _rate(learner, learned, unseen, choices, work.seed, folder, progress)}
    loop = learner.passes(learned, choices, work.seed, folder, progress, work.settings)
    loop.held_out = _looks(learner, choices, unseen, start)
    done, stopped = loop.run()
    if stopped:
        progress.say(f"{stage}: {stopped}; the parameters of update {done} are kept")
    last = loop.seen.get("figures")
    named = last and {name.removeprefix("held_out_"): value for name, value in last.items()}
    return Ended(done, stopped, named, choices)


def _looks(
    learner: Learner, choices: Mapping[str, Choice], unseen: Sequence[Tree], start: Mapping[str, float] | None
) -> HeldOut | None:
    patience = choices["early_stopping"].value
    if patience == "off":
        return None

    def measure(step: int) -> dict[str, float]:
        figures = start if start is not None and step == 0 else learner.measured(unseen)
        return {"held_out" if name == "loss" else f"held_out_{name}": value for name, value in figures.items()}

    return HeldOut(measure, choices["evaluate_every"].value, patience=patience, first=start is not None)


def _probe(choices: Mapping[str, Choice], learned: int, unseen: int) -> tuple[Probe | None, str]:
    batch, epochs = choices["batch_size"].value, choices["epochs"].value
    return probe_for(choices["learning_rate"], -(-learned // batch) * epochs, batch, unseen)


def _rate(
    learner: Learner,
    learned: Sequence[Tree],
    unseen: Sequence[Tree],
    choices: Mapping[str, Choice],
    seed: int,
    folder: Path,
    progress: Progress,
) -> Choice:
    """The learning rate: the recipe's, the default's, or what a probe finds on unseen trees."""
    probe, why = _probe(choices, len(learned), len(unseen))
    if choices["learning_rate"].auto:
        progress.say(f"{learner.stage}: {why}")
    if probe is None:
        return choices["learning_rate"]
    judges = unseen[: probe.rows]

    def loop_at(rate: float, probe: Probe) -> Loop:
        loop = learner.passes(learned, choices, seed, folder / "probe", progress)
        loop.settings = Settings(
            probe.updates, rate, "constant", probe.updates // 4, budget=learner.budget, keep_last=learner.keep_last
        )
        return loop

    return settled(probe, loop_at, lambda: learner.measured(judges)["loss"], folder, progress)
