"""The preference stage: the start version learns which answers are better, by one row of the table of methods.

It knows no formula: a method says which rows it reads and which terms it minimises. The reference is the start version
itself, frozen; its logprobs are computed once a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish.config import Adapt, Recipe
from burnish.errors import TrainingError
from burnish.models.artifacts import Loaded, load_version, save_version
from burnish.objectives.methods import Method
from burnish.objectives.own import own_contract
from burnish.objectives.stream import Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term
from burnish.parts import Part, sources
from burnish.progress import Progress
from burnish.records import Json, Record, Row
from burnish.store import Store, Work, derive_seed
from burnish.training.adapting import adapted, keyed_adapt, layer_rates, unfreezes
from burnish.training.boundaries import keep_boundaries
from burnish.training.judged import Judged, gather_judged, method_of
from burnish.training.loop import Loop, Settings
from burnish.training.remembered import Remembered, with_reference
from burnish.training.settings import Choice, preference_settings, shown
from burnish.training.supervised import Epochs

VERSION = 1
BUDGET = 1024  # tokens in one forward
WATCHED = 128  # trees of a look at most
STILL = 1e-4  # nats: a margin below it, after training, is rounding


@dataclass
class Looking(Epochs):
    """Epochs that look at trees which are not trained on before each pass; what they saw goes into the log."""

    look: Callable[[], Mapping[str, float]] = dict
    _seen: Mapping[str, Any] = field(default_factory=dict)

    def window(self, step: int) -> list[Tree]:
        self._seen = {f"held_out_{name}": value for name, value in self.look().items()} if self._due(step) else {}
        return super().window(step)

    def figures(self) -> Mapping[str, Any]:
        return self._seen

    def _due(self, step: int) -> bool:
        return step % self.per_epoch == 0


def train_preference(
    recipe: Recipe,
    start: Record,
    dataset: Record,
    snapshot: Record | None,
    store: Store,
    cache: Path,
    progress: Progress,
    own: Part | None = None,
) -> Record:
    """Train ``start`` on judged answers into a new version: rows of the dataset, and votes of the ``snapshot``.

    The version's figures hold loss, accuracy and margin on what was held out, before and after. ``own`` is the recipe's
    own loss.

    Raises:
        PartError: The own loss breaks a contract, or raises.
        TrainingError: The method does not fit the rows, there is nothing to learn, a loss is not finite, or the margin
            stays at zero.
    """
    assert recipe.preference is not None
    table = recipe.preference
    rows = store.datasets.rows(dataset.id, "preferences") if "rows" in table.learn_from else []
    method, values = method_of(recipe, rows, own)
    choices = preference_settings(recipe, len(rows) + (_votes(snapshot) if snapshot else 0))
    work = Work(
        kind="version",
        stage="preference",
        version=VERSION,
        settings={
            "preference": {
                "method": method.name,
                "learn_from": list(table.learn_from),
                "held_out": table.held_out,
                **values,
                **{name: choice.value for name, choice in choices.items() if name != "alpha"},
            },
            "adapt": keyed_adapt(recipe.adapt, "method", "rank", "layers"),
            **sources((own,)),
        },
        parents=(start, dataset, *((snapshot,) if snapshot else ())),
        seed=derive_seed(recipe.seed, "preference"),
        project=recipe.name,
    )

    def make() -> Mapping[str, Json]:
        if own is not None:
            own_contract(own, values)
        before = load_version(store, start, cache, progress=progress)
        loaded, settled = adapted(recipe, before, work.seed)
        choices.update(settled)
        progress.say(f"preference: {method.name} ({method.summary}), " + _said(values, choices))
        judged = gather_judged(recipe, method, loaded, rows, snapshot, store, work.seed)
        _say_what_is_not_read(rows, method, progress)
        if method.reference:
            kept = Remembered.of(store, start, before.model)
            judged = Judged(with_reference(judged.trees, before.model, kept, progress), judged.held)
        return _train(recipe.adapt, work, loaded, judged, method, values, choices, store, progress)

    return store.once(work, make, progress=progress)


def _votes(snapshot: Record) -> int:
    return int(sum(snapshot.body["by_source"].values()))


def _said(values: Mapping[str, float], choices: Mapping[str, Choice]) -> str:
    named = [f"{name} {value:g}" for name, value in values.items()]
    return ", ".join([*named, *(f"{name} {choice.value} ({choice.why})" for name, choice in choices.items())])


def _say_what_is_not_read(rows: Sequence[Row], method: Method, progress: Progress) -> None:
    margins = sum(row.margin is not None for row in rows)
    if margins:
        progress.say(f"preference: {method.name} reads no margins: those of {margins} rows count for nothing")
    pairs = sum(row.rejected is not None for row in rows)
    if method.rows == "labels" and pairs:
        progress.say(f"preference: {pairs} pairs are read as {2 * pairs} labels, the chosen good and the rejected bad")


def _train(
    adapt: Adapt,
    work: Work,
    loaded: Loaded,
    judged: Judged,
    method: Method,
    values: Mapping[str, float],
    choices: Mapping[str, Choice],
    store: Store,
    progress: Progress,
) -> dict[str, Json]:
    learned = [tree for tree, out in zip(judged.trees, judged.held, strict=True) if not out]
    held = [tree for tree, out in zip(judged.trees, judged.held, strict=True) if out]
    model, terms = loaded.model, method.terms(values)
    weights = work.parents[0].digest  # of the version that is trained
    keep_boundaries(model, judged.trees, choices["epochs"].value, store.cache, weights, progress, "preference")
    watched = (held or learned)[:WATCHED]

    def look() -> dict[str, float]:
        return measured(terms, model.logp, watched)

    before = look()
    batch, epochs, rate, schedule, warmup = (
        choices[name].value for name in ("batch_size", "epochs", "learning_rate", "schedule", "warmup")
    )
    windows = Looking(learned, batch, work.seed, look=look if held else dict)
    settings = Settings(windows.per_epoch * epochs, rate, schedule, warmup, budget=BUDGET)
    parameters, folder = model.parameters(), store.begin(work)
    loop = Loop(
        parameters,
        model.logp,
        windows,
        terms,
        settings,
        folder,
        progress,
        what="preference update",
        rates=layer_rates(adapt, parameters),
        trainable=unfreezes(adapt, parameters, settings.updates),
        recipe=work.settings,
    )
    done, stopped = loop.run()
    after = look()
    _require_moved(method, before, after, done)
    figures = {
        "updates": done,
        "stopped": stopped,
        "learned": len(learned),
        "held_out": len(held),
        "before": before if held else None,
        "after": after if held else None,
    }
    said = {**{name: {"value": v, "why": "recipe or method"} for name, v in values.items()}, **shown(dict(choices))}
    said = {"method": {"value": method.name, "why": "recipe"}, **said}
    return save_version(store, model, loaded.renderer, stage="preference", settings=said, figures=figures)


@torch.no_grad()
def measured(
    terms: Sequence[Term], forward: Callable[[Stream], Outputs], trees: Sequence[Tree], budget: int = BUDGET
) -> dict[str, float]:
    """The loss of these trees, and each metric of the terms, as in training but without a gradient."""
    counts = {term.name: term.count(trees) for term in terms}
    window = {}
    for term in terms:
        if term.statistic is not None:
            results = [term.statistic.read(forward(s), s) for s in pack(term.statistic.trees(trees), budget, False)]
            units = sum(result.units for result in results)
            window[term.name] = sum(float(result.total) for result in results) / units if units else 0.0
    found = {"loss": 0.0}
    for stream in pack(trees, budget, keep_last=False):
        stream.window = window
        outputs = forward(stream)
        for term in terms:
            if counts[term.name]:
                result = term.loss(outputs, stream)
                found["loss"] += term.weight * float(result.total) / counts[term.name]
                for name, value in result.metrics.items():
                    found[name] = found.get(name, 0.0) + float(value) / counts[term.name]
    return found


def _require_moved(method: Method, before: Mapping[str, float], after: Mapping[str, float], done: int) -> None:
    """A margin that is still zero after training: the trained weights do not reach the loss, or never moved.

    The loop sees a margin of exactly zero; here the reference was run in other batches, so that zero is rounding.
    """
    if method.zero_margin is None or done == 0:
        return
    name = method.zero_margin.rpartition("/")[2]
    if abs(after[name]) < STILL and abs(after["loss"] - before["loss"]) < STILL:
        raise TrainingError(
            f"the margin is still zero after {done} updates: nothing was learned",
            where="preference",
            mend="raise preference.learning_rate, or train longer",
        )
