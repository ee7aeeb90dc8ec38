"""Supervised fine-tuning: the answers of the training rows, by likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish.config import Adapt, Recipe
from burnish.errors import TrainingError
from burnish.models.artifacts import load_version, save_version
from burnish.models.language import LanguageModel
from burnish.objectives.own import own_token_contract
from burnish.objectives.stream import Tree
from burnish.parts import Part, sources
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.training.adapting import adapted, keyed_adapt, layer_rates, unfreezes
from burnish.training.boundaries import keep_boundaries
from burnish.training.held_out import HeldOut
from burnish.training.loop import Loop, Settings
from burnish.training.probe import settled
from burnish.training.settings import Choice, Probe, keyed, probe_for, sft_settings, shown
from burnish.training.teaching import Teacher, Teaching, taught_by

VERSION = 1
CHECKPOINT_EVERY = 8
HELD_OUT = 64  # dev rows of a look at most: it costs about as much as three updates of eight rows


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


def trained_on(recipe: Recipe) -> dict[str, Json]:
    """What the settings of a work say of ``sft.train_on``: nothing where the last answer is trained.

    So work that was done before there was a choice is found, not done again.
    """
    return {} if recipe.sft.train_on == "last" else {"train_on": recipe.sft.train_on}


def early_stopping(choices: Mapping[str, Choice], loss: Callable[[], float], rows: int) -> HeldOut | None:
    """How to look at ``rows`` rows that are not trained on, as the choices say; None where nothing looks.

    Raises:
        TrainingError: The recipe asks for it, and there is no such row.
    """
    patience = choices["early_stopping"]
    if patience.value == "off" or (rows == 0 and patience.why != "recipe"):
        return None
    if rows == 0:
        raise TrainingError(
            "there is no row to look at", where="sft.early_stopping", mend="name data.dev, or raise data.dev_share"
        )
    return HeldOut(lambda step: {"held_out": loss()}, choices["evaluate_every"].value, patience=patience.value)


def train_supervised(
    recipe: Recipe,
    start: Record,
    dataset: Record,
    store: Store,
    cache: Path,
    progress: Progress,
    teacher: Teacher | None = None,
    own: Part | None = None,
) -> Record:
    """Train the answers of the dataset's train split into a new version that continues ``start``.

    With a ``teacher`` its distributions are learned beside them; ``own`` is the recipe's own loss of their tokens.

    Raises:
        PartError: The own loss breaks a contract, or raises.
        TrainingError: There is no row to train on, or a loss is not finite.
    """
    rows = store.datasets.rows(dataset.id, "train")
    if not rows:
        raise TrainingError("the train split has no rows", mend="burnish check says why rows were dropped")
    choices = sft_settings(recipe, len(rows))
    work = Work(
        kind="version",
        stage="sft",
        version=VERSION,
        settings={
            "sft": keyed(choices) | trained_on(recipe) | taught_by(recipe, teacher),
            "adapt": keyed_adapt(recipe.adapt, "method", "rank", "layers"),
            **sources((own,)),
        },
        parents=(start, dataset, *((teacher.version,) if teacher and teacher.version else ())),
        seed=derive_seed(recipe.seed, "sft"),
        project=recipe.name,
    )

    def make() -> Mapping[str, Json]:
        if own is not None:
            own_token_contract(own)
        loaded, how = adapted(recipe, load_version(store, start, cache, progress=progress), work.seed)
        model = loaded.model
        choices.update(how)
        progress.say("sft: " + ", ".join(f"{name} {choice.value} ({choice.why})" for name, choice in choices.items()))
        task, folder = task_for(recipe, loaded.renderer), store.begin(work)
        teaching = Teaching.of(teacher, recipe, model, store, cache, progress, own)
        trees = teaching.prepare([task.trained(row) for row in rows])
        dev = store.datasets.rows(dataset.id, "dev")
        unseen = teaching.prepare([task.trained(row) for row in dev if row.answer is not None])
        keep_boundaries(model, trees, choices["epochs"].value, store.cache, start.digest, progress, "sft")
        adapt = recipe.adapt
        choices["learning_rate"] = _rate(adapt, choices, model, teaching, trees, unseen, work.seed, folder, progress)
        loop = supervised_loop(adapt, model, teaching, trees, choices, work.seed, folder, progress)
        loop.recipe = work.settings
        ended = _run(loop, choices, unseen[:HELD_OUT])
        figures = ended | {"rows": len(rows), "tokens": sum(t.tokens(keep_last=False) for t in trees)}
        return save_version(store, model, loaded.renderer, stage="sft", settings=shown(choices), figures=figures)

    return store.once(work, make, progress=progress)


def _run(loop: Loop, choices: Mapping[str, Choice], unseen: Sequence[Tree]) -> dict[str, Json]:
    """Train, looking at the unseen trees where the choices say so; how many updates are kept, and why it stopped."""
    loop.held_out = early_stopping(choices, lambda: loop.objective.value(unseen), len(unseen))
    done, stopped = loop.run()
    if stopped:
        loop.progress.say(f"sft: {stopped}; the parameters of update {done} are kept")
    return {"updates": done, "stopped": stopped}


def supervised_loop(
    adapt: Adapt,
    model: LanguageModel,
    teaching: Teaching,
    trees: Sequence[Tree],
    choices: Mapping[str, Choice],
    seed: int,
    folder: Path,
    progress: Progress,
) -> Loop:
    """The stage's loop over these trees, as the choices say."""
    windows = Epochs(trees, choices["batch_size"].value, seed)
    updates = windows.per_epoch * choices["epochs"].value
    rate, schedule, warmup = (choices[name].value for name in ("learning_rate", "schedule", "warmup"))
    settings = Settings(updates, rate, schedule, warmup)
    parameters = model.parameters()
    return Loop(
        parameters,
        teaching.forward,
        windows,
        teaching.terms,
        settings,
        folder,
        progress,
        what="sft update",
        rates=layer_rates(adapt, parameters),
        trainable=unfreezes(adapt, parameters, updates),
    )


def _rate(
    adapt: Adapt,
    choices: Mapping[str, Choice],
    model: LanguageModel,
    teaching: Teaching,
    trees: Sequence[Tree],
    dev: Sequence[Tree],
    seed: int,
    folder: Path,
    progress: Progress,
) -> Choice:
    """The learning rate: the recipe's, the default's, or what a probe finds on dev rows."""
    batch, epochs = choices["batch_size"].value, choices["epochs"].value
    probe, why = probe_for(choices["learning_rate"], -(-len(trees) // batch) * epochs, batch, len(dev))
    if choices["learning_rate"].auto:
        progress.say(f"sft: {why}")

    def loop_at(rate: float, probe: Probe) -> Loop:
        loop = supervised_loop(adapt, model, teaching, trees, choices, seed, folder / "probe", progress)
        loop.settings = Settings(probe.updates, rate, "constant", probe.updates // 4)
        return loop

    return settled(choices["learning_rate"], probe, loop_at, dev[: probe.rows] if probe else (), folder, progress)
