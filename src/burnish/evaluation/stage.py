"""The stage that measures versions on held-out prompts, each against the candidate, prompt by prompt."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.config import Recipe
from burnish.errors import EvaluationError
from burnish.evaluation.metrics import SCORE, difference_of, figure_of, metric_of, ratio_numbers, text_numbers
from burnish.parts import Part, examples_of, score_contract, sources
from burnish.parts.contract import number_of
from burnish.progress import Progress, Silent
from burnish.records import Exchange, Json, Record, Reply, Row
from burnish.store import Store, Work, derive_seed, digest_of

if TYPE_CHECKING:
    from burnish.models.artifacts import Loaded
    from burnish.tasks import ChatTask

VERSION = 1
TEMPERATURE = 1.0  # what rl optimises, and where KL can be estimated from samples
EXAMPLES = 3
PROMPT_ONLY = "prompt_only"

Score = Callable[[str, str, bool], Mapping[str, float]]
Numbers = dict[str, list[Any]]
Side = tuple[str, bool]  # a version's id, and whether it sees the examples


@dataclass(frozen=True)
class HeldOut:
    """The items of an evaluation. ``clusters``: the row number that stands for each item's prompt or subject."""

    rows: list[Row]
    clusters: list[int]
    examples: list[Row]


@dataclass
class Measured:
    """What one side said to each item, each metric's numbers, and the rows that it saw as examples."""

    exchanges: list[Exchange]
    numbers: Numbers
    examples: list[Row]


