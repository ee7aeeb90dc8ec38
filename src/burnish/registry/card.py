"""The card of a version: what it was made of and how it was judged, as Markdown."""

from __future__ import annotations

from burnish.evaluation.metrics import number
from burnish.evaluation.report import SIMULATED, lines
from burnish.records import Json, Record
from burnish.store import Store


def card(store: Store, record: Record) -> str:
    """The card of a version, from its record and what it is linked with.

    Raises:
        StoreError: A linked record is missing.
    """
    family = store.lineage(record.id)
    parents = store.parents(record.id)
    said = [f"# {record.name or record.id}", ""]
    said += [f"- id: {record.id}", f"- made: {record.created_at}, stage {record.body['stage']}"]
    said.append(f"- base: {record.body['base']['name']} ({record.body['base']['digest'][:12]})")
    if parents:
        said.append(f"- made from: {', '.join(parent.name or parent.id for parent in parents)}")
    said += _data([r for r in family.ancestors if r.kind == "dataset"])
    said += _feedback([r for r in family.ancestors if r.kind == "snapshot"])
    said += _section("Settings", _settings(record.body["settings"]))
    said += _section("Figures of the stage", [f"- {name}: {_said(value)}" for name, value in stage_figures(record)])
    said += ["", "## Verdict", ""]
    verdicts = [r for r in family.descendants if r.kind == "verdict" and r.body["candidate"] == record.id]
    if not verdicts:
        return "\n".join([*said, "None yet.", ""])
    verdict = verdicts[-1]
    linked = {r.id: r for r in store.parents(verdict.id)}
    judged = linked.get(verdict.body["judgement"])
    said += lines(linked[verdict.body["evaluation"]], verdict, judged)
    if judged is not None and "simulated" in judged.body["votes"]:
        said += ["", SIMULATED]
    return "\n".join([*said, ""])


def stage_figures(record: Record) -> list[tuple[str, Json]]:
    """What a version's stage measured, by name; what was before training comes first."""
    return sorted(record.body["figures"].items(), key=lambda item: item[0] != "before")


def _section(title: str, found: list[str]) -> list[str]:
    return ["", f"## {title}", "", *found] if found else []


def _data(datasets: list[Record]) -> list[str]:
    if not datasets:
        return []
    counts = ", ".join(f"{count} {split}" for split, count in datasets[-1].body["counts"].items())
    return [f"- data: {counts} rows, {len(datasets[-1].body.get('dropped', ()))} left out ({datasets[-1].id})"]


def _feedback(snapshots: list[Record]) -> list[str]:
    """Whose votes the reward was learned from: simulated ones are called so."""
    if not snapshots:
        return []
    by_source = snapshots[-1].body["by_source"]
    cast = ", ".join(f"{count} {source}" for source, count in sorted(by_source.items()))
    return [f"- votes: {cast or 'none'} ({snapshots[-1].id})"]


def _settings(settings: Json) -> list[str]:
    """Each setting, and why it has its value."""
    return [
        f"- {name}: {choice['value']} ({choice['why']})" if isinstance(choice, dict) else f"- {name}: {choice}"
        for name, choice in settings.items()
    ]


def _said(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(inner)}" for name, inner in value.items())
    return number(value) if isinstance(value, float) else "none" if value is None else str(value)
