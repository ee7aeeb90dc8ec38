"""What the preference stage learns from: rows of a file and votes, as the trees that a method reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.config import Recipe
from burnish.data.preferences import judged
from burnish.data.split import hold_out
from burnish.errors import TrainingError
from burnish.feedback import votes as votes_until
from burnish.models.artifacts import Loaded
from burnish.objectives.methods import METHODS, Method
from burnish.objectives.own import own_method
from burnish.objectives.stream import Answer, Tree
from burnish.objectives.unpaired import mismatch
from burnish.parts import Part
from burnish.records import Record, Row
from burnish.rewards.pairs import Label, Pair, labels_of, pairs_of, row_pair
from burnish.store import Store, derive_seed
from burnish.tasks import task_for
from burnish.tasks.chat import ChatTask
from burnish.training.settings import LOOKED_AT, Choice

MEASURED = 0.15  # share of the prompts that a reward is measured on


@dataclass(frozen=True)
class Judged:
    """Trees in the order of their sources, and which of them are only measured on."""

    trees: list[Tree]
    held: list[bool]


def judged_rows(learn_from: Sequence[str], dataset: Record | None, store: Store) -> list[Row]:
    """The rows of data.preferences that judge whole answers, where a stage learns from "rows" and a dataset has any."""
    if "rows" not in learn_from or dataset is None:
        return []
    return judged(store.datasets.rows(dataset.id, "preferences"))


def in_parts(clusters: Sequence[str], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Indices to learn from, to look at while learning, and to measure on at the end.

    All that has one cluster, which stands for a prompt, is in one part. What chooses the parameters does not measure
    them.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for place, cluster in enumerate(clusters):
        share = derive_seed(seed, "held out", cluster) % 1000 / 1000
        parts[2 if share < MEASURED else 1 if share < MEASURED + LOOKED_AT else 0].append(place)
    return parts


def method_of(recipe: Recipe, rows: Sequence[Row] = (), own: Part | None = None) -> tuple[Method, dict[str, float]]:
    """The recipe's method with its settings, once it is known to fit what it learns from; ``own`` is the recipe's own
    loss.

    Raises:
        PartError: The own loss has not the form of one.
        TrainingError: The method reads no such setting, or needs pairs where there are only labels.
    """
    assert recipe.preference is not None
    table = recipe.preference
    method = own_method(own) if own is not None else METHODS[table.method]
    asked = {
        "beta": table.beta,
        "label_smoothing": table.label_smoothing,
        "gamma": table.gamma,
        "sft": table.sft,
        "desirable": table.desirable,
        "undesirable": table.undesirable,
    }
    given = {name: float(value) for name, value in asked.items() if value != "auto"}
    try:
        settings = method.settings(given)
    except TrainingError as error:
        raise TrainingError(error.what, where="preference.method", mend=error.mend) from error
    if method.rows == "pairs":
        mend = 'set method = "kto", which learns from labels, or give each row a rejected answer'
        require_pairs(method.name, rows, "preference.method", mend)
    if method.rows == "pairs" and "thumb" in table.learn_from:
        raise TrainingError(
            f"{method.name} compares two answers, and a thumb judges one",
            where="preference.learn_from",
            mend='set method = "kto", or learn from "compare"',
        )
    return method, settings


def require_pairs(
    what: str, rows: Sequence[Row], where: str, mend: str = "give each row a rejected answer, or take it out"
) -> None:
    """Refuse rows of data.preferences with one answer and a label, for what compares two.

    Raises:
        TrainingError: There are such rows; it names them.
    """
    single = [row.number for row in rows if row.rejected is None]
    if single:
        shown = f"{', '.join(map(str, single[:5]))}{' ...' if single[5:] else ''}"
        raise TrainingError(
            f"{what} compares two answers, and {len(single)} rows of data.preferences have one with a label "
            f"(rows {shown})",
            where=where,
            mend=mend,
        )


def method_settings(recipe: Recipe, method: Method, values: Mapping[str, float]) -> dict[str, Choice]:
    """The method's settings, and whether the recipe or the method's own default gave each."""
    return {
        name: Choice(
            value, f"auto: {method.name}'s default" if getattr(recipe.preference, name) == "auto" else "recipe"
        )
        for name, value in values.items()
    }


def gather_judged(
    recipe: Recipe,
    method: Method,
    loaded: Loaded,
    rows: Sequence[Row],
    snapshot: Record | None,
    store: Store,
    seed: int,
) -> Judged:
    """The trees of all that the stage learns from, rows first.

    All answers to one prompt, and to prompts that nearly repeat each other in the file, are on one side.

    Raises:
        TrainingError: There is nothing to learn, or nothing is preferred to anything.
    """
    assert recipe.preference is not None
    table, task = recipe.preference, task_for(recipe, loaded.renderer)
    labels = method.rows == "labels"
    trees: list[Tree] = []
    held: list[bool] = []
    out = {row.number for row in hold_out(rows, table.held_out)[1]}
    for row in rows:
        made = _of_row(row, task, labels)
        trees += made
        held += [row.number in out] * len(made)
    for number, said in enumerate(_votes(recipe, loaded, snapshot, store, labels), 1):
        made = _of_pair(said.tree(task, number), labels) if isinstance(said, Pair) else [said.tree(task, number)]
        trees += made
        held += [derive_seed(seed, "held out", said.cluster) % 1000 < 1000 * table.held_out] * len(made)
    _require_preference(trees, held)
    if labels:
        others = mismatch(trees)
        trees = [Tree(t.prompt, t.answers, t.streams, o.answers[0]) for t, o in zip(trees, others, strict=True)]
    return Judged(trees, held)


def _votes(
    recipe: Recipe, loaded: Loaded, snapshot: Record | None, store: Store, labels: bool
) -> Sequence[Pair | Label]:
    if snapshot is None:
        return []
    assert recipe.preference is not None
    frozen, kinds = snapshot.body, recipe.preference.votes
    votes = votes_until(store, recipe.name, frozen["up_to"], kinds, frozen["sources"], purpose="train")
    found: list[Pair | Label] = [*pairs_of(store, votes, loaded.renderer, recipe.data.max_length)]
    return found + (labels_of(store, votes, recipe.data.max_length) if labels else [])


def _of_row(row: Row, task: ChatTask, labels: bool) -> list[Tree]:
    if row.rejected is None:
        answer = task.renderer.answer(row.answer or "")
        return [task.labelled(task.prompt_ids(row), answer, float(bool(row.label)), row=row.number)]
    pair = row_pair(row, task).tree(task, row.number)
    if row.margin is not None:
        pair = Tree(pair.prompt, pair.answers, {**pair.streams, "margin": row.margin})
    return _of_pair(pair, labels)


def _of_pair(pair: Tree, labels: bool) -> list[Tree]:
    """The pair, or, for a method that reads labels, its two answers: each is good by the share of votes that it won."""
    if not labels:
        return [pair]
    won, votes = (float(pair.streams[name]) for name in ("preference", "votes"))  # type: ignore[arg-type]
    return [
        Tree(pair.prompt, (Answer(a.ids, a.weights, row=a.row),), {"label": share, "votes": votes})
        for a, share in zip(pair.answers, (won, 1.0 - won), strict=True)
    ]


def _require_preference(trees: Sequence[Tree], held: Sequence[bool]) -> None:
    learned = [tree for tree, out in zip(trees, held, strict=True) if not out]
    if not learned:
        raise TrainingError(
            "there is no preference to learn from", mend="burnish check says why rows were left out; or lower held_out"
        )
    if all(tree.streams.get("preference", tree.streams.get("label")) == 0.5 for tree in learned):
        raise TrainingError("every vote is a tie: there is no preference to learn", mend="ask more raters")
