"""The home page's view of the circle: what serves and why, where the turn stands, the last figures, the votes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from burnish import feedback, registry
from burnish.config import Recipe
from burnish.evaluation.metrics import metric_of
from burnish.evaluation.report import SIMULATED, dominant_part, table
from burnish.monitoring.runs import at_work
from burnish.records import Figure, Json, Record
from burnish.store import Store
from burnish.web.words import count, figure_of, origin

State = Literal["done", "running", "waiting", "refused", "ahead"]
COLUMNS = ("win_rate", "loss", "kl", "length", "cut", "distinct_2")  # beside the utility
KINDS = {"compare": "comparison", "edit": "correction", "span": "marked answer"}
TITLES = {"kl": "KL", "cut": "Cut off"}
CONTENDERS = {
    "base": "Base",
    "prompt_only": "Prompt only",
    "sft": "SFT",
    "preference": "Preference",
    "rl": "RL",
    "import": "Imported",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the circle: ``words`` say what it made or what it waits for."""

    title: str
    state: State
    words: str = ""
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Circle:
    """Where the turn stands. Of a turn that is over: what starts the next one, and which version was refused and why,
    or why no gate was reached."""

    number: int
    steps: list[Step]
    next_turn: str | None
    refusal: Mapping[str, Json] | None
    why: str = ""


@dataclass
class Turn:
    """The records of the latest turn by stage, and whether it has ended."""

    number: int
    over: bool
    made: dict[str, Record] = field(default_factory=dict)
    why: str = ""  # it ended before its last gate


def serving(store: Store, project: str) -> dict[str, Json] | None:
    """The version that answers now, since when, and the rules of its verdict; None before the first promotion."""
    record = registry.production(store, project)
    if record is None:
        return None
    line = registry.history(store, project)[-1]
    verdict = store.record(line.verdict) if line.verdict else None
    previous = store.record(line.previous).name if line.previous else None
    return {
        "name": record.name,
        "origin": origin(record.body["stage"]),
        "since": line.created_at,
        "action": line.action,
        "by": line.by,
        "previous": previous,
        "rules": list(verdict.body["rules"]) if verdict else [],
        "headline": _headline(store, verdict) if verdict else None,
    }


def circle(store: Store, project: str, recipe: Recipe) -> Circle:
    """Each stage of the latest turn with its state."""
    turn = _turn(store.records(project))
    busy = at_work(store)
    steps: list[Step] = []
    for title, words, href in _stages(store, project, recipe, turn):
        blocked = any(step.state != "done" for step in steps)
        state: State = "done" if words else "ahead" if blocked else "running" if busy else "waiting"
        steps.append(Step(title, state, words or "", href))
    if not turn.over:
        return Circle(turn.number, [_open(store, project, recipe, step) for step in steps], None, None)
    refusal = None if turn.why else _refusal(store, turn.made["verdict"])
    return Circle(
        turn.number,
        [_ended(step, refusal is not None) for step in steps],
        _next_turn(store, project, recipe),
        refusal,
        turn.why,
    )


def quality(store: Store, project: str) -> dict[str, Json] | None:
    """The last evaluation as a table: contenders with their figures, those of the first column with their place on a
    common scale (percent), and one sentence where a single part explains the gain. None before the first."""
    evaluations = store.records(project, "evaluation")
    if not evaluations:
        return None
    last = next((e for e in reversed(evaluations) if e.body["split"] == "test"), evaluations[-1])
    judgements = [j for j in store.records(project, "judgement") if j.body["evaluation"] == last.id]
    found = table(last, judgements[-1] if judgements else None)
    first, *rest = found["columns"]
    columns = [first, *(name for name in COLUMNS if name in rest)]
    rows = [
        {
            "label": _label(store, row["name"], row["version"]),
            "version": row["version"],
            "cells": [figure_of(row["cells"][column]) for column in columns],
        }
        for row in found["rows"]
    ]
    scale = _scale([row["cells"][0] for row in rows])
    start = last.body["start"]
    return {
        "split": found["split"],
        "prompts": found["items"],
        "columns": [(column_title(name), _meaning(name)) for name in columns],
        "rows": [{**row, "marks": scale(row["cells"][0])} for row in rows],
        "dominant": dominant_part(last) if start in last.body["differences"] else None,
    }


def votes(store: Store, project: str) -> dict[str, Json]:
    """Votes that stand: people's, simulated ones and a judge's apart, each by kind."""
    cast = feedback.votes(store, project)
    kinds = {source: Counter(vote.kind for vote in cast if vote.source == source) for source in feedback.SOURCES}
    return {
        "people": kinds["human"].total(),
        "simulated": kinds["simulated"].total(),
        "judge": kinds["judge"].total(),
        "kinds": [count(number, KINDS.get(kind, kind)) for kind, number in kinds["human"].most_common()],
        "note": SIMULATED if kinds["simulated"] else None,
    }


