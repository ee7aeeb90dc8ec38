"""Pairs of answers that people are asked to compare, and the queue that hands them out.

A rater holds an item by a lease that expires; one conditional statement takes it, so an item is never in more
hands than it wants votes. Which answer stands on the left is drawn for each rater and item, and kept with the
vote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, RowMapping, Select, delete, func, insert, literal, select, update

from burnish.errors import FeedbackError
from burnish.feedback.raters import RATERS
from burnish.records import Comparison, Document, Exchange, Message
from burnish.store import Store, digest_of, now
from burnish.store import schema as tables

LEASE = timedelta(minutes=10)

Purpose = Literal["train", "judge"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One comparison as a rater sees it: blind, without versions; ``left`` and ``right`` are the texts."""

    comparison: str
    purpose: Purpose
    campaign: str
    prompt: tuple[Message, ...]
    documents: tuple[Document, ...]
    left: str
    right: str
    expires_at: str


class Waiting(NamedTuple):
    """Votes that a campaign has, none counted beyond what an item wants, and votes that it wants."""

    done: int
    wanted: int


def add_comparisons(
    store: Store,
    project: str,
    pairs: Sequence[tuple[str, str]],
    purpose: Purpose,
    campaign: str,
    votes_wanted: int,
) -> list[Comparison]:
    """Put pairs of exchanges (by id) before the raters, and return them in order.

    Adding the same pair to the same campaign again adds nothing, so a stage that was killed may repeat
    itself. For overlap, add some pairs with more ``votes_wanted`` than the others.

    Raises:
        FeedbackError: A pair names an exchange that is not there, answers two prompts, or holds two equal
            answers. Nothing was added.
    """
    if votes_wanted < 1:
        raise FeedbackError(f"{votes_wanted} votes cannot be wanted of a comparison", mend="ask for one")
    found = store.exchanges.many(id for pair in pairs for id in pair)
    prompt_keys: dict[Any, str] = {}
    time = now()  # one for all: the queue's order, time and then id, is the same in every run
    rows: dict[str, dict[str, Any]] = {}
    for number, (a, b) in enumerate(pairs, 1):
        first = _require_pair(found, project, a, b, number)
        # stands for the prompt without hashing it: no guess about an erased text can be checked against it
        prompt_key = prompt_keys.setdefault((first.prompt, first.documents), first.id)
        id = f"comparison-{digest_of([project, campaign, a, b])[:16]}"
        rows[id] = {
            "id": id,
            "project": project,
            "a": a,
            "b": b,
            "purpose": purpose,
            "campaign": campaign,
            "votes_wanted": votes_wanted,
            "prompt_key": prompt_key,
            "created_at": time,
        }
    with store.write() as conn:
        mine = select(tables.comparisons.c.id).where(
            tables.comparisons.c.project == project, tables.comparisons.c.campaign == campaign
        )
        known = set(conn.scalars(mine))
        new = [row for id, row in rows.items() if id not in known]
        if new:
            conn.execute(insert(tables.comparisons), new)
    return [_comparison(row) for row in rows.values()]


def comparisons(
    store: Store, project: str, campaign: str | None = None, ids: Iterable[str] | None = None
) -> list[Comparison]:
    """The comparisons of a project (or of one campaign, or those of ``ids``), in the order of the queue."""
    table = tables.comparisons
    query = select(table).where(table.c.project == project).order_by(table.c.created_at, table.c.id)
    if campaign is not None:
        query = query.where(table.c.campaign == campaign)
    wanted = None if ids is None else set(ids)
    with store.read() as conn:
        rows = conn.execute(query).mappings()
        return [_comparison(row) for row in rows if wanted is None or row["id"] in wanted]


def next_comparison(
    store: Store,
    project: str,
    rater: str,
    at: datetime | None = None,
    campaign: str | None = None,
    skipped: Collection[str] = (),
) -> Offer | None:
    """Lease the next comparison to a rater; None when there is nothing left for them.

    Asking again gives back the rater's former lease. A rater who voted on an item meets it again only after
    undoing that vote. An item whose text was erased is not offered.

    Args:
        at: The time, for tests; now where it is absent.
        skipped: Comparisons (by id) that the rater does not want to judge now.

    Raises:
        FeedbackError: There is no such rater in the project.
    """
    moment = at or datetime.now(UTC)
    time, expires = _iso(moment), _iso(moment + LEASE)
    leases = tables.leases
    with store.write() as conn:
        known = select(tables.raters.c.id).where(tables.raters.c.id == rater, tables.raters.c.project == project)
        if conn.scalar(known) is None:
            raise FeedbackError(f"there is no rater {rater} in {project}", mend="register the rater first")
        conn.execute(delete(leases).where((leases.c.rater_id == rater) | (leases.c.expires_at <= time)))
        free = _free(project, rater, expires, campaign, skipped)
        taken = insert(leases).from_select(list(free.selected_columns.keys()), free)
        id = conn.scalar(taken.returning(leases.c.comparison_id))
        if id is None:
            return None
        row = conn.execute(select(tables.comparisons).where(tables.comparisons.c.id == id)).mappings().one()
    a, b = (store.exchanges.get(row[side]) for side in "ab")
    left, right = (a, b) if left_side(id, rater) == "a" else (b, a)
    return Offer(id, row["purpose"], row["campaign"], a.prompt, a.documents, left.answer, right.answer, expires)


