"""What ran and what runs: the folders of logs, matched with the records that came of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from burnish.errors import StoreError
from burnish.records import Json, Record
from burnish.store import RunLog, Store
from burnish.store.runs import FILE

HEX = re.compile("[0-9a-f]{16}")  # other folders are no stage's: the server's log
LOOKED = re.compile("step$|at$|stopped$|held_out|dev_")  # all that a line without an update holds
KEY = 16  # a work's folder is the first digits of its key
TITLES = {
    "sft": "Supervised fine-tuning",
    "preference": "Preference training",
    "reward": "Reward model",
    "spans": "Dense reward",
    "rl": "Reinforcement learning",
    None: "A stage",
}
TOLD_BY = {
    "policy": "rl",
    "reward": "rl",
    "pairwise": "reward",
    "span": "spans",
    "preference": "preference",
    "kto": "preference",
    "likelihood": "sft",
}
NOT_FINITE = ("nan", "inf", "-inf")  # as a log spells them

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
    def label(self) -> str:
        """How the run is called beside others: the version that it made, or its stage with the key's beginning."""
        return self.name or f"{self.stage or 'stage'} {self.key[:6]}"

    @property
    def steps(self) -> int:
        """Updates that were logged."""
        return updates(self.lines)


def all_runs(store: Store, project: str) -> list[Run]:
    """The project's runs, newest first; those without a record belong to the store's latest work."""
    runs = [_run(store, *found) for found in _folders(store, project)]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def find_run(store: Store, project: str, wanted: str) -> Run | None:
    """The run of that folder key, record id or version name; no other log is read."""
    for key, record, running in _folders(store, project):
        if wanted == key or (record is not None and wanted in (record.id, record.name)):
            return _run(store, key, record, running)
    return None


def require_run(store: Store, project: str, wanted: str) -> Run:
    """The run of that folder key, record id or version name.

    Raises:
        StoreError: There is none; the message names those that there are.
    """
    found = find_run(store, project, wanted)
    if found is None:
        known = ", ".join(run.name or run.key for run in all_runs(store, project)[:8])
        mend = f"name one of {known}" if known else "`burnish train` makes one"
        raise StoreError(f'there is no run "{wanted}"', where=str(store.path), mend=mend)
    return found


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


def updates(lines: Iterable[Mapping[str, Json]]) -> int:
    """Updates among the lines of a log; a look at held-out rows after the last one is none."""
    return len({line["step"] for line in lines if not all(map(LOOKED.match, line))})


def by_update(lines: Iterable[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """One line for each update, in order: a run that was resumed logs the updates since its checkpoint again, and the
    later figure stands.
    """
    found: dict[int, dict[str, Json]] = {}
    for line in lines:
        found[line["step"]] = {**found.get(line["step"], {}), **line}
    return [found[step] for step in sorted(found)]


def is_figure(value: Json) -> bool:
    """Whether a logged value is a number, one that is not finite included (the log spells those out)."""
    if isinstance(value, str):
        return value in NOT_FINITE
    return isinstance(value, int | float) and not isinstance(value, bool)


def stage_of(lines: Iterable[Mapping[str, Json]]) -> str | None:
    """The stage that wrote a log, told by what it minimises; None while that is not known."""
    logged = {key.partition(":")[0] for line in lines for key in line}
    return next((stage for key, stage in TOLD_BY.items() if key in logged), None)


def _folders(store: Store, project: str) -> list[tuple[str, Record | None, bool]]:
    """Each log's key, the record that its work made, and whether it is at work now; the oldest log first."""
    made = {record.key[:KEY]: record for record in store.records(project)}
    others = {record.key[:KEY] for name in store.projects() if name != project for record in store.records(name)}
    logs = sorted((store.path / "runs").glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    keys = [path.parent.name for path in logs if HEX.fullmatch(path.parent.name) and path.parent.name not in others]
    unfinished = [key for key in keys if key not in made]
    running = unfinished[-1] if unfinished and at_work(store) else None
    return [(key, made.get(key), key == running) for key in keys]


def _run(store: Store, key: str, record: Record | None, running: bool) -> Run:
    folder = store.path / "runs" / key
    lines = RunLog.read(folder)
    stage = str(record.body.get("stage", record.kind)) if record else stage_of(lines)
    changed = datetime.fromtimestamp((folder / FILE).stat().st_mtime, UTC).isoformat()
    started = str(lines[0].get("at", changed)) if lines else changed
    state: State = "done" if record else "running" if running else "unfinished"
    return Run(key, stage, state, started, [line for line in lines if "step" in line], record)
