"""Who votes: people, simulated raters and judges, who stay told apart for good."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import Connection, insert, select

from burnish.errors import FeedbackError
from burnish.records import Source
from burnish.store import Store, digest_of, now
from burnish.store import schema as tables

LONGEST_NAME = 80
SOURCES: tuple[Source, ...] = get_args(Source)
RATERS: tuple[Source, ...] = ("human", "simulated")  # whose votes a comparison waits for: a judge's is one more


@dataclass(frozen=True, slots=True)
class RaterName:
    """A rater: the id that votes carry, the name they gave, and what they are."""

    id: str
    name: str
    source: Source


def ensure_rater(store: Store, project: str, name: str, source: Source = "human") -> str:
    """The id of the rater of that name, who is made where there is none.

    Raises:
        FeedbackError: The name is empty, longer than 80 characters or holds what cannot be printed, or it
            belongs to a rater of another source: a person never becomes simulated, nor the other way round.
    """
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise FeedbackError("a rater's name has 1 to 80 printable characters", mend="choose a plain name")
    if source not in SOURCES:
        raise FeedbackError(f'"{source}" is no source of votes', mend=f"it is one of {', '.join(SOURCES)}")
    with store.read() as conn:
        found = _by_name(conn, project, name)
    if found is None:
        # a person's id is not made from the name, which may be erased; any other rater's repeats its votes
        id = f"rater-{secrets.token_hex(8) if source == 'human' else digest_of([project, name])[:16]}"
        with store.write() as conn:
            found = _by_name(conn, project, name)  # another request may have been faster
            if found is None:
                found = RaterName(id, name, source)
                conn.execute(
                    insert(tables.raters).values(id=id, project=project, name=name, source=source, created_at=now())
                )
    if found.source != source:
        raise FeedbackError(f'"{name}" is a {found.source} rater of {project}', mend="choose another name")
    return found.id


def raters(store: Store, project: str) -> dict[str, RaterName]:
    """The raters of a project by id."""
    table = tables.raters
    query = select(table.c.id, table.c.name, table.c.source).where(table.c.project == project)
    with store.read() as conn:
        return {row.id: RaterName(row.id, row.name, row.source) for row in conn.execute(query)}


def _by_name(conn: Connection, project: str, name: str) -> RaterName | None:
    table = tables.raters
    query = select(table.c.id, table.c.name, table.c.source)
    row = conn.execute(query.where(table.c.project == project, table.c.name == name)).first()
    return RaterName(row.id, row.name, row.source) if row else None
