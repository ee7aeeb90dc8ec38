"""Forgetting a person: their text leaves the database, the files and the free space; tombstones stay.

A tombstone is a text's row without payload, salt, subject and case: the salted digest that is left keeps each
chain whole and says nothing. A model may remember what it was trained on, so the versions are listed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from burnish.records import Json
from burnish.store.blobs import sync_folder
from burnish.store.database import explained
from burnish.store.hashing import now, parse
from burnish.store.ledger import Ledger, load_records, reach
from burnish.store.lock import run_lock
from burnish.store.schema import (
    comparisons,
    dataset_rows,
    erased_blobs,
    exchanges,
    leases,
    raters,
    records,
    texts,
    votes,
)
from burnish.store.texts import BATCH

QUOTABLE = 12  # letters from which on a part of a text counts as a quotation of it
TELLING = 24  # letters from which on a text found in a blob cannot be there by chance
ERASED = "[erased]"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed: counts of texts, data rows, exchanges, votes on them, blobs and log lines.

    ``versions`` are the names of those made from data or votes that held the texts: they may remember them.
    """

    texts: int
    rows: int
    exchanges: int
    votes: int
    blobs: int
    lines: int
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Theirs:
    texts: list[str]
    rows: list[str]
    exchanges: list[str]
    votes: list[int]
    words: set[str]
    made: set[str]  # ids of the records that held them and of all that came from those


def forget(ledger: Ledger, project: str, subject: str) -> Forgotten:
    """Erase a subject from a project. What a killed call left undone, the next one does.

    Raises:
        StoreError: A run holds the store, or a long read keeps the write-ahead log.
    """
    with run_lock(ledger.path, "burnish forget"):
        with ledger.write() as conn:
            theirs = _theirs(conn, project, subject)
            made = load_records(conn, theirs.made)
            clean = set(conn.scalars(select(records.c.key))) - {record.key for record in made}
            blobs = [path for path in ledger.blobs.all() if _quotes(path, theirs.words)]
            known = set(conn.scalars(select(erased_blobs.c.digest)))
            for digest in {path.name for path in blobs} - known:
                conn.execute(insert(erased_blobs).values(digest=digest, erased_at=now()))
        with explained(ledger.path):
            for path in blobs:
                path.unlink(missing_ok=True)
            lines = _scrub_runs(ledger.path / "runs", {key[:16] for key in clean}, theirs.words, subject)
            _drop_copies(ledger.path)
        # last, so that a call that was killed before finds the texts again
        with ledger.write() as conn:
            theirs = _theirs(conn, project, subject)
            _bury(conn, project, subject, theirs)
        ledger.compact()
    return Forgotten(
        texts=len(theirs.texts),
        rows=len(theirs.rows),
        exchanges=len(theirs.exchanges),
        votes=len(theirs.votes),
        blobs=len(blobs),
        lines=lines,
        versions=tuple(record.name or record.id for record in made if record.kind == "version"),
    )


def _theirs(conn: Connection, project: str, subject: str) -> _Theirs:
    """Their texts: rows and exchanges that name them, votes about those, and what they wrote as a rater."""
    own = (texts.c.project == project) & (texts.c.subject == subject)
    owned = select(texts.c.id).where(own)
    answered = select(exchanges.c.id).where(exchanges.c.text_id.in_(owned))
    rated = select(raters.c.id).where(_named(project, subject))
    about = or_(votes.c.exchange.in_(answered), votes.c.other.in_(answered))
    said = select(votes.c.text_id).where(or_(about, votes.c.rater_id.in_(rated)))
    kept = list(conn.execute(select(texts).where(own | texts.c.id.in_(said), texts.c.erased_at.is_(None))))
    ids = [row.id for row in kept]
    cast = list(conn.execute(select(votes.c.sequence).where(about)))
    rows = list(conn.execute(select(dataset_rows.c.dataset).where(dataset_rows.c.text_id.in_(owned))))
    holders = {row.dataset for row in rows}
    if cast:
        first = min(row.sequence for row in cast)
        frozen = select(records.c.id, records.c.body).where(records.c.project == project, records.c.kind == "snapshot")
        holders |= {row.id for row in conn.execute(frozen) if parse(row.body).get("up_to", first) >= first}
    return _Theirs(
        texts=ids,
        rows=[row.dataset for row in rows],
        exchanges=list(conn.scalars(answered)),
        votes=[row.sequence for row in cast],
        words={word for row in kept for word in _words(parse(row.payload))},
        made=holders | reach(conn, holders, upwards=False),
    )


