"""Whether everything is still what was written. Checks yield an entry per thing: None where it is sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from burnish.errors import StoreError
from burnish.store.blobs import Blobs, manifest
from burnish.store.chain import broken_links
from burnish.store.datasets import row_digest
from burnish.store.exchanges import exchange_digest
from burnish.store.hashing import file_digest, parse
from burnish.store.ledger import Ledger, record_digest, seal, work_key
from burnish.store.schema import (
    dataset_rows,
    erased_blobs,
    exchanges,
    lineage,
    promotions,
    record_blobs,
    records,
    texts,
    votes,
)
from burnish.store.texts import text_digest

Findings = Iterator[str | None]


@dataclass(frozen=True, slots=True)
class Verified:
    """One line per problem, the number of erased texts and blobs, and how many things were looked at."""

    problems: list[str]
    tombstones: int
    checked: int


def verify(ledger: Ledger) -> Verified:
    """Hash every blob, checkpoint, record, text, exchange, vote and promotion again and compare."""
    found: list[str | None] = []
    erased: set[str] = set()
    held: dict[str, str] = {}
    tombstones = 0
    try:
        with ledger.read() as conn:
            for check in (_file, _records, _texts, _rows, _exchanges, _chains):
                found += check(conn)
            tombstones = conn.scalar(select(func.count()).where(texts.c.erased_at.is_not(None))) or 0
            erased = set(conn.scalars(select(erased_blobs.c.digest)))
            held = _held(conn)
    except (StoreError, ValueError) as error:
        found.append(f"burnish.db cannot be read on: {error}")
    # outside the transaction: hashing takes long, and a long read keeps the write-ahead log
    found += _blobs(ledger.blobs, held, erased)
    found += _checkpoints(ledger.path / "runs")
    return Verified([problem for problem in found if problem], tombstones + len(erased), len(found))


def _file(conn: Connection) -> Findings:
    """What the database engine itself can see."""
    if conn.dialect.name == "sqlite":
        for row in conn.exec_driver_sql("PRAGMA integrity_check"):
            yield None if row[0] == "ok" else f"burnish.db: {row[0]}"
        for row in conn.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"{row[0]} row {row[1]}: it names a row of {row[2]} that is gone"


def _records(conn: Connection) -> Findings:
    digests = {row.id: row.digest for row in conn.execute(select(records.c.id, records.c.digest))}
    parents: dict[str, list[str]] = {}
    for child, parent in conn.execute(select(lineage.c.child, lineage.c.parent).order_by(lineage.c.position)):
        parents.setdefault(child, []).append(parent)
    rows = conn.execute(select(records).order_by(records.c.sequence)).mappings()
    for expected, row in enumerate(rows, 1):
        if row["sequence"] != expected:
            yield f"records: number {expected} is gone"
            break
        above = parents.get(row["id"], [])
        inputs = [digests.get(parent, "gone") for parent in above]
        try:
            settings, body = parse(row["settings"]), parse(row["body"])
        except ValueError:
            yield f"record {row['id']}: it is no JSON any more"
            continue
        key = work_key(row["kind"], row["stage"], row["stage_version"], settings, inputs, row["seed"], row["project"])
        if row["key"] != key or row["id"] != f"{row['kind']}-{key[:16]}":
            yield f"record {row['id']}: its key is not that of its inputs"
        elif row["digest"] != record_digest(row["kind"], key, body) or row["seal"] != seal(dict(row), above):
            yield f"record {row['id']}: the row is not what was written"
        else:
            yield None


def _texts(conn: Connection) -> Findings:
    for row in conn.execute(select(texts)):
        if row.erased_at is not None:
            bare = row.payload is None and row.salt is None and row.subject is None
            yield None if bare else f"text {row.id}: erased, yet something is left"
        elif row.payload is None or text_digest(row.salt, row.payload, row.subject, row.case) != row.digest:
            yield f"text {row.id}: it is not what was written"
        else:
            yield None


def _rows(conn: Connection) -> Findings:
    query = select(dataset_rows, texts.c.digest.label("text_digest")).join(texts, texts.c.id == dataset_rows.c.text_id)
    for row in conn.execute(query).mappings():
        sound = row_digest(dict(row), row["text_digest"]) == row["digest"]
        place = f"{row['dataset']} {row['split']} row {row['position']}"
        yield None if sound else f"{place}: it is not what was written"


def _exchanges(conn: Connection) -> Findings:
    query = select(exchanges, texts.c.digest.label("text_digest"), texts.c.subject.label("whose"))
    for row in conn.execute(query.join(texts, texts.c.id == exchanges.c.text_id)).mappings():
        sound = exchange_digest(dict(row), row["text_digest"]) == row["digest"] and row["whose"] == row["subject"]
        yield None if sound else f"exchange {row['id']}: it is not what was written"


def _chains(conn: Connection) -> Findings:
    for table in (votes, promotions):
        yield from broken_links(conn, table)


def _held(conn: Connection) -> dict[str, str]:
    """Which record holds which blob, by the record's readable name."""
    joined = record_blobs.join(records, records.c.id == record_blobs.c.record)
    query = select(record_blobs.c.digest, records.c.name, records.c.id).select_from(joined)
    return {row.digest: row.name or row.id for row in conn.execute(query)}


def _blobs(blobs: Blobs, held: dict[str, str], erased: set[str]) -> Findings:
    wanted = dict(held)
    sound: set[str] = set()
    for path in blobs.all():
        if file_digest(path) == path.name:
            sound.add(path.name)
            yield None
            inside = manifest(path.read_bytes()) if path.stat().st_size < 1 << 20 else None
            for name, digest in (inside or {}).items():
                wanted[digest] = f"{wanted.get(path.name, 'a tree')} ({name})"
        else:
            wanted.setdefault(path.name, "no record")
    for digest, holder in sorted(wanted.items()):
        if digest not in sound and digest not in erased:
            state = "was changed on the disk" if blobs.path(digest).exists() else "is gone"
            yield f"blob {digest[:12]} of {holder} {state}"


def _checkpoints(runs: Path) -> Findings:
    for path in sorted(runs.rglob("checkpoint/manifest.json")):
        try:
            before = path.read_bytes()
            wrong = [name for name, digest in json.loads(before).items() if not _matches(path.parent / name, digest)]
            replaced = not path.exists() or path.read_bytes() != before
        except FileNotFoundError:
            continue  # a running stage has just replaced it
        except (ValueError, AttributeError):
            yield f"{path}: it is no manifest any more"
            continue
        yield None if replaced or not wrong else f"{path.parent}: {', '.join(wrong)} is not what was written"


def _matches(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest
