"""Feedback frozen before it is an input: a record that names the events up to one of them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from burnish.feedback.comparisons import Purpose
from burnish.feedback.summary import summary
from burnish.feedback.votes import last_event, votes
from burnish.records import Json, Record, Source
from burnish.store import Store, Work
from burnish.store import schema as tables

VERSION = 1


def snapshot(
    store: Store,
    project: str,
    parents: Sequence[Record],
    seed: int,
    sources: Sequence[Source],
    purpose: Purpose = "train",
    up_to: int | None = None,
    turn: int | None = None,
) -> Record:
    """Freeze the votes of a project up to an event, the latest where ``up_to`` is absent.

    The record's body holds ``up_to``, the chain's digest there (so that what follows from the snapshot
    follows from every vote in it), and the summary of the votes that stand. Read them again with
    ``votes(store, project, up_to=body["up_to"], sources=body["sources"], purpose=body["purpose"])``.

    Args:
        turn: The turn that it is for. A turn has one snapshot of one start and one choice of sources: it is given
            back however many votes came in since.
    """
    wanted = {"turn": turn, "sources": sorted(set(sources)), "purpose": purpose}
    if turn is not None and (frozen := _of_turn(store, project, parents, wanted)) is not None:
        return frozen
    until = last_event(store, project) if up_to is None else up_to
    settings: dict[str, Json] = wanted | {"up_to": until}
    work = Work("snapshot", "snapshot", VERSION, settings, tuple(parents), seed, project)

    def make() -> dict[str, Json]:
        kept = votes(store, project, up_to=until, sources=settings["sources"], purpose=purpose)
        return settings | {
            "chain": _chain_at(store, project, until),
            **_unnamed(summary(store, project, kept, seed)),
        }

    return store.once(work, make)


def _of_turn(store: Store, project: str, parents: Sequence[Record], wanted: dict[str, Json]) -> Record | None:
    ids = tuple(parent.id for parent in parents)
    for record in store.records(project, "snapshot"):
        if record.parents == ids and all(record.body.get(name) == value for name, value in wanted.items()):
            return record
    return None


def _chain_at(store: Store, project: str, until: int) -> str | None:
    table = tables.votes
    query = select(table.c.digest).where(table.c.project == project, table.c.sequence <= until)
    with store.read() as conn:
        return conn.scalar(query.order_by(table.c.sequence.desc()).limit(1))


def _unnamed(summed: dict[str, Json]) -> dict[str, Json]:
    """Without raters' names, which are personal and stay out of records."""
    rows = [{name: value for name, value in row.items() if name != "name"} for row in summed["by_rater"]]
    return summed | {"by_rater": rows}
