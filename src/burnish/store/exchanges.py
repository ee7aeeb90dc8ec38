"""Answers as they were sampled, with the ids of prompt and answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select

from burnish.errors import StoreError
from burnish.records import Exchange, Json
from burnish.store.database import Database
from burnish.store.datasets import documents, messages
from burnish.store.hashing import canonical, digest_of, parse
from burnish.store.schema import exchanges, texts
from burnish.store.texts import BATCH, Texts

CHAINED = (
    "id",
    "project",
    "version",
    "purpose",
    "text_id",
    "delivery",
    "finish_reason",
    "settings",
    "latency_ms",
    "prompt_tokens",
    "answer_tokens",
    "created_at",
)


class Exchanges:
    """Adds and reads exchanges."""

    def __init__(self, database: Database, kept: Texts) -> None:
        self._database, self._texts = database, kept

    def add(self, conn: Connection, exchange: Exchange) -> None:
        """Keep an exchange.

        Raises:
            sqlalchemy.exc.IntegrityError: The id is taken, or ``version`` names no record.
        """
        text = {
            "prompt": [asdict(message) for message in exchange.prompt],
            "answer": exchange.answer,
            "prompt_ids": list(exchange.prompt_ids),
            "answer_ids": list(exchange.answer_ids),
            "logprobs": [float(value) for value in exchange.logprobs],
            "documents": [asdict(document) for document in exchange.documents],
        }
        ref = self._texts.add(conn, exchange.project, text, exchange.subject, exchange.case)
        row: dict[str, Any] = {
            "id": exchange.id,
            "project": exchange.project,
            "version": exchange.version,
            "purpose": exchange.purpose,
            "text_id": ref.id,
            "subject": exchange.subject,
            "case": exchange.case,
            "delivery": exchange.delivery,
            "finish_reason": exchange.finish_reason,
            "settings": canonical(exchange.settings),
            "latency_ms": None if exchange.latency_ms is None else float(exchange.latency_ms),
            "prompt_tokens": len(exchange.prompt_ids),
            "answer_tokens": len(exchange.answer_ids),
            "created_at": exchange.created_at,
        }
        conn.execute(insert(exchanges).values(**row, digest=exchange_digest(row, ref.digest)))

    def get(self, id: str) -> Exchange:
        """One exchange.

        Raises:
            StoreError: There is none of that id, or its text was erased.
        """
        found = self.many([id])
        if id not in found:
            raise StoreError(f"there is no exchange {id}", mend="it was never stored, or it was erased")
        return found[id]

    def many(self, ids: Iterable[str]) -> dict[str, Exchange]:
        """Exchanges by id; those that were erased or never stored are left out."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Exchange] = {}
        with self._database.read() as conn:
            for start in range(0, len(wanted), BATCH):
                query = _kept().where(exchanges.c.id.in_(wanted[start : start + BATCH]))
                found |= {row["id"]: _exchange(row) for row in conn.execute(query).mappings()}
        return {id: found[id] for id in wanted if id in found}

    def recent(self, project: str, limit: int, purpose: str | None = None) -> list[Exchange]:
        """The newest exchanges of a project, newest first."""
        query = _kept().where(exchanges.c.project == project)
        if purpose is not None:
            query = query.where(exchanges.c.purpose == purpose)
        query = query.order_by(exchanges.c.created_at.desc(), exchanges.c.id).limit(limit)
        with self._database.read() as conn:
            return [_exchange(row) for row in conn.execute(query).mappings()]


def exchange_digest(row: Mapping[str, Any], text_digest: str) -> str:
    """The digest of an exchange's row, with its text's salted digest for what was said and by whom."""
    return digest_of([{name: row[name] for name in CHAINED}, text_digest])


def _kept() -> Select[Any]:
    joined = exchanges.join(texts, texts.c.id == exchanges.c.text_id)
    return select(exchanges, texts.c.payload).select_from(joined).where(texts.c.payload.is_not(None))


def _exchange(row: RowMapping) -> Exchange:
    text: dict[str, Json] = parse(row["payload"])
    return Exchange(
        id=row["id"],
        project=row["project"],
        version=row["version"],
        purpose=row["purpose"],
        prompt=messages(text["prompt"]),
        answer=text["answer"],
        prompt_ids=tuple(text["prompt_ids"]),
        answer_ids=tuple(text["answer_ids"]),
        logprobs=tuple(text["logprobs"]),
        finish_reason=row["finish_reason"],
        created_at=row["created_at"],
        documents=documents(text["documents"]),
        subject=row["subject"],
        case=row["case"],
        delivery=row["delivery"],
        settings=parse(row["settings"]),
        latency_ms=row["latency_ms"],
    )