def _bury(conn: Connection, project: str, subject: str, theirs: _Theirs) -> None:
    bare = {"subject": None, "case": None}
    for part in _parts(theirs.exchanges):
        conn.execute(update(exchanges).where(exchanges.c.id.in_(part)).values(**bare))
        asked = or_(comparisons.c.a.in_(part), comparisons.c.b.in_(part))
        conn.execute(delete(leases).where(leases.c.comparison_id.in_(select(comparisons.c.id).where(asked))))
        conn.execute(update(comparisons).where(asked).values(votes_wanted=0, prompt_key=comparisons.c.id))
    for part in _parts(theirs.texts):
        gone = {**bare, "salt": None, "payload": None, "erased_at": now()}
        conn.execute(update(texts).where(texts.c.id.in_(part)).values(**gone))
    for id in list(conn.scalars(select(raters.c.id).where(_named(project, subject)))):
        conn.execute(update(raters).where(raters.c.id == id).values(name=f"erased-{id}"))


def _named(project: str, subject: str) -> ColumnElement[bool]:
    """A person who votes under the subject's id; a simulated rater is nobody."""
    return (raters.c.project == project) & (raters.c.name == subject) & (raters.c.source == "human")


def _words(payload: Json) -> Iterator[str]:
    """Every text in a payload that can be personal; a system prompt belongs to the recipe."""
    if isinstance(payload, str) and payload.strip():
        yield payload
    elif isinstance(payload, dict):
        if payload.get("role") == "system":
            return
        for name, item in payload.items():
            if name != "role":
                yield from _words(item)
    elif isinstance(payload, list):
        for item in payload:
            yield from _words(item)


def _quotes(path: Path, words: set[str]) -> bool:
    """Whether a file of text holds one of the longer ``words``, as it is or escaped as JSON."""
    with path.open("rb") as file:
        data = file.read(4096)
        if b"\0" in data:  # weights
            return False
        data += file.read()
    text = data.decode(errors="replace")
    for word in words:
        if len(word) < TELLING:
            continue
        if any(form in text for form in (word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1])):
            return True
    return False


def _scrub_runs(runs: Path, clean: set[str], words: set[str], subject: str) -> int:
    """Redact every log, and drop the working files of whatever saw the text or never finished."""
    changed = 0
    for path in sorted(runs.rglob("*")) if runs.exists() else []:
        if not path.is_file():
            continue
        if path.suffix == ".jsonl":
            changed += _redact(path, words | {subject})
        elif path.relative_to(runs).parts[0] not in clean:
            path.unlink()
    return changed


def _redact(path: Path, words: set[str]) -> int:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    fresh = [_redacted_line(line, words) for line in lines]
    changed = sum(old != new for old, new in zip(lines, fresh, strict=True))
    if changed:
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in fresh if line is not None)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    return changed


def _redacted_line(line: str, words: set[str]) -> str | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None  # half a line of a killed process: nobody can say what it holds
    fresh = _redacted(value, words)
    return line if fresh == value else json.dumps(fresh)


def _redacted(value: Json, words: set[str]) -> Json:
    if isinstance(value, str):
        return ERASED if any(_same(value, word) for word in words) else value
    if isinstance(value, dict):
        return {key: _redacted(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, words) for item in value]
    return value


def _same(said: str, word: str) -> bool:
    """Equal, or one quotes the other, as a log does that keeps the beginning of an answer."""
    if said == word:
        return True
    return (len(said) >= QUOTABLE and said in word) or (len(word) >= QUOTABLE and word in said)


def _drop_copies(path: Path) -> None:
    """Caches, judgements by the hash of a text, half-written blobs and copies made before a migration."""
    shutil.rmtree(path / "cache", ignore_errors=True)
    (path / "judgements.jsonl").unlink(missing_ok=True)
    shutil.rmtree(path / "blobs" / "partial", ignore_errors=True)
    for copy in path.glob("burnish.db.before-*"):
        copy.unlink()


def _parts(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
