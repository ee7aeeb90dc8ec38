"""The preference stage: the start version learns which answers are better, by one row of the table of methods.

It knows no formula: a method says which rows it reads and which terms it minimises. The reference is the start version
itself, frozen; its logprobs are computed once a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from burnish.config import Recipe
from burnish.errors import TrainingError
from burnish.models.artifacts import load_version, save_version
from burnish.models.language import LanguageModel
from burnish.objectives.methods import Method
from burnish.objectives.own import own_contract
from burnish.parts import Part, sources
from burnish.progress import Progress
from burnish.records import Json, Record, Row
from burnish.store import Store, Work, derive_seed
from burnish.training.adapting import adapted, keyed_adapt
from burnish.training.boundaries import keep_boundaries
from burnish.training.judged import Judged, gather_judged, judged_rows, method_of, method_settings
from burnish.training.passes import Learner, learn
from burnish.training.remembered import Remembered, with_reference
from burnish.training.settings import Choice, keyed, preference_settings, said, shown

VERSION = 1
WATCHED = 128  # trees of a look at most
STILL = 1e-4  # nats: a margin below it, after training, is rounding


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
    rows = judged_rows(table.learn_from, dataset, store)
    method, values = method_of(recipe, rows, own)
    own_keys = method_settings(recipe, method, values)
    choices = preference_settings(recipe, len(rows) + (_votes(snapshot) if snapshot else 0))
    work = _work(recipe, method.name, values, choices, start, dataset, snapshot, own)

    def make() -> Mapping[str, Json]:
        if own is not None:
            own_contract(own, values)
        before = load_version(store, start, cache, progress=progress)
        loaded, how = adapted(recipe, before, work.seed)
        choices.update(how)
        progress.say(f"preference: {method.name} ({method.summary}), {said(own_keys)}")
        judged = gather_judged(recipe, method, loaded, rows, snapshot, store, work.seed)
        _say_what_is_not_read(rows, method, progress)
        if method.reference:
            kept = Remembered.of(store, start, before.model)
            judged = Judged(with_reference(judged.trees, before.model, kept, progress), judged.held)
        figures, settled = _train(recipe, work, loaded.model, judged, method, values, choices, store, progress)
        settings = {"method": {"value": method.name, "why": "recipe"}, **shown({**own_keys, **settled})}
        return save_version(
            store, loaded.model, loaded.renderer, stage="preference", settings=settings, figures=figures
        )

    return store.once(work, make, progress=progress)


def _work(
    recipe: Recipe,
    method: str,
    values: Mapping[str, float],
    choices: Mapping[str, Choice],
    start: Record,
    dataset: Record,
    snapshot: Record | None,
    own: Part | None,
) -> Work:
    assert recipe.preference is not None
    table = recipe.preference
    return Work(
        kind="version",
        stage="preference",
        version=VERSION,
        settings={
            "preference": {
                "method": method,
                "learn_from": list(table.learn_from),
                "held_out": table.held_out,
                **values,
                **keyed(choices),
            },
            "adapt": keyed_adapt(recipe.adapt, "method", "rank", "layers"),
            **sources((own,)),
        },
        parents=(start, dataset, *((snapshot,) if snapshot else ())),
        seed=derive_seed(recipe.seed, "preference"),
        project=recipe.name,
    )


def _votes(snapshot: Record) -> int:
    return int(sum(snapshot.body["by_source"].values()))


def _say_what_is_not_read(rows: Sequence[Row], method: Method, progress: Progress) -> None:
    margins = sum(row.margin is not None for row in rows)
    if margins:
        progress.say(f"preference: {method.name} reads no margins: those of {margins} rows count for nothing")
    pairs = sum(row.rejected is not None for row in rows)
    if method.rows == "labels" and pairs:
        progress.say(f"preference: {pairs} pairs are read as {2 * pairs} labels, the chosen good and the rejected bad")


def _train(
    recipe: Recipe,
    work: Work,
    model: LanguageModel,
    judged: Judged,
    method: Method,
    values: Mapping[str, float],
    choices: Mapping[str, Choice],
    store: Store,
    progress: Progress,
) -> tuple[dict[str, Json], Mapping[str, Choice]]:
    """Train; what came of it on what was held out, before and after, and with which settings."""
    assert recipe.preference is not None
    learned = [tree for tree, out in zip(judged.trees, judged.held, strict=True) if not out]
    held = [tree for tree, out in zip(judged.trees, judged.held, strict=True) if out]
    weights = work.parents[0].digest  # of the version that is trained
    keep_boundaries(model, judged.trees, choices["epochs"].value, store.cache, weights, progress, "preference")
    learner = Learner("preference", recipe.adapt, model.parameters(), model.logp, method.terms(values))
    unseen = held[:WATCHED]
    before, folder = learner.measured(unseen or learned[:WATCHED]), store.begin(work)
    ended = learn(learner, recipe.preference, learned, unseen, choices, work, folder, progress, start=before)
    after = learner.measured(unseen or learned[:WATCHED])
    _require_moved(method, before, {**ended.last, "loss": ended.last["held_out"]} if ended.last else after)
    figures: dict[str, Json] = {
        "updates": ended.updates,
        "stopped": ended.stopped,
        "learned": len(learned),
        "held_out": len(held),
        "before": before if held else None,
        "after": after if held else None,
    }
    return figures, ended.choices


def _require_moved(method: Method, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """A margin that is still zero after training: the trained weights do not reach the loss, or never moved.

    The loop sees a margin of exactly zero; here the reference was run in other batches, so that zero is rounding.
    ``after`` are the figures of the last update, whether or not it is the one that is kept.
    """
    if method.zero_margin is None:
        return
    name = method.zero_margin.rpartition("/")[2]
    if abs(after[name]) < STILL and abs(after["loss"] - before["loss"]) < STILL:
        raise TrainingError(
            "the margin is still zero after the last update: nothing was learned",
            where="preference",
            mend="raise preference.learning_rate, or train longer",
        )
