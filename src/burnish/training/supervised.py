"""Supervised fine-tuning: the answers of the training rows, by likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from burnish.config import Adapt, Recipe
from burnish.errors import TrainingError
from burnish.models.artifacts import load_version, save_version
from burnish.models.language import LanguageModel
from burnish.objectives.own import own_token_contract
from burnish.parts import Part, sources
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.training.adapting import adapted, keyed_adapt
from burnish.training.boundaries import keep_boundaries
from burnish.training.passes import Learner, learn
from burnish.training.settings import keyed, sft_settings, shown
from burnish.training.teaching import Teacher, Teaching, taught_by

VERSION = 1
HELD_OUT = 64  # dev rows of a look at most: it costs about as much as three updates of eight rows


def trained_on(recipe: Recipe) -> dict[str, Json]:
    """What the settings of a work say of what is trained: nothing where it is all of the last answer.

    So work that was done before there was a choice is found, not done again.
    """
    weights = {"span_weights": recipe.sft.span_weights} if recipe.sft.span_weights else {}
    return weights if recipe.sft.train_on == "last" else {"train_on": recipe.sft.train_on, **weights}


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
        task, folder = task_for(recipe, loaded.renderer), store.begin(work)
        teaching = Teaching.of(teacher, recipe, model, store, cache, progress, own)
        trees = teaching.prepare([task.trained(row) for row in rows])
        dev = [row for row in store.datasets.rows(dataset.id, "dev") if row.answer is not None][:HELD_OUT]
        unseen = teaching.prepare([task.trained(row) for row in dev])
        keep_boundaries(model, trees, choices["epochs"].value, store.cache, start.digest, progress, "sft")
        learner = supervised(recipe.adapt, model, teaching)
        ended = learn(learner, recipe.sft, trees, unseen, choices, work, folder, progress)
        figures = {
            "updates": ended.updates,
            "stopped": ended.stopped,
            "rows": len(rows),
            "tokens": sum(tree.tokens(keep_last=False) for tree in trees),
        }
        settings = shown(ended.choices)
        return save_version(store, model, loaded.renderer, stage="sft", settings=settings, figures=figures)

    return store.once(work, make, progress=progress)


def supervised(adapt: Adapt, model: LanguageModel, teaching: Teaching) -> Learner:
    """What the stage trains."""
    return Learner("sft", adapt, model.parameters(), teaching.forward, teaching.terms)