def evaluate(
    recipe: Recipe,
    store: Store,
    *,
    dataset: Record,
    split: Literal["dev", "test"],
    contenders: Mapping[str, Record],
    candidate: str,
    start: str = "start",
    score: Score | None = None,
    metrics: Sequence[Part] = (),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Record:
    """Measure versions on the same held-out prompts; kind "evaluation", parents: the dataset and the versions.

    Every contender answers each prompt once, at temperature 1 and with the same draws. ``prompt_only`` sees three
    training rows as examples, fewer where the context is too short for them. A version that stands under several names
    is measured once.

    Args:
        contenders: Versions by name: base, prompt_only, start, production, sft, rl.
        candidate: The name of the one that the others are compared with.
        start: The name of the one that the candidate came from.
        score: (question, answer, finished) to named numbers, higher is better; kept as "score.NAME".
        metrics: The recipe's own metrics, kept under the name that the recipe gives them.

    Raises:
        PartError: An own metric breaks its contract, or raises.
        EvaluationError: The split has no rows, a name is missing, or the candidate answers exactly like its start.
    """
    for name in (candidate, start):
        if name not in contenders:
            raise EvaluationError(f'"{name}" is not among the contenders {", ".join(contenders)}')
    settings: dict[str, Json] = {
        "evaluate": {"items": recipe.evaluate.items, "max_new_tokens": recipe.evaluate.max_new_tokens},
        "split": split,
        "temperature": TEMPERATURE,
        "contenders": {name: record.id for name, record in contenders.items()},
        "candidate": candidate,
        "start": start,
        "score": _name(score),
        **sources(metrics),
    }
    parents = {record.id: record for record in (dataset, *contenders.values())}
    seed = derive_seed(recipe.seed, "evaluation")
    work = Work("evaluation", f"{split} evaluation", VERSION, settings, tuple(parents.values()), seed, recipe.name)

    def make() -> Mapping[str, Json]:
        held_out = _held_out(recipe, store, dataset, split, PROMPT_ONLY in contenders)
        for metric in metrics:
            score_contract(metric, examples_of(held_out.rows))
        measured = _measure(recipe, store, work, dataset, held_out, cache, progress or Silent())
        for side in measured.values():
            side.numbers |= _scored(score, held_out.rows, side.exchanges) if score is not None else {}
            side.numbers |= {metric.name: _own(metric, held_out.rows, side.exchanges) for metric in metrics}
        return settings | _body(work, contenders, held_out, measured)

    return store.once(work, make, progress=progress)


def _name(score: Score | None) -> str | None:
    """What stands for the score in the work's key."""
    return None if score is None else f"{score.__module__}.{getattr(score, '__qualname__', type(score).__name__)}"


def _held_out(recipe: Recipe, store: Store, dataset: Record, split: str, examples: bool) -> HeldOut:
    """The items and the examples, the same for every seed: runs can be pooled prompt by prompt."""
    rows = store.datasets.rows(dataset.id, split)
    if not rows:
        raise EvaluationError(f"the {split} split has no rows", mend="burnish check says why rows were dropped")
    first: dict[Any, int] = {}
    for row in rows:
        first.setdefault(cluster(row), row.number)
    places = list(range(len(rows)))
    if len(rows) > recipe.evaluate.items:
        places = sorted(random.Random(0).sample(places, recipe.evaluate.items))
    chosen = [rows[place] for place in places]
    answered = [row for row in store.datasets.rows(dataset.id, "train") if row.answer is not None] if examples else []
    shown = random.Random(0).sample(answered, min(EXAMPLES, len(answered)))
    return HeldOut(chosen, [first[cluster(row)] for row in chosen], shown)


def cluster(row: Row) -> Any:
    """What makes two items dependent: the same person, else the same prompt."""
    return row.subject if row.subject is not None else (row.prompt, row.documents)


def _sides(work: Work) -> dict[str, Side]:
    """Which side stands under each name."""
    return {name: (id, name == PROMPT_ONLY) for name, id in work.settings["contenders"].items()}


def _measure(
    recipe: Recipe,
    store: Store,
    work: Work,
    dataset: Record,
    held_out: HeldOut,
    cache: Path | None,
    progress: Progress,
) -> dict[Side, Measured]:
    """Load each version once, the start last: its logprobs of the candidate's answers are their KL."""
    from burnish.models.artifacts import load_version

    sides = _sides(work)
    candidate, start = sides[work.settings["candidate"]], sides[work.settings["start"]][0]
    order = sorted(dict.fromkeys(id for id, _ in sides.values()), key=lambda id: id == start)
    found: dict[Side, Measured] = {}
    loaded: Loaded | None = None
    for id in order:
        version = store.record(id)
        like = loaded.model if loaded is not None else None
        loaded = load_version(store, version, cache, like=like, progress=progress)
        drawn = found[candidate] if id == start != candidate[0] else None
        for side in dict.fromkeys(side for side in sides.values() if side[0] == id):
            other = None if side[1] else drawn
            found[side] = _side(recipe, store, work, dataset, held_out, version, loaded, side[1], other, progress)
        gc.collect()
    return found


def _side(
    recipe: Recipe,
    store: Store,
    work: Work,
    dataset: Record,
    held_out: HeldOut,
    version: Record,
    loaded: Loaded,
    prompted: bool,
    candidate: Measured | None,
    progress: Progress,
) -> Measured:
    """One version's answers and figures; of the start it is also asked how likely the ``candidate``'s answers are."""
    from burnish.evaluation.answers import answer_rows
    from burnish.sampling import Params
    from burnish.tasks import task_for

    task = task_for(recipe, loaded.renderer)
    examples = _that_fit(held_out, task, loaded, progress) if prompted else []
    params = Params(TEMPERATURE, 1.0, task.max_new_tokens, work.seed, loaded.renderer.stop_ids)
    same = [version.id, dataset.id, work.settings["split"], task.max_new_tokens, work.seed]
    name = f"answer-{digest_of([*same, [row.number for row in examples]])[:16]}"
    exchanges = answer_rows(
        store, work.project, version, loaded, held_out.rows, task, params, "evaluation", name, progress, examples
    )
    losses, kls = _read(loaded, task, held_out.rows, examples, candidate.exchanges if candidate else [])
    if candidate is not None:
        candidate.numbers["kl"] = kls
    return Measured(exchanges, {"loss": losses, **text_numbers(exchanges)}, examples)


def _that_fit(held_out: HeldOut, task: ChatTask, loaded: Loaded, progress: Progress) -> list[Row]:
    """The first examples that leave room for the longest prompt and its answer in the model's context."""
    context, shown = loaded.model.context, held_out.examples
    for number in range(len(shown), 0, -1):
        trees = [task.supervised(row, shown[:number]) for row in held_out.rows if row.answer is not None]
        prompts = [task.prompt_ids(row, shown[:number]) for row in held_out.rows]
        longest = max(max(map(len, prompts)) + task.max_new_tokens, *(tree.tokens() for tree in trees), 0)
        if context is None or longest <= context:
            return shown[:number]
        progress.say(f"prompt only: {number} examples do not fit the context of {context} tokens")
    return []


def _read(
    loaded: Loaded, task: ChatTask, rows: Sequence[Row], examples: Sequence[Row], drawn: Sequence[Exchange]
) -> tuple[list[float | None], list[float]]:
    """The loss of each written answer, and of what another version has ``drawn`` for each row its KL to this one: the
    k1 estimate, the mean over its ids of its own logprob minus this version's. A prompt is run once for both.
    """
    from burnish.evaluation.answers import logps
    from burnish.objectives.stream import Answer, Tree

    others: Sequence[Exchange | None] = drawn or [None] * len(rows)
    pairs = list(zip(rows, others, strict=True))
    trees = []
    for row, other in pairs:
        written = task.supervised(row, examples).answers if row.answer is not None else ()
        said = (Answer(other.answer_ids, [1.0] * len(other.answer_ids)),) if other is not None else ()
        if written or said:
            trees.append(Tree(task.prompt_ids(row, examples), (*written, *said)))
    found = iter(logps(loaded.model, trees))
    losses: list[float | None] = []
    kls: list[float] = []
    for row, other in pairs:
        losses.append(None if row.answer is None else -_mean(next(found)))
        if other is not None:
            kls.append(_mean(other.logprobs) - _mean(next(found)))
    return losses, kls


def _scored(score: Score, rows: Sequence[Row], exchanges: Sequence[Exchange]) -> Numbers:
    numbers: Numbers = {}
    for row, exchange in zip(rows, exchanges, strict=True):
        said = score(row.prompt[-1].content, exchange.answer, exchange.finish_reason == "stop")
        for name, value in said.items():
            numbers.setdefault(SCORE + name, []).append(float(value))
    short = [name for name, values in numbers.items() if len(values) != len(rows)]
    if short:
        raise EvaluationError(f"{short[0]} is missing for some answers", mend="a score gives the same names each time")
    return numbers


def _own(metric: Part, rows: Sequence[Row], exchanges: Sequence[Exchange]) -> list[float]:
    """What an own metric says about each answer."""
    replies = [
        Reply(row.prompt, said.answer, said.finish_reason == "stop", len(said.answer_ids), row.answer)
        for row, said in zip(rows, exchanges, strict=True)
    ]
    return [number_of(metric, reply, row.number) for row, reply in zip(rows, replies, strict=True)]


def _body(
    work: Work, contenders: Mapping[str, Record], held_out: HeldOut, found: Mapping[Side, Measured]
) -> dict[str, Json]:
    """Numbers per item, the figures of each contender, and the candidate's differences from the others."""
    sides, clusters = _sides(work), held_out.clusters
    measured = {name: found[side] for name, side in sides.items()}
    candidate, start = work.settings["candidate"], work.settings["start"]
    changed = _add_changed(measured, sides, start)
    if sides[candidate] != sides[start] and not any(measured[candidate].numbers["changed"]):
        raise EvaluationError(
            f"the candidate answers exactly like its start on all {len(clusters)} prompts",
            mend="raise the learning rate or the number of updates: training has changed nothing that shows",
        )
    figures = {
        name: {
            metric: asdict(figure_of(values, clusters, seed=work.seed, metric=metric_of(metric)))
            for metric, values in side.numbers.items()
        }
        for name, side in measured.items()
    }
    own = measured[candidate].numbers
    differences = {
        name: _differences(own, side.numbers, clusters, work.seed)
        for name, side in measured.items()
        if sides[name] != sides[candidate]
    }
    return {
        "dataset": next(id for id in (p.id for p in work.parents if p.kind == "dataset")),
        "names": {name: record.name or record.id for name, record in contenders.items()},
        "rows": [row.number for row in held_out.rows],
        "clusters": clusters,
        "examples": [row.number for side in measured.values() for row in side.examples],
        "items": {name: side.numbers for name, side in measured.items()},
        "exchanges": {name: [exchange.id for exchange in side.exchanges] for name, side in measured.items()},
        "figures": figures,
        "differences": differences,
        "changed": changed,
    }


def _add_changed(measured: Mapping[str, Measured], sides: Mapping[str, Side], start: str) -> dict[str, int]:
    """On how many prompts each contender says something else than the start."""
    said = [exchange.answer for exchange in measured[start].exchanges]
    counts = {}
    for name, side in measured.items():
        if sides[name] != sides[start]:
            answers = [exchange.answer for exchange in side.exchanges]
            side.numbers["changed"] = [float(a != b) for a, b in zip(answers, said, strict=True)]
            counts[name] = sum(a != b for a, b in zip(answers, said, strict=True))
    return counts


def _differences(own: Numbers, other: Numbers, clusters: Sequence[int], seed: int) -> dict[str, Json]:
    """Candidate minus other for every metric of both, and the ratio of their lengths."""
    shared = [metric for metric in own if metric in other and metric not in ("changed", "kl")]
    found = {m: asdict(difference_of(own[m], other[m], clusters, seed=seed)) for m in shared}
    ratio = figure_of(ratio_numbers(own["length"], other["length"]), clusters, seed=seed)
    return found | {"length_ratio": asdict(ratio)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
