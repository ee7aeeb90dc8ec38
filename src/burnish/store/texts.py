"""Personal text: the only place that holds it, so that it can be taken away.

What is chained or hashed elsewhere is a text's salted digest. Erasing a text drops its payload and its salt;
the digest that stays says that something was there, and no guess can be checked against it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from burnish.records import Json
from burnish.store.hashing import canonical, digest_of, now, parse
from burnish.store.schema import texts

BATCH = 500  # variables in one statement; databases limit them


@dataclass(frozen=True, slots=True)
class TextRef:
    """Names a kept text; ``digest`` is salted."""

    id: str
    digest: str


@dataclass(frozen=True, slots=True)
class NewText:
    """A text to keep: any JSON, whose data it is, and the caller's id of the conversation."""

    payload: Json
    subject: str | None = None
    case: str | None = None


class Texts:
    """Adds and reads personal text."""

    def add(
        self,
        conn: Connection,
        project: str,
        payload: Json,
        subject: str | None = None,
        case: str | None = None,
    ) -> TextRef:
        """Keep one text. Give the ``subject`` wherever it is known: erasure finds the text by it."""
        return self.add_many(conn, project, [NewText(payload, subject, case)])[0]

    def add_many(self, conn: Connection, project: str, new: Sequence[NewText]) -> list[TextRef]:
        """Keep many texts with one statement; returns their references in order."""
        rows = [_row(project, text) for text in new]
        if rows:
            conn.execute(insert(texts), rows)
        return [TextRef(str(row["id"]), str(row["digest"])) for row in rows]

    def get(self, conn: Connection, ids: Iterable[str]) -> dict[str, Json | None]:
        """The payloads by id, in the order asked for; None where the text was erased, nothing for an unknown id."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Json | None] = {}
        for start in range(0, len(wanted), BATCH):
            query = select(texts.c.id, texts.c.payload).where(texts.c.id.in_(wanted[start : start + BATCH]))
            for row in conn.execute(query):
                found[row.id] = None if row.payload is None else parse(row.payload)
        return {id: found[id] for id in wanted if id in found}


def text_digest(salt: str, payload: str, subject: str | None, case: str | None) -> str:
    """The salted digest of a text as it lies in its row."""
    return digest_of([salt, payload, subject, case])


def _row(project: str, text: NewText) -> dict[str, str | None]:
    salt, payload = secrets.token_hex(16), canonical(text.payload)
    return {
        "id": secrets.token_hex(16),
        "project": project,
        "subject": text.subject,
        "case": text.case,
        "salt": salt,
        "digest": text_digest(salt, payload, text.subject, text.case),
        "payload": payload,
        "created_at": now(),
        "erased_at": None,
    }
