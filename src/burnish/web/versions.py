"""The versions' pages: the list with the promotion log, and one version with its verdict and its lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from burnish import registry
from burnish.evaluation import ALPHA
from burnish.evaluation.report import table
from burnish.records import Json, Record
from burnish.store import Lineage, Store
from burnish.web.circle import column_title
from burnish.web.words import STAGES, count, figure_of, interval, origin, when

STATES = {
    "production": "in production",
    "former": "served before",
    "passed": "passed its gate",
    "refused": "refused by its gate",
    "unjudged": "not judged",
}
KINDS = {
    "dataset": "Data",
    "version": "Version",
    "evaluation": "Evaluation",
    "verdict": "Verdict",
    "judgement": "Judging votes",
    "snapshot": "Votes",
    "campaign": "Pairs to compare",
    "reward": "Reward model",
    "spans": "Dense reward",
    "start": "Start of a turn",
    "freeze": "Votes up to here",
    "turn": "Turn",
}


@dataclass(frozen=True, slots=True)
class Branch:
    """A record in the lineage, with those that are linked to it and stand nowhere nearer."""

    title: str
    label: str
    href: str | None
    branches: tuple[Branch, ...]


def listed(store: Store, project: str) -> list[dict[str, Json]]:
    """Every version, newest first, with where it stands and its primary figure of the last evaluation that has it."""
    figures: dict[str, tuple[str, str]] = {}
    for evaluation in store.records(project, "evaluation"):
        found = table(evaluation)
        for row in found["rows"]:
            if row["name"] != "prompt_only":
                first = found["columns"][0]
                figures[row["version"]] = (column_title(first), interval(figure_of(row["cells"][first])))
    return [
        {
            "name": item.record.name or item.record.id,
            "stage": STAGES.get(item.record.body["stage"], item.record.body["stage"]),
            "state": item.state,
            "words": STATES[item.state],
            "made": item.record.created_at,
            "figure": figures.get(item.record.name or item.record.id),
        }
        for item in reversed(registry.versions(store, project))
    ]


def history(store: Store, project: str) -> list[dict[str, Json]]:
    """The promotion log with names, newest first."""
    names = {record.id: record.name or record.id for record in store.records(project, "version")}
    return [
        {
            "action": line.action,
            "version": names.get(line.version, line.version),
            "previous": names.get(line.previous or "", line.previous),
            "by": line.by,
            "at": line.created_at,
        }
        for line in reversed(registry.history(store, project))
    ]


def find_version(store: Store, project: str, name: str) -> registry.Listed | None:
    """The version of that name or id in this project, with where it stands."""
    for item in registry.versions(store, project):
        if name in (item.record.name, item.record.id):
            return item
    return None


def view(store: Store, project: str, item: registry.Listed) -> dict[str, Json]:
    """All that the page of one version shows."""
    record = item.record
    family = store.lineage(record.id)
    verdicts = [r for r in family.descendants if r.kind == "verdict" and r.body["candidate"] == record.id]
    return {
        "name": record.name or record.id,
        "state": item.state,
        "words": STATES[item.state],
        "origin": origin(record.body["stage"]),
        "facts": list(_facts(store, record, family)),
        "verdict": _verdict(verdicts[-1]) if verdicts else None,
        "parents": _tree(record, family.ancestors, lambda inner: inner.parents),
        "children": _tree(
            record, family.descendants, lambda inner: [r.id for r in family.descendants if inner.id in r.parents]
        ),
        "card": registry.card(store, record),
        "run": record.key[:16] if (store.path / "runs" / record.key[:16]).is_dir() else None,
        "can_roll_back": item.state == "production" and len(registry.history(store, project)) > 1,
    }


def _verdict(verdict: Record) -> dict[str, Json]:
    body = verdict.body
    held_out = body["held_out"]
    asked = len(body["decided_before"]) + 1
    return {
        "passed": body["passed"],
        "rules": body["rules"],
        "at": verdict.created_at,
        "alpha": (
            f"Decision {asked} on these {held_out['clusters']} {held_out['split']} prompts: each rule is one-sided at "
            f"{1 - body['alpha']:.1%}, and {body['alpha_spent']:.3f} of {ALPHA} that may go wrong are spent."
        ),
    }


def _facts(store: Store, record: Record, family: Lineage) -> Iterable[tuple[str, str]]:
    body = record.body
    yield "made", when(record.created_at)
    yield "base", f"{body['base']['name']} ({body['base']['digest'][:12]})"
    for dataset in [r for r in family.ancestors if r.kind == "dataset"][-1:]:
        counts = ", ".join(f"{number:,} {split}" for split, number in dataset.body["counts"].items() if number)
        yield "data", f"{counts} rows; {count(len(dataset.body['dropped']), 'row')} left out"
    for snapshot in [r for r in family.ancestors if r.kind == "snapshot"][-1:]:
        cast = snapshot.body["by_source"]
        yield "votes", ", ".join(f"{number:,} {source}" for source, number in sorted(cast.items())) or "none"
    for name, value in registry.stage_figures(record):
        yield name.replace("_", " "), _plain(value)
    for name, value in body["settings"].items():
        yield name.replace("_", " "), _plain(value)
    yield "id", record.id


def _plain(value: Json) -> str:
    if isinstance(value, Mapping) and "why" in value:
        return f"{value['value']} ({value['why']})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _tree(root: Record, others: Iterable[Record], linked: Callable[[Record], Iterable[str]]) -> tuple[Branch, ...]:
    """Every record once, as near to the root as its shortest way."""
    known = {record.id: record for record in others}
    inner: dict[str, list[Record]] = {}
    edge, seen = [root], {root.id}
    while edge:
        following = []
        for record in edge:
            inner[record.id] = [known[id] for id in dict.fromkeys(linked(record)) if id not in seen]
            seen |= {child.id for child in inner[record.id]}
            following += inner[record.id]
        edge = following

    def branch(record: Record) -> Branch:
        title = KINDS.get(record.kind, record.kind)
        return Branch(title, _name(record), _href(record), tuple(map(branch, inner[record.id])))

    return branch(root).branches


def _name(record: Record) -> str:
    if record.kind == "version":
        return record.name or record.id
    if record.kind == "turn":
        return str(record.body["number"])
    return record.id.rpartition("-")[2][:8]


def _href(record: Record) -> str | None:
    if record.kind == "version":
        return f"/versions/{record.name or record.id}"
    return f"/runs/{record.id}" if record.kind in ("reward", "spans") else None
