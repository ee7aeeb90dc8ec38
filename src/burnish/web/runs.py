"""What the pages say of a run: its state in words, its charts, its settings, what it said while it learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from burnish.monitoring.runs import Run, all_runs
from burnish.records import Exchange, Json
from burnish.store import Store
from burnish.web.charts import panels, place_of
from burnish.web.criteria import weights_in_words
from burnish.web.words import count

SAMPLES = 12  # texts sent with one answer
SIDE_BY_SIDE = 120  # of those that are set side by side
BESIDE = 5  # runs drawn beside another: with it six, as many as can be told apart


def since(store: Store, project: str, run: Run, after: int) -> dict[str, Json]:
    """What the run page draws: log lines from number ``after`` on, the charts, new samples, and the state in words."""
    fresh = run.lines[after:]
    return {
        "lines": fresh,
        "panels": [{**asdict(panel), "place": place_of(panel)} for panel in panels(run.lines)],
        "samples": _samples(store, project, fresh, "samples", SAMPLES),
        "dev_samples": _samples(store, project, fresh, "dev_samples", SIDE_BY_SIDE),
        "state": in_words(run),
        "finished": run.state != "running",
    }


def beside(store: Store, project: str, run: Run, wanted: Sequence[str]) -> dict[str, Json]:
    """The project's other runs, the keys of those that are ``wanted`` beside this one, and the names of no run."""
    others = [other for other in all_runs(store, project) if other.key != run.key]
    known = {name: other.key for other in others for name in _names(other)}
    chosen = list(dict.fromkeys(known[name] for name in wanted if name in known))[:BESIDE]
    unknown = [name for name in wanted if name not in known and name not in _names(run)]
    return {"others": others, "chosen": chosen, "unknown": unknown}


def _names(run: Run) -> list[str]:
    record = [run.record.id, run.record.name] if run.record else []
    return [run.key, *(name for name in record if name)]


def in_words(run: Run) -> str:
    """The state of a run, as a person says it."""
    steps = count(run.steps, "update")
    if run.state == "running":
        return f"Running: {steps} so far"
    if run.state == "unfinished":
        return f"Not finished after {steps}, and no run is at work: burnish run goes on from the last checkpoint"
    stopped = next((line["stopped"] for line in reversed(run.lines) if line.get("stopped")), None)
    return f"Done after {steps}" + (f"; stopped early: {stopped}" if stopped else "")


def facts(store: Store, run: Run) -> list[tuple[str, str]]:
    """The settings of a finished run, each with why it has its value."""
    if run.record is None:
        return []
    settings: Mapping[str, Json] = run.record.body.get("settings") or {}
    found = [(name.replace("_", " "), _setting(value)) for name, value in settings.items()]
    libraries = store.made_with(run.record.id)["libraries"]
    return [*found, ("made with", ", ".join(f"{name} {version}" for name, version in libraries.items()))]


def _setting(value: Json) -> str:
    if isinstance(value, Mapping) and "value" in value:
        said = weights_in_words(value["value"]) if isinstance(value["value"], Mapping) else value["value"]
        return f"{said} ({value.get('why', 'recipe')})"
    return str(value)


def _samples(
    store: Store, project: str, lines: Sequence[Mapping[str, Json]], key: str, most: int
) -> list[dict[str, Json]]:
    """The texts that these lines name, in order: the last ones, where they are more than ``most``."""
    steps = {id: line["step"] for line in lines for id in line.get(key) or ()}
    found = store.exchanges.many(list(steps)[-most:])
    return [
        {"step": steps[id], "prompt": question(exchange), "answer": exchange.answer}
        for id, exchange in found.items()
        if exchange.project == project
    ]


def question(exchange: Exchange) -> str:
    """What a person asked last."""
    return next((message.content for message in reversed(exchange.prompt) if message.role == "user"), "")
