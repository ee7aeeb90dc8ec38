"""What `burnish train` made, or what an interruption left, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.monitoring.runs import KEY, all_runs, by_update
from burnish.pipeline.summary import PAGES
from burnish.progress import TELLING, name_of, number
from burnish.records import Json, Record
from burnish.store.runs import FILE

if TYPE_CHECKING:
    from burnish.pipeline.project import Project
    from burnish.pipeline.turn import Outcome


def trained(project: Project, outcome: Outcome) -> list[str]:
    """The end of ``burnish train`` for a person: each stage's version, its last figures, and where its charts are."""
    lines = [] if not outcome.repeated else ["every stage was finished before: nothing ran", ""]
    for stage, record in _stages(project, outcome):
        settings = ", ".join(
            f"{name} {choice['value']}" for name, choice in (record.body.get("settings") or {}).items()
        )
        lines += [f"{stage}: {record.name or record.id}", f"  settings  {settings}"]
        figures = _last(project, record)
        said = ", ".join(f"{name_of(key)} {number(figures[key])}" for key in TELLING if key in figures)
        lines += [f"  figures   {said}", f"  charts    {PAGES}/runs/{record.key[:KEY]}", ""]
    if outcome.state == "waiting":
        return [*lines, f"{outcome.why}, page at {PAGES}/compare (`burnish serve`); then `burnish train` goes on"]
    shown = f"`burnish serve {project.path}` opens the charts"
    return [*lines, f"{shown}; `burnish run {project.path}` judges what was trained"]


def trained_json(project: Project, outcome: Outcome) -> dict[str, Json]:
    """The same for a script."""
    return {
        "state": outcome.state,
        "turn": outcome.number,
        "why": outcome.why,
        "stages": {
            stage: {
                "record": record.id,
                "name": record.name,
                "run": record.key[:KEY],
                "figures": _last(project, record),
            }
            for stage, record in _stages(project, outcome)
        },
    }


def kept(project: Project, since: float) -> str:
    """What an interruption left of the work that began at ``since`` (seconds of the clock)."""
    from burnish.training.checkpoint import kept as updates_kept

    runs = project.store.path / "runs"
    changed = [
        ((runs / run.key / FILE).stat().st_mtime, run)
        for run in all_runs(project.store, project.recipe.name)
        if run.state != "done"
    ]
    changed_at, run = max(changed, key=lambda found: found[0], default=(0.0, None))
    if run is None or changed_at < since:
        return "finished stages are kept"
    where, updates = run.title.lower(), updates_kept(runs / run.key)
    if updates is None:
        return f"{where} had no checkpoint yet and starts anew; finished stages are kept"
    return f"the checkpoint of {where} after {updates} of its {run.steps} updates is kept"


def _stages(project: Project, outcome: Outcome) -> list[tuple[str, Record]]:
    names = {"rl": "candidate"}
    found = [(stage, outcome.records.get(names.get(stage, stage))) for stage in project.training_stages()]
    return [(s, r) for s, r in found if r is not None and r.body.get("stage", r.kind) == s]


def _last(project: Project, record: Record) -> Mapping[str, Json]:
    """The latest value of each telling figure that the record's run logged."""
    found: dict[str, Json] = {}
    for line in by_update(line for line in project.store.metrics(record) if "step" in line):
        found |= {key: line[key] for key in TELLING if key in line}
    return found