def column_title(metric: str) -> str:
    """``distinct_2`` as the heading of a column."""
    return TITLES.get(metric) or metric.removeprefix("score.").replace("_", " ").capitalize()


def _headline(store: Store, verdict: Record) -> str | None:
    """What the gate found, in one sentence: the preference, or the loss where nobody was asked."""
    names = store.record(verdict.body["evaluation"]).body["names"]
    start = store.record(verdict.body["evaluation"]).body["start"]
    for rule in verdict.body["rules"]:
        figure = figure_of(rule["figure"])
        other = names.get(start if rule["against"] == "start" else rule["against"], rule["against"])
        if figure is None or figure.low is None or figure.high is None:
            continue
        if rule["metric"] == "win_rate":
            share = f"{figure.value:.0%} of the time (between {figure.low:.0%} and {figure.high:.0%})"
            return f"In blind comparisons, raters preferred its answers to {other}'s {share}."
        if rule["metric"] == "loss" and figure.high < 0:
            return f"It predicts the written answers better than {other}: {-figure.value:.2f} nats a token less loss."
    return None


def _turn(records: Sequence[Record]) -> Turn:
    """The last turn where nothing newer was made, else the one in the making; its newest record for each stage."""
    ended = [place for place, record in enumerate(records) if record.kind == "turn"]
    by_id = {record.id: record for record in records}
    if ended and not any(record.kind in ("start", "snapshot", "dataset") for record in records[ended[-1] :]):
        body = records[ended[-1]].body
        return Turn(body["number"], True, {name: by_id[id] for name, id in body["stages"].items()}, body.get("why", ""))
    made = {_stage(record): record for record in records if _stage(record) in ("dataset", "base", "sft")}
    fresh = records[ended[-1] + 1 if ended else 0 :]
    made |= {_stage(record): record for record in fresh}
    return Turn(len(ended) + 1, False, made)


def _stage(record: Record) -> str:
    return str(record.body["stage"]) if record.kind == "version" else record.kind


def _stages(store: Store, project: str, recipe: Recipe, turn: Turn) -> list[tuple[str, str | None, str | None]]:
    """Title, what the stage made (None: nothing yet) and the page about it, in the order of the circle."""
    made, stage = turn.made, "preference" if recipe.preference is not None else "rl"
    loops = recipe.preference is not None or recipe.rl is not None
    sft, last, verdict, tested = made.get("sft"), made.get("candidate"), made.get("verdict"), made.get("evaluation")
    improved = last if last is not None and last.body["stage"] == stage else made.get(stage)
    if (not turn.over or turn.why) and loops:  # the first gate, on dev, lets the supervised version serve
        verdict = verdict if verdict is not None and verdict.body["stage"] == stage else None
        tested = tested if tested is not None and tested.body["split"] == "test" else None
    decided = ("passed" if verdict.body["passed"] else "said no") if verdict is not None else None
    production = registry.production(store, project)
    return [
        ("Data", _rows(made.get("dataset")), None),
        ("SFT", sft.name if sft else None, _page(sft)),
        *_learned(made, recipe),
        *([(CONTENDERS[stage], improved.name if improved else None, _page(improved))] if loops else []),
        ("Evaluation", f"{len(tested.body['rows'])} prompts" if tested else None, None),
        ("Gate", decided, _page(improved or sft)),
        ("Serving", production.name if production is not None and decided == "passed" else None, "/chat"),
    ]


def _learned(made: Mapping[str, Record], recipe: Recipe) -> list[tuple[str, str | None, str | None]]:
    """Votes, where a stage learns from them, and the learned rewards: of answers, and of their segments."""
    snapshot, reward, spans = (made.get(name) for name in ("snapshot", "reward", "spans"))
    votes = ("Votes", count(snapshot.body["votes"], "vote") if snapshot else None, "/compare")
    learned = ("Reward", _accuracy(reward) if reward else None, f"/runs/{reward.id}" if reward else None)
    types = f"trained on {count(spans.body['answers']['learned'], 'marked answer')}" if spans else None
    dense = ("Dense reward", types, f"/runs/{spans.id}" if spans else None)
    asked = (bool(recipe.vote_kinds), recipe.reward is not None, recipe.spans is not None)
    return [step for step, wanted in zip((votes, learned, dense), asked, strict=True) if wanted]