def left_side(comparison: str, rater: str) -> Literal["a", "b"]:
    """Which answer this rater sees on the left: a fair draw for each rater and item, always the same."""
    return "a" if int(digest_of([comparison, rater])[:8], 16) % 2 == 0 else "b"


def waiting(store: Store, project: str, campaign: str) -> Waiting:
    """How many votes of a campaign are in, and how many it wants."""
    table = tables.comparisons
    votes = _standing_votes().subquery()
    per_item = (
        select(table.c.votes_wanted, func.count(votes.c.sequence).label("done"))
        .select_from(table.outerjoin(votes, votes.c.comparison_id == table.c.id))
        .where(table.c.project == project, table.c.campaign == campaign)
        .group_by(table.c.id, table.c.votes_wanted)
    )
    with store.read() as conn:
        rows = conn.execute(per_item).all()
    return Waiting(sum(min(row.done, row.votes_wanted) for row in rows), sum(row.votes_wanted for row in rows))


def withdraw(store: Store, project: str, prefix: str, but: str | None = None) -> None:
    """Want no more votes of the campaigns whose names begin so, ``but`` one; votes that were cast stand, and leases
    stay good."""
    item, votes = tables.comparisons, _standing_votes().subquery()
    given = select(func.count()).where(votes.c.comparison_id == item.c.id).scalar_subquery()
    mine = (item.c.project == project) & item.c.campaign.startswith(prefix, autoescape=True)
    if but is not None:
        mine &= item.c.campaign != but
    with store.write() as conn:
        conn.execute(update(item).where(mine).values(votes_wanted=given))


def undone() -> Select[Any]:
    """The sequences of all votes that were taken back."""
    return select(tables.votes.c.undo_of).where(tables.votes.c.undo_of.is_not(None))


def _standing_votes() -> Select[Any]:
    """Comparisons that raters judged, and who did, without the votes that were taken back."""
    table = tables.votes
    return select(table.c.sequence, table.c.comparison_id, table.c.rater_id).where(
        table.c.kind == "compare", table.c.source.in_(RATERS), table.c.sequence.not_in(undone())
    )


def _free(project: str, rater: str, expires: str, campaign: str | None, skipped: Collection[str]) -> Select[Any]:
    """The one next item for a rater, as a row of ``leases``: what the taking statement selects."""
    item, leases = tables.comparisons, tables.leases
    votes = _standing_votes().subquery()
    given = select(func.count()).where(votes.c.comparison_id == item.c.id).scalar_subquery()
    held = select(func.count()).where(leases.c.comparison_id == item.c.id).scalar_subquery()
    seen = select(votes.c.comparison_id).where(votes.c.rater_id == rater)
    free: list[ColumnElement[bool]] = [
        item.c.project == project,
        item.c.id.not_in(seen),
        item.c.id.not_in(skipped),
        given + held < item.c.votes_wanted,
        item.c.a.in_(_readable()),
        item.c.b.in_(_readable()),
    ]
    if campaign is not None:
        free.append(item.c.campaign == campaign)
    columns = (
        item.c.id.label("comparison_id"),
        literal(rater).label("rater_id"),
        literal(project).label("project"),
        literal(expires).label("expires_at"),
    )
    return select(*columns).where(*free).order_by(item.c.created_at, item.c.id).limit(1)


def _readable() -> Select[Any]:
    """Exchanges whose text was not erased."""
    joined = tables.exchanges.join(tables.texts, tables.texts.c.id == tables.exchanges.c.text_id)
    return select(tables.exchanges.c.id).select_from(joined).where(tables.texts.c.payload.is_not(None))


def _require_pair(found: dict[str, Exchange], project: str, a: str, b: str, number: int) -> Exchange:
    where = f"pair {number}"
    for id in (a, b):
        if id not in found or found[id].project != project:
            raise FeedbackError(f"there is no exchange {id} in {project}", where=where, mend="name a stored answer")
    first, second = found[a], found[b]
    if (first.prompt, first.documents) != (second.prompt, second.documents):
        raise FeedbackError("the two answers are not to the same prompt", where=where, mend="pair one prompt's")
    if first.answer.strip() == second.answer.strip():
        raise FeedbackError("the two answers are equal", where=where, mend="leave out pairs of equal answers")
    return first


def _comparison(row: RowMapping | dict[str, Any]) -> Comparison:
    return Comparison(
        id=row["id"],
        project=row["project"],
        a=row["a"],
        b=row["b"],
        purpose=row["purpose"],
        votes_wanted=row["votes_wanted"],
        campaign=row["campaign"],
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
