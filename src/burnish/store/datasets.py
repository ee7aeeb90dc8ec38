"""Rows of data by dataset record and split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, exists, insert, select

from burnish.errors import StoreError
from burnish.records import Document, Json, Mark, Message, Row
from burnish.store.database import Database
from burnish.store.hashing import digest_of, parse
from burnish.store.schema import dataset_rows, records, texts
from burnish.store.texts import NewText, Texts

PLACED = ("dataset", "split", "position", "project", "text_id", "number")


class Datasets:
    """Adds and reads the rows of datasets."""

    def __init__(self, database: Database, kept: Texts) -> None:
        self._database, self._texts = database, kept
        self._sealed: frozenset[str] = frozenset()

    @contextmanager
    def sealed(self, *splits: str) -> Iterator[None]:
        """Within it, reading these splits is an error: what chooses settings must not have seen what judges them."""
        before, self._sealed = self._sealed, self._sealed | set(splits)
        try:
            yield
        finally:
            self._sealed = before

    def add(self, conn: Connection, dataset: str, split: str, rows: Sequence[Row]) -> None:
        """Write the rows of one split of the record ``dataset``, in the transaction that writes the record
        (``once(..., within=...)``), so that no dataset is ever listed without its rows.

        Raises:
            StoreError: There is no such record, or it has that split already; a dataset never changes.
        """
        project = conn.scalar(select(records.c.project).where(records.c.id == dataset))
        if project is None:
            raise StoreError(f"there is no dataset {dataset}", mend="add its rows with once(..., within=...)")
        if conn.scalar(select(exists().where(dataset_rows.c.dataset == dataset, dataset_rows.c.split == split))):
            raise StoreError(f"the split {split} of {dataset} is there", mend="changed rows are a new dataset")
        new = [NewText(_payload(row), row.subject, row.case) for row in rows]
        kept = self._texts.add_many(conn, project, new)
        lines = []
        for position, (ref, row) in enumerate(zip(kept, rows, strict=True)):
            line = {"dataset": dataset, "split": split, "position": position, "project": project}
            line |= {"text_id": ref.id, "number": row.number}
            lines.append(line | {"digest": row_digest(line, ref.digest)})
        if lines:
            conn.execute(insert(dataset_rows), lines)

    def rows(self, dataset: str, split: str) -> list[Row]:
        """The rows of a split in order, without those that were erased.

        Raises:
            StoreError: The split is sealed.
        """
        if split in self._sealed:
            raise StoreError(f"the {split} split is sealed here: what chooses settings cannot read it")
        query = (
            select(dataset_rows.c.number, texts.c.subject, texts.c.case, texts.c.payload)
            .join(texts, texts.c.id == dataset_rows.c.text_id)
            .where(dataset_rows.c.dataset == dataset, dataset_rows.c.split == split)
            .where(texts.c.payload.is_not(None))
            .order_by(dataset_rows.c.position)
        )
        with self._database.read() as conn:
            return [
                _row(payload, number, subject, case)
                for number, subject, case, text in conn.execute(query)
                for payload in [parse(text)]
            ]


def messages(items: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    """Messages from the JSON that ``asdict`` made of them."""
    return tuple(Message(**item) for item in items)  # type: ignore[arg-type]


def documents(items: Sequence[Mapping[str, str]]) -> tuple[Document, ...]:
    """Documents from the JSON that ``asdict`` made of them."""
    return tuple(Document(**item) for item in items)


def row_digest(row: Mapping[str, Any], text_digest: str) -> str:
    """The digest of a row's place, with its text's salted digest for what it says."""
    return digest_of([{name: row[name] for name in PLACED}, text_digest])


def _payload(row: Row) -> dict[str, Json]:
    """What a row says. What few rows have is left out where it is absent: older payloads read the same."""
    rare: dict[str, Json] = {
        "weights": list(row.weights) or None,
        "rejected": row.rejected,
        "margin": row.margin,
        "label": row.label,
        "marks": None if row.marks is None else [asdict(mark) for mark in row.marks],
    }
    return {
        "prompt": [asdict(message) for message in row.prompt],
        "answer": row.answer,
        "documents": [asdict(document) for document in row.documents],
        **{name: value for name, value in rare.items() if value is not None},
    }


def _row(payload: Mapping[str, Json], number: int, subject: str | None, case: str | None) -> Row:
    return Row(
        prompt=messages(payload["prompt"]),
        answer=payload["answer"],
        number=number,
        subject=subject,
        case=case,
        documents=documents(payload["documents"]),
        weights=tuple(payload.get("weights", ())),
        rejected=payload.get("rejected"),
        margin=payload.get("margin"),
        label=payload.get("label"),
        marks=tuple(Mark(**mark) for mark in payload["marks"]) if "marks" in payload else None,
    )
