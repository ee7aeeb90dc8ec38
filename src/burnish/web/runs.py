"""What ran and what runs: the folders of logs, matched with the records that came of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from burnish.records import Exchange, Json, Record
from burnish.store import RunLog, Store
from burnish.store.runs import FILE
from burnish.web.charts import last_figures, panels, stage_of
from burnish.web.words import count

HEX = re.compile("[0-9a-f]{16}")  # other folders are no stage's: the server's log
KEY = 16  # a work's folder is the first digits of its key
SAMPLES = 12  # texts sent with one answer
TITLES = {"sft": "Supervised fine-tuning", "reward": "Reward model", "rl": "Reinforcement learning", None: "A stage"}

State = Literal["running", "done", "unfinished"]


@dataclass(frozen=True, slots=True)
class Run:
    """One stage's log. ``name`` is the version that it made; ``record`` is absent until the stage is done."""

    key: str
    stage: str | None
    state: State
    started: str
    lines: Sequence[Mapping[str, Json]]
    record: Record | None = None

    @property
    def title(self) -> str:
        return TITLES.get(self.stage, str(self.stage))

    @property
    def name(self) -> str | None:
        return self.record.name if self.record else None

    @property
    def steps(self) -> int:
        return len({line["step"] for line in self.lines})

    @property
    def last(self) -> str:
        return last_figures(self.lines)


def all_runs(store: Store, project: str) -> list[Run]:
    """The project's runs, newest first; those without a record belong to the store's latest work."""
    made = {record.key[:KEY]: record for record in store.records(project)}
    others = {record.key[:KEY] for name in store.projects() if name != project for record in store.records(name)}
    logs = sorted((store.path / "runs").glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    keys = [path.parent.name for path in logs if HEX.fullmatch(path.parent.name) and path.parent.name not in others]
    unfinished = [key for key in keys if key not in made]
    running = unfinished[-1] if unfinished and at_work(store) else None
    runs = [_run(store, key, made.get(key), key == running) for key in keys]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def find_run(store: Store, project: str, wanted: str) -> Run | None:
    """The run of that folder key, record id or version name."""
    for run in all_runs(store, project):
        if wanted == run.key or (run.record is not None and wanted in (run.record.id, run.record.name)):
            return run
    return None


def at_work(store: Store) -> bool:
    """Whether a run holds the store: who took its lock is still alive."""
    try:
        holder = json.loads((store.path / "run.holder").read_text(encoding="utf-8"))
        os.kill(int(holder["pid"]), 0)
    except PermissionError:  # alive, and someone else's
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def since(store: Store, project: str, run: Run, after: int) -> dict[str, Json]:
    """What the run page draws: log lines from number ``after`` on, the charts, new samples, and the state in words."""
    fresh = run.lines[after:]
    return {
        "lines": fresh,
        "panels": [asdict(panel) for panel in panels(run.lines)],
        "samples": _samples(store, project, fresh),
        "state": in_words(run),
        "finished": run.state != "running",
    }


def in_words(run: Run) -> str:
    """The state of a run, as a person says it."""
    steps = count(run.steps, "step")
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
        return f"{value['value']} ({value.get('why', 'recipe')})"
    return str(value)


def _run(store: Store, key: str, record: Record | None, running: bool) -> Run:
    folder = store.path / "runs" / key
    lines = RunLog.read(folder)
    stage = str(record.body.get("stage", record.kind)) if record else stage_of(lines)
    changed = datetime.fromtimestamp((folder / FILE).stat().st_mtime, UTC).isoformat()
    started = str(lines[0].get("at", changed)) if lines else changed
    state: State = "done" if record else "running" if running else "unfinished"
    return Run(key, stage, state, started, [line for line in lines if "step" in line], record)


def _samples(store: Store, project: str, lines: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    steps = {id: line["step"] for line in lines for id in line.get("samples") or ()}
    found = store.exchanges.many(list(steps)[-SAMPLES:])
    return [
        {"step": steps[id], "prompt": question(exchange), "answer": exchange.answer}
        for id, exchange in found.items()
        if exchange.project == project
    ]


def question(exchange: Exchange) -> str:
    """What a person asked last."""
    return next((message.content for message in reversed(exchange.prompt) if message.role == "user"), "")