def _page(version: Record | None) -> str | None:
    return None if version is None else f"/versions/{version.name}"


def _open(store: Store, project: str, recipe: Recipe, step: Step) -> Step:
    """The words of a stage that is not done."""
    if step.state == "done":
        return step
    if step.state == "ahead":
        return Step(step.title, step.state, "to come")
    words = "running" if step.state == "running" else "waits for burnish run"
    if step.title == "Votes":
        return _voting(store, project, recipe, step)
    if step.title == "Gate":
        judging = [item.campaign for item in feedback.comparisons(store, project) if item.purpose == "judge"]
        if judging:
            done, wanted = feedback.waiting(store, project, judging[-1])
            words = f"{done} of {wanted} judging votes" if done < wanted else words
    if "of" in words.split():
        words = f"waiting for feedback: {words}" if step.state == "waiting" else f"{words} so far"
    return Step(step.title, step.state, words, "/compare" if "of" in words.split() else None)


def _voting(store: Store, project: str, recipe: Recipe, step: Step) -> Step:
    """Of the votes that stages wait for the first ones that are missing, and the page to cast them on."""
    said = ("0 of 0", "/compare")
    for kinds, least in feedback.waited_for(recipe):
        cast = feedback.count(store, project, kinds=kinds, sources=recipe.feedback.sources, purpose="train")
        marks = "span" in kinds
        said = (f"{cast} of {least}{' marked answers' if marks else ''}", "/mark" if marks else "/compare")
        if cast < least:
            break
    words = f"waiting for feedback: {said[0]}" if step.state == "waiting" else f"{said[0]} so far"
    return Step(step.title, step.state, words, said[1])


def _ended(step: Step, refused: bool) -> Step:
    """A stage of a turn that is over: what it did not reach, and the gate's no."""
    if refused and step.title == "Gate":
        return Step(step.title, "refused", step.words, step.href)
    if step.state == "done":
        return step
    return Step(step.title, "ahead", "as before" if step.title == "Serving" else "not reached")


def _refusal(store: Store, verdict: Record) -> dict[str, Json] | None:
    if verdict.body["passed"]:
        return None
    why = next(rule["why"] for rule in verdict.body["rules"] if not rule["passed"])
    return {"name": store.record(verdict.body["candidate"]).name, "why": why}


def _next_turn(store: Store, project: str, recipe: Recipe) -> str | None:
    if not recipe.vote_kinds:
        return None
    snapshots = store.records(project, "snapshot")
    until = snapshots[-1].body["up_to"] if snapshots else 0
    cast = feedback.votes(store, project, sources=recipe.feedback.sources, purpose="train")
    fresh = sum(vote.sequence > until for vote in cast)
    wanted = recipe.loop.comparisons
    if fresh >= wanted:
        return f"{count(fresh, 'new vote')} are in: burnish run starts the next turn."
    return f"The next turn starts after {count(wanted, 'new vote')}: {fresh} so far."


def _rows(dataset: Record | None) -> str | None:
    return None if dataset is None else f"{dataset.body['counts'].get('train', 0):,} rows"


def _accuracy(reward: Record) -> str:
    figure = figure_of(reward.body.get("accuracy"))
    return "trained" if figure is None else f"{figure.value:.0%} of held-out votes foreseen"


def _label(store: Store, name: str, version: str) -> str:
    if name in CONTENDERS:
        return CONTENDERS[name]
    stage = store.record(version).body["stage"]
    return str(CONTENDERS.get(stage, stage))


def _meaning(metric: str) -> str:
    if metric == "score.utility":
        return "mean utility of the answers under the judging raters' rule; higher is better"
    found = metric_of(metric)
    if found is None:
        return metric
    return found.meaning + (f"; {found.better} is better" if found.better else "")


def _scale(figures: Sequence[Figure | None]) -> Callable[[Figure | None], Mapping[str, float] | None]:
    """Places a figure and its interval between 3 and 97 percent of the width that holds all of them."""
    known = [ends for figure in figures if (ends := _ends(figure))]
    low = min((min(ends.values()) for ends in known), default=0.0)
    span = max((max(ends.values()) for ends in known), default=1.0) - low or 1.0

    def place(figure: Figure | None) -> Mapping[str, float] | None:
        return {name: 3 + 94 * (end - low) / span for name, end in _ends(figure).items()} or None

    return place


def _ends(figure: Figure | None) -> dict[str, float]:
    """A figure's value and interval; empty where any of them is missing or not finite."""
    if figure is None or figure.low is None or figure.high is None:
        return {}
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return ends if all(map(math.isfinite, ends.values())) else {}
