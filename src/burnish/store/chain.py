"""The chained logs, votes and promotions: each row holds the digest of the one before it in its project."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Float, Table, func, insert, select

from burnish.errors import StoreError
from burnish.store.hashing import digest_of, now
from burnish.store.schema import texts

LATER = frozenset({"criteria"})  # columns that a migration added: rows from before it were linked without them


def append(conn: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Add a row to ``votes`` or ``promotions`` and return its sequence.

    ``sequence``, ``previous`` and ``digest`` are filled in, and ``created_at`` where it is absent. Runs
    inside the caller's ``store.write()``, whose lock is what keeps the chain straight.

    Raises:
        StoreError: A value names no column, or is not a finite number.
        sqlalchemy.exc.IntegrityError: The idempotency key is taken, or a reference names nothing.
    """
    unknown = values.keys() - table.columns.keys()
    if unknown:
        raise StoreError(f"{table.name} has no {', '.join(sorted(unknown))}")
    row: dict[str, Any] = {column.name: values.get(column.name) for column in table.columns}
    row["created_at"] = row["created_at"] or now()
    for column in table.columns:
        if isinstance(column.type, Float) and row[column.name] is not None:
            row[column.name] = float(row[column.name])  # as the database gives it back, so that the digest holds
            if not math.isfinite(row[column.name]):
                raise StoreError(f"{table.name}.{column.name} is {row[column.name]}", mend="give a finite number")
    last = select(table.c.digest).where(table.c.project == row["project"]).order_by(table.c.sequence.desc()).limit(1)
    row["previous"] = conn.scalar(last)
    row["sequence"] = (conn.scalar(select(func.max(table.c.sequence))) or 0) + 1
    text = conn.scalar(select(texts.c.digest).where(texts.c.id == row["text_id"])) if row.get("text_id") else None
    row["digest"] = link(row, text)
    conn.execute(insert(table).values(row))
    return int(row["sequence"])


def link(row: Mapping[str, Any], text_digest: str | None) -> str:
    """The digest of a chained row: all its columns, and of its text the salted digest alone."""
    linked = {
        name: value for name, value in row.items() if name != "digest" and (value is not None or name not in LATER)
    }
    return digest_of([linked, text_digest])


def broken_links(conn: Connection, table: Table) -> Iterator[str | None]:
    """One entry per row: None, or a line where its content or its place is not what it was when written."""
    digests: dict[str, str] = {}
    if "text_id" in table.c:
        query = select(table.c.text_id, texts.c.digest).join(texts, texts.c.id == table.c.text_id)
        digests = {row.text_id: row.digest for row in conn.execute(query)}
    previous: dict[str, str] = {}
    rows = conn.execute(select(table).order_by(table.c.sequence)).mappings()
    for expected, row in enumerate(rows, 1):
        if row["sequence"] != expected:
            yield f"{table.name}: number {expected} is gone"
            return
        if link(dict(row), digests.get(row.get("text_id") or "")) != row["digest"]:
            yield f"{table.name} {row['sequence']}: the row is not what was written"
        elif row["previous"] != previous.get(row["project"]):
            yield f"{table.name} {row['sequence']}: it does not follow the row before it"
        else:
            yield None
        previous[row["project"]] = row["digest"]
