"""What each version's answers and the votes on them look like, from what is stored: any process may ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select

from burnish import feedback
from burnish.records import Json, Vote
from burnish.store import Store, schema
from burnish.store.hashing import parse

SERVED = "serve"  # the purpose of answers that the server gave


def events(store: Store, project: str) -> Path:
    """The folder whose log tells of the server's failures; no exchange can, since nothing was said."""
    return store.path / "runs" / f"serving-{project}"


def summary(store: Store, project: str, since: str | None = None) -> dict[str, Json]:
    """The figures of every version that answered, was voted on or failed; oldest version first.

    Args:
        since: Only what happened at or after this time (ISO 8601, as records carry it).

    Returns:
        ``versions``, each with ``version`` (its name), ``answers`` served, ``broken_off`` (the client left, or the
        server stopped), ``latency_ms`` with ``p50`` and ``p95``, ``mean_tokens``, ``cut`` (share that ended at the
        length limit), ``errors`` and ``votes``: by source, never pooled, ``thumbs`` (``up``, ``down``), ``ratings``
        (``count``, ``mean``), ``edits``, and ``comparisons`` with other versions (``won``, ``lost``, ``tied``).
        ``overloaded`` counts the requests that were sent away. What cannot be known is None.
    """
    start = since or ""
    table = schema.exchanges
    query = select(
        table.c.version, table.c.delivery, table.c.finish_reason, table.c.latency_ms,
        table.c.answer_tokens, table.c.settings,
    ).where(table.c.project == project, table.c.purpose == SERVED, table.c.created_at >= start)  # fmt: skip
    with store.read() as conn:
        answers = list(conn.execute(query).mappings())
    votes = [vote for vote in feedback.votes(store, project) if vote.created_at >= start]
    log = [line for line in store.metrics(events(store, project)) if line["at"] >= start]
    versions = []
    for record in store.records(project, "version"):
        figures = {
            **_answers([row for row in answers if row["version"] == record.id]),
            "errors": sum(line.get("event") == "error" and line["version"] == record.name for line in log),
            "votes": _votes(record.id, votes),
        }
        if any(figures[name] for name in ("answers", "broken_off", "errors", "votes")):
            versions.append({"version": record.name or record.id, **figures})
    overloaded = sum(line.get("event") == "overloaded" for line in log)
    return {"since": since, "versions": versions, "overloaded": overloaded}


def _answers(rows: Sequence[RowMapping]) -> dict[str, Json]:
    said = [row for row in rows if row["delivery"] != "rejected"]
    cut = [row for row in said if row["finish_reason"] == "length" and not parse(row["settings"])["stopped_by_string"]]
    latencies = sorted(row["latency_ms"] for row in said if row["latency_ms"] is not None)
    return {
        "answers": len(said),
        "broken_off": len(rows) - len(said),
        "latency_ms": {"p50": _quantile(latencies, 0.5), "p95": _quantile(latencies, 0.95)},
        "mean_tokens": _mean([row["answer_tokens"] for row in said]),
        "cut": len(cut) / len(said) if said else None,
    }


def _votes(version: str, votes: Sequence[Vote]) -> dict[str, Json]:
    """By source; a comparison of a version with itself says nothing about it and is left out."""
    found: dict[str, Json] = {}
    for source in sorted({vote.source for vote in votes}):
        mine = [vote for vote in votes if vote.source == source and version in (vote.version, vote.other_version)]
        judged = [vote for vote in mine if vote.version == version]
        thumbs = [vote.value for vote in judged if vote.kind == "thumb"]
        ratings = [vote.value for vote in judged if vote.kind == "rating" and vote.value is not None]
        sides = [_side(version, vote) for vote in mine if vote.kind == "compare" and vote.version != vote.other_version]
        figures: dict[str, Any] = {
            "thumbs": {"up": thumbs.count(1), "down": thumbs.count(-1)},
            "ratings": {"count": len(ratings), "mean": _mean(ratings)},
            "edits": sum(vote.kind == "edit" for vote in judged),
            "comparisons": {name: sides.count(name) for name in ("won", "lost", "tied")},
        }
        if thumbs or ratings or sides or figures["edits"]:
            found[source] = figures
    return found


def _side(version: str, vote: Vote) -> str:
    if vote.choice == "tie":
        return "tied"
    return "won" if (vote.choice == "a") == (vote.version == version) else "lost"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least that share of all values does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
