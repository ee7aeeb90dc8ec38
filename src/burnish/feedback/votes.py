"""Votes as they stand: without those that were taken back or replaced."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select

from burnish.config import Recipe
from burnish.feedback.comparisons import Purpose
from burnish.records import Json, Mark, Source, Vote, VoteKind
from burnish.store import Store
from burnish.store import schema as tables


def votes(
    store: Store,
    project: str,
    up_to: int | None = None,
    kinds: Collection[VoteKind] | None = None,
    sources: Collection[Source] | None = None,
    campaign: str | None = None,
    purpose: Purpose | None = None,
) -> list[Vote]:
    """The votes that stand, oldest first.

    A vote that its rater took back is left out, and so is a rating, thumb, edit or marks that the same rater
    replaced by a later one of the same answer, and an edit or marks whose text was erased. With ``up_to``, events
    after that sequence did not happen, undoings included.

    Args:
        sources: Whose votes; people's and simulated ones come together only where both are named, or None.
        campaign: Only votes on that campaign's comparisons.
        purpose: Only votes on comparisons of that purpose. Ratings, thumbs, edits and marks count as "train",
            unless the answer stands in a comparison that judges: what decides a gate never trains.
    """
    with store.read() as conn:
        rows = list(conn.execute(_events(project, up_to)).mappings())
        texts = store.texts.get(conn, [row["text_id"] for row in rows if row["text_id"]])
        judging = _judging(conn, project)
    taken_back = {row["undo_of"] for row in rows if row["undo_of"] is not None}
    standing: dict[Any, Vote] = {}
    for row in rows:
        if row["undo_of"] is not None or row["sequence"] in taken_back:
            continue
        if kinds is not None and row["kind"] not in kinds:
            continue
        if sources is not None and row["source"] not in sources:
            continue
        its_purpose = row["purpose"] or ("judge" if row["exchange"] in judging else "train")
        if campaign not in (None, row["campaign"]) or purpose not in (None, its_purpose):
            continue
        text = texts.get(row["text_id"]) if row["text_id"] else None
        if row["kind"] in ("edit", "span") and text is None:
            continue
        about = (row["rater_id"], row["kind"], row["comparison_id"] or row["exchange"])
        standing.pop(about, None)  # the later one takes its own place in the order
        standing[about] = _vote(row, text or {})
    return list(standing.values())


def count(
    store: Store,
    project: str,
    up_to: int | None = None,
    kinds: Collection[VoteKind] | None = None,
    sources: Collection[Source] | None = None,
    campaign: str | None = None,
    purpose: Purpose | None = None,
) -> int:
    """How many votes stand; the arguments are those of ``votes``."""
    return len(votes(store, project, up_to, kinds, sources, campaign, purpose))


def least_votes(recipe: Recipe) -> int:
    """How many votes the stage that learns from whole answers waits for; 0 where none does."""
    if recipe.reward is not None:
        return recipe.reward.min_comparisons if recipe.reward.votes else 0
    return recipe.preference.min_votes if recipe.preference is not None and recipe.preference.votes else 0


def waited_for(recipe: Recipe) -> list[tuple[tuple[VoteKind, ...], int]]:
    """The kinds of vote that each stage learns from, where it does, and how many of them it waits for."""
    learner, spans = recipe.reward or recipe.preference, recipe.spans
    found: list[tuple[tuple[VoteKind, ...], int]] = []
    if learner is not None and learner.votes:
        found.append((learner.votes, least_votes(recipe)))
    if spans is not None and spans.votes:
        found.append((spans.votes, spans.min_marked))
    return found


def last_event(store: Store, project: str) -> int:
    """The sequence of the project's latest event, undoings included; 0 where there is none."""
    with store.read() as conn:
        newest = select(func.max(tables.votes.c.sequence)).where(tables.votes.c.project == project)
        return conn.scalar(newest) or 0


def _judging(conn: Connection, project: str) -> set[str]:
    """The answers that stand in a comparison that judges."""
    item = tables.comparisons
    query = select(item.c.a, item.c.b).where(item.c.project == project, item.c.purpose == "judge")
    return {id for row in conn.execute(query) for id in row}


def _events(project: str, up_to: int | None) -> Select[Any]:
    table, item = tables.votes, tables.comparisons
    query = (
        select(table, item.c.campaign, item.c.purpose)
        .select_from(table.outerjoin(item, item.c.id == table.c.comparison_id))
        .where(table.c.project == project)
        .order_by(table.c.sequence)
    )
    return query if up_to is None else query.where(table.c.sequence <= up_to)


def _vote(row: RowMapping, said: Mapping[str, Json]) -> Vote:
    marks = tuple(Mark(*mark) for mark in said["marks"]) if "marks" in said else None
    return Vote(
        sequence=row["sequence"],
        key=row["key"],
        project=row["project"],
        kind=row["kind"],
        exchange=row["exchange"],
        version=row["version"],
        rater=row["rater_id"],
        source=row["source"],
        created_at=row["created_at"],
        comparison=row["comparison_id"],
        other=row["other"],
        other_version=row["other_version"],
        choice=row["choice"],
        left=row["left_side"],
        value=row["value"],
        text=said.get("text"),
        criteria=json.loads(row["criteria"] or "{}"),
        marks=marks,
    )
