"""The spans stage: heads and the last layers on the frozen start version learn which segments have which error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from burnish.config import Recipe
from burnish.errors import TrainingError
from burnish.feedback import votes as votes_until
from burnish.models.artifacts import load_version, save_reward
from burnish.models.spans import SpanModel
from burnish.objectives import NOWHERE, Outputs, Stream, Tree, pack, span_stream, span_term
from burnish.progress import Progress
from burnish.records import Json, Record, Segment, Vote
from burnish.rewards.spans import MarkedAnswer, row_marked, votes_marked
from burnish.statistics import average_precision
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.training.adapting import adaptation, keyed_adapt
from burnish.training.boundaries import keep_boundaries
from burnish.training.judged import in_parts
from burnish.training.passes import Learner, learn, watched
from burnish.training.settings import Choice, keyed, shown, span_settings

VERSION = 1
BUDGET = 832  # tokens in one forward, as the reward stage has


def train_spans(
    recipe: Recipe,
    start: Record,
    snapshot: Record | None,
    dataset: Record,
    store: Store,
    cache: Path,
    progress: Progress,
) -> Record:
    """Learn from marked answers which of an answer's segments have an error of each type; kind "spans".

    They are those of the dataset's preference rows, those that raters marked up to the snapshot, or both. The
    record's body holds for each type the held-out average precision with its interval, beside the share of held-out
    segments that have the error: what guessing has.

    Raises:
        TrainingError: No answer is marked, or none that is learned from has an error of a type.
    """
    assert recipe.spans is not None
    table = recipe.spans
    rows = store.datasets.rows(dataset.id, "preferences") if "rows" in table.learn_from else []
    rows = [row for row in rows if row.marks is not None]
    votes = _votes(recipe, snapshot, store) if table.votes and snapshot is not None else []
    choices = span_settings(recipe, len(rows) + len(votes))
    parents = (start, *((snapshot,) if snapshot is not None and table.votes else ()), *((dataset,) if rows else ()))
    work = _work(recipe, parents, choices)

    def make() -> Mapping[str, Json]:
        loaded = load_version(store, start, cache, progress=progress)
        task = task_for(recipe, loaded.renderer)
        marked = [row_marked(row, task) for row in rows]
        marked += votes_marked(store, votes, loaded.renderer, recipe.data.max_length)
        trees = [answer.tree(table.types, number) for number, answer in enumerate(marked, 1)]
        learned, unseen, held = _parts(marked, trees, work.seed)
        if not watched("spans", choices, len(learned), len(unseen)):  # nothing would look at them
            learned, unseen = sorted([*learned, *unseen]), []
        taught, others, measured = ([trees[i] for i in indices] for indices in (learned, unseen, held))
        odds = [_log_odds(taught, kind) for kind in table.types]
        model = SpanModel.on(loaded.model, adaptation(recipe)[0], table.layers, work.seed, table.types, odds)
        passes, folder = choices["epochs"].value, store.begin(work)
        keep_boundaries(model.trunk, trees, passes, store.cache, start.digest, progress, "spans", keep_last=True)
        terms = [span_term(kind, head) for head, kind in enumerate(table.types)]
        learner = Learner("spans", recipe.adapt, model.parameters(), partial(_told, model), terms, BUDGET, True)
        ended = learn(learner, table, taught, others, choices, work, folder, progress)
        return {
            "settings": shown(ended.choices),
            "updates": ended.updates,
            "stopped": ended.stopped,
            "rows": len(rows),
            "votes": dict(Counter(vote.source for vote in votes)),
            "raters": len({vote.rater for vote in votes}),
            "answers": {"learned": len(learned), "looked_at": len(unseen), "held_out": len(held)},
            "types": _held_out(model, measured, [marked[i].cluster for i in held], work.seed),
            **save_reward(store, model, loaded, start),
        }

    return store.once(work, make, progress=progress)


def _work(recipe: Recipe, parents: tuple[Record, ...], choices: Mapping[str, Choice]) -> Work:
    assert recipe.spans is not None
    asked = keyed_adapt(recipe.adapt)
    settings = {"spans": recipe.spans.model_dump(mode="json") | keyed(choices), **({"adapt": asked} if asked else {})}
    seed = derive_seed(recipe.seed, "spans")
    return Work(
        kind="spans",
        stage="spans",
        version=VERSION,
        settings=settings,
        parents=parents,
        seed=seed,
        project=recipe.name,
    )


def _votes(recipe: Recipe, snapshot: Record, store: Store) -> list[Vote]:
    frozen = snapshot.body
    return votes_until(store, recipe.name, frozen["up_to"], ["span"], frozen["sources"], purpose="train")


def _told(model: SpanModel, stream: Stream) -> Outputs:
    return Outputs(errors_SK=model.logits(stream))


def _parts(marked: Sequence[MarkedAnswer], trees: Sequence[Tree], seed: int) -> tuple[list[int], list[int], list[int]]:
    """What is learned, looked at and measured on, without answers in which no segment ends.

    Raises:
        TrainingError: There is nothing to learn from.
    """
    parts = in_parts([answer.cluster for answer in marked], seed)
    learned, unseen, held = ([i for i in indices if any(trees[i].answers[0].weights)] for indices in parts)
    if not learned:
        raise TrainingError(
            "there is no marked answer to learn from",
            where="spans",
            mend="mark answers on the marking page; in rows of data.preferences [] says that there is no error",
        )
    return learned, unseen, held


def _log_odds(trees: Sequence[Tree], kind: str) -> float:
    """Of a segment being wrong, before anything of it is read.

    Raises:
        TrainingError: None is.
    """
    told = [wrong for tree in trees for wrong in tree.answers[0].streams[span_stream(kind)] if wrong != NOWHERE]
    bad = sum(told)
    if not bad:
        what = f'none of {len(trees)} answers that are learned from has a segment with an error of type "{kind}"'
        raise TrainingError(what, where="spans.types", mend="mark more answers, or take the type out")
    return math.log((bad + 0.5) / (len(told) - bad + 0.5))


@torch.no_grad()
def _held_out(model: SpanModel, trees: Sequence[Tree], clusters: Sequence[str], seed: int) -> dict[str, Any]:
    """Of each type: held-out segments, the share with the error, and the average precision, None where none has it."""
    read: dict[str, list[tuple[float, bool, str]]] = {kind: [] for kind in model.sizes}
    done = 0
    for stream in pack(trees, BUDGET):
        logits_SK = model.logits(stream)
        for column, kind in enumerate(model.sizes):
            told_S = stream.streams[span_stream(kind)].tolist()
            for logit, told, answer in zip(
                logits_SK[:, column].tolist(), told_S, stream.answer_S.tolist(), strict=True
            ):
                if told != NOWHERE:
                    read[kind].append((logit, bool(told), clusters[done + answer]))
        done += stream.trees
    return {kind: _detected(segments, model.sizes[kind], seed) for kind, segments in read.items()}


def _detected(found: Sequence[tuple[float, bool, str]], size: Segment, seed: int) -> dict[str, Json]:
    scores, wrong, clusters = ([entry[part] for entry in found] for part in range(3))
    figures: dict[str, Json] = {
        "segment": size,
        "segments": len(found),
        "base_rate": sum(map(bool, wrong)) / len(found) if found else None,
        "average_precision": None,
    }
    if any(wrong):
        precision = average_precision(
            [float(score) for score in scores], [bool(w) for w in wrong], [str(c) for c in clusters], seed=seed
        )
        figures["average_precision"] = asdict(precision)
    return figures
