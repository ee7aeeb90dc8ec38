"""Records and their lineage: what was made, from what, and whether it needs to be made again."""

from __future__ import annotations

import difflib
import functools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, or_, select

from burnish.config import host
from burnish.errors import StoreError
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.store.blobs import Blobs, digests_in
from burnish.store.database import Database, explained
from burnish.store.hashing import canonical, digest_of, now, parse
from burnish.store.schema import lineage, record_blobs, records
from burnish.store.texts import BATCH

LIBRARIES = ("burnish", "torch", "transformers", "tokenizers", "numpy", "safetensors")
BEGUN = "work.json"  # in a work's folder: what was begun there
SEALED = tuple(column.name for column in records.columns if column.name != "seal")


@dataclass(frozen=True)
class Work:
    """What a stage is about to do. Equal works have equal keys, and are done once.

    ``version`` is the integer in the stage's file, raised when its code gives another result; ``settings`` is
    its resolved section of the recipe; ``parents`` are its inputs, of which the content counts.
    """

    kind: str
    stage: str
    version: int
    settings: Mapping[str, Json]
    parents: tuple[Record, ...]
    seed: int
    project: str

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 over everything that went in."""
        inputs = [parent.digest for parent in self.parents]
        return work_key(self.kind, self.stage, self.version, self.settings, inputs, self.seed, self.project)

    @property
    def id(self) -> str:
        """The id that the record will have."""
        return f"{self.kind}-{self.key[:16]}"


def work_key(kind: str, stage: str, version: int, settings: Json, inputs: list[str], seed: int, project: str) -> str:
    """SHA-256 over what went into a record; ``inputs`` are the parents' digests in order."""
    return digest_of([kind, stage, version, settings, inputs, seed, project])


def record_digest(kind: str, key: str, body: Json) -> str:
    """SHA-256 over what a record says and, through its key, over all that it came from."""
    return digest_of([kind, key, body])


def seal(row: Mapping[str, Any], parents: Iterable[str]) -> str:
    """SHA-256 over the whole row, time and name included: what ``verify`` compares."""
    return digest_of([{name: row[name] for name in SEALED}, list(parents)])


@dataclass(frozen=True, slots=True)
class Lineage:
    """A record with everything that it came from and everything that came from it, oldest first."""

    record: Record
    ancestors: tuple[Record, ...]
    descendants: tuple[Record, ...]


class Ledger(Database):
    """Finds, makes and reads records."""

    blobs: Blobs

    def find(self, work: Work) -> Record | None:
        """The finished record of this work, if there is one."""
        with self.read() as conn:
            return _by_key(conn, work)

    def once(
        self,
        work: Work,
        make: Callable[[], Mapping[str, Json]],
        name: str | None = None,
        progress: Progress | None = None,
        within: Callable[[Connection], None] | None = None,
    ) -> Record:
        """The record of this work: the finished one, else what ``make`` returns as its body.

        ``make`` runs outside any transaction; then record, lineage and what ``within`` writes are committed
        together. A version without a ``name`` gets the next of its project. ``progress`` hears why a stage
        that was done before runs again.

        Raises:
            StoreError: The disk is full, the name is taken, or the body holds what JSON cannot.
        """
        self.require_no_write()
        done = self.find(work)
        if done is not None:
            return done
        why = self.why_again(work)
        if progress is not None and why:
            progress.say(why)
        body = canonical(make())
        with self.write() as conn:
            done = _by_key(conn, work)  # another process may have been faster
            if done is None:
                self._insert(conn, work, body, name)
                if within is not None:
                    within(conn)
                done = _by_key(conn, work)
        assert done is not None
        return done

    def why_again(self, work: Work) -> str | None:
        """Why a stage that ran or was begun before has to run again, in one line; None where it never was."""
        begun = self._begun(work)
        if begun is not None and begun["key"] == work.key:
            return None  # it goes on where it was interrupted
        query = (
            select(records)
            .where(records.c.project == work.project, records.c.kind == work.kind, records.c.stage == work.stage)
            .order_by(records.c.sequence.desc())
            .limit(1)
        )
        with self.read() as conn:
            last = conn.execute(query).mappings().first()
            inputs = _parents(conn, [last["id"]]).get(last["id"], ()) if last else ()
        if begun is not None and (last is None or begun["at"] > last["created_at"]):
            why = _reasons(work, begun["settings"], begun["stage_version"], tuple(begun["inputs"]), begun["seed"])
            return f"{work.stage} begins anew, its interrupted run is left: {why}"
        if last is None:
            return None
        why = _reasons(work, parse(last["settings"]), last["stage_version"], inputs, last["seed"])
        return f"{work.stage} runs again: {why}"

    def begin(self, work: Work) -> Path:
        """The work's folder, with a note of what was begun there: a run with other settings can then say so."""
        folder = self.work_folder(work)
        if not (folder / BEGUN).exists():
            note = {
                "key": work.key,
                "project": work.project,
                "stage": work.stage,
                "stage_version": work.version,
                "settings": dict(work.settings),
                "inputs": [parent.id for parent in work.parents],
                "seed": work.seed,
                "at": now(),
            }
            with explained(folder):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{BEGUN}.new").write_text(canonical(note), encoding="utf-8")
                (folder / f"{BEGUN}.new").replace(folder / BEGUN)
        return folder

    def _begun(self, work: Work) -> dict[str, Any] | None:
        """The note of the stage's latest run that was begun and not finished."""
        notes = [parse(path.read_text(encoding="utf-8")) for path in self.path.glob(f"runs/*/{BEGUN}")]
        with self.read() as conn:
            finished = set(conn.scalars(select(records.c.key).where(records.c.project == work.project)))
        same = [n for n in notes if (n["project"], n["stage"]) == (work.project, work.stage)]
        return max((n for n in same if n["key"] not in finished), key=lambda n: str(n["at"]), default=None)

    def work_folder(self, work: Work) -> Path:
        """Where a stage keeps checkpoints and its log while it runs; it stays after the run."""
        return self.path / "runs" / work.key[:16]

    def record(self, id_or_name: str) -> Record:
        """A record by id, by an id's unique beginning, or by name.

        Raises:
            StoreError: None or several fit; the message names near ones.
        """
        with self.read() as conn:
            exact = or_(records.c.id == id_or_name, records.c.name == id_or_name)
            found = _load(conn, exact)
            if not found and id_or_name:
                found = _load(conn, records.c.id.startswith(id_or_name, autoescape=True))
            if len(found) == 1:
                return found[0]
            known = [text for row in conn.execute(select(records.c.name, records.c.id)) for text in row if text]
        if found:
            several = ", ".join(record.id for record in found[:5])
            raise StoreError(f'"{id_or_name}" fits {len(found)} records', mend=f"say more: {several}")
        near = difflib.get_close_matches(id_or_name, known, n=3, cutoff=0.4)
        mend = f"did you mean {' or '.join(near)}?" if near else "burnish models lists what there is"
        raise StoreError(f'there is no record "{id_or_name}"', where=str(self.path), mend=mend)

    def records(self, project: str, kind: str | None = None) -> list[Record]:
        """The records of a project, oldest first."""
        with self.read() as conn:
            which = records.c.project == project
            return _load(conn, which if kind is None else which & (records.c.kind == kind))

    def projects(self) -> list[str]:
        """Every project that has a record."""
        with self.read() as conn:
            return list(conn.scalars(select(records.c.project).distinct().order_by(records.c.project)))

    def parents(self, id: str) -> list[Record]:
        """The inputs of a record, in the order in which it names them."""
        with self.read() as conn:
            order = _parents(conn, [id]).get(id, ())
            found = {record.id: record for record in _load(conn, records.c.id.in_(order))}
            return [found[parent] for parent in order]

    def children(self, id: str) -> list[Record]:
        """What was made directly from a record, oldest first."""
        with self.read() as conn:
            return _load(conn, records.c.id.in_(select(lineage.c.child).where(lineage.c.parent == id)))

    def lineage(self, id_or_name: str) -> Lineage:
        """A record and, both ways, everything that it is connected with.

        Raises:
            StoreError: There is no such record.
        """
        record = self.record(id_or_name)
        with self.read() as conn:
            above = reach(conn, [record.id], upwards=True)
            below = reach(conn, [record.id], upwards=False)
            return Lineage(record, tuple(load_records(conn, above)), tuple(load_records(conn, below)))

    def made_with(self, id: str) -> dict[str, Json]:
        """How a record came about: ``stage``, ``stage_version``, ``seed``, ``settings`` and ``libraries``,
        the host's device and dtype among them."""
        with self.read() as conn:
            row = conn.execute(select(records).where(records.c.id == id)).mappings().one()
        plain = {name: row[name] for name in ("stage", "stage_version", "seed")}
        return plain | {name: parse(row[name]) for name in ("settings", "libraries")}

    def next_name(self, conn: Connection, project: str) -> str:
        """The name of the project's next version: ``support@0``, ``support@1``, ... in order of creation."""
        query = select(records.c.name).where(records.c.project == project, records.c.kind == "version")
        numbers = [int(name.rpartition("@")[2]) for name in conn.scalars(query) if name and _numbered(name, project)]
        return f"{project}@{max(numbers, default=-1) + 1}"

    def _insert(self, conn: Connection, work: Work, body: str, name: str | None) -> None:
        if name is None and work.kind == "version":
            name = self.next_name(conn, work.project)
        elif work.kind == "version" and not _numbered(str(name), work.project):
            raise StoreError(f'"{name}" is no version name', mend=f"versions are named {work.project}@NUMBER")
        if name is not None and conn.scalar(
            select(func.count()).where(records.c.project == work.project, records.c.name == name)
        ):
            raise StoreError(f'the name "{name}" is taken', mend="names are given once; choose another")
        parents = [parent.id for parent in work.parents]
        row: dict[str, Any] = {
            "sequence": (conn.scalar(select(func.max(records.c.sequence))) or 0) + 1,
            "id": work.id,
            "kind": work.kind,
            "stage": work.stage,
            "stage_version": work.version,
            "project": work.project,
            "key": work.key,
            "name": name,
            "seed": work.seed,
            "settings": canonical(work.settings),
            "body": body,
            "libraries": canonical(libraries() | host.described()),
            "digest": record_digest(work.kind, work.key, parse(body)),
            "created_at": now(),
        }
        conn.execute(insert(records).values(**row, seal=seal(row, parents)))
        for position, parent in enumerate(parents):
            conn.execute(insert(lineage).values(child=work.id, parent=parent, position=position))
        held = {digest for digest in digests_in(parse(body)) if self.blobs.path(digest).exists()}
        for digest in sorted(held):
            conn.execute(insert(record_blobs).values(record=work.id, digest=digest))


def reach(conn: Connection, ids: Iterable[str], upwards: bool) -> set[str]:
    """The ids of all ancestors (or descendants) of ``ids``, without ``ids`` themselves."""
    start = set(ids)
    here, there = (lineage.c.child, lineage.c.parent) if upwards else (lineage.c.parent, lineage.c.child)
    seen: set[str] = set()
    edge = list(start)
    while edge:
        found: set[str] = set()
        for at in range(0, len(edge), BATCH):
            found |= set(conn.scalars(select(there).where(here.in_(edge[at : at + BATCH]))))
        edge = sorted(found - seen)
        seen |= found
    return seen - start


@functools.cache
def libraries() -> dict[str, str]:
    """The versions of what makes records, without importing any of it."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _reasons(work: Work, settings: Json, version: int, inputs: tuple[str, ...], seed: int) -> str:
    """What differs between a work and an earlier one of its stage: the first three reasons, and how many more."""
    reasons = list(changes(work.stage, work.stage, settings, parse(canonical(work.settings))))
    if version != work.version:
        reasons.append(f"the stage itself changed ({version} -> {work.version})")
    if inputs != tuple(parent.id for parent in work.parents):
        new = [parent.name or parent.id for parent in work.parents if parent.id not in inputs]
        reasons.append(f"new input {', '.join(new)}" if new else "its inputs changed")
    if seed != work.seed:
        reasons.append(f"seed changed {seed} -> {work.seed}")
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def changes(stage: str, at: str, old: Json, new: Json) -> Iterator[str]:
    """``sft.learning_rate changed 0.001 -> 0.0005`` for each setting that differs, in order of their names."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            # a table among a stage's settings is a table of the recipe, and called so
            table = at == stage and isinstance(new.get(name), dict)
            place = name if table else f"{at}.{name}"
            yield from changes(stage, place, old.get(name), new.get(name))
    elif old != new:
        yield f"{at} changed {_short(old)} -> {_short(new)}"


def _by_key(conn: Connection, work: Work) -> Record | None:
    found = _load(conn, (records.c.project == work.project) & (records.c.key == work.key))
    return found[0] if found else None


def load_records(conn: Connection, ids: Iterable[str]) -> list[Record]:
    """The records of these ids, oldest first."""
    wanted = sorted(ids)
    found: dict[str, Record] = {}
    for start in range(0, len(wanted), BATCH):
        found |= {record.id: record for record in _load(conn, records.c.id.in_(wanted[start : start + BATCH]))}
    return sorted(found.values(), key=lambda record: (record.created_at, record.id))


def _load(conn: Connection, which: Any) -> list[Record]:
    rows = list(conn.execute(select(records).where(which).order_by(records.c.sequence)).mappings())
    parents = _parents(conn, [row["id"] for row in rows])
    return [_record(row, parents.get(row["id"], ())) for row in rows]


def _record(row: RowMapping, parents: tuple[str, ...]) -> Record:
    return Record(
        id=row["id"],
        kind=row["kind"],
        project=row["project"],
        key=row["key"],
        parents=parents,
        body=parse(row["body"]),
        digest=row["digest"],
        created_at=row["created_at"],
        name=row["name"],
    )


def _parents(conn: Connection, ids: list[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(ids), BATCH):
        query = select(lineage.c.child, lineage.c.parent).where(lineage.c.child.in_(ids[start : start + BATCH]))
        for child, parent in conn.execute(query.order_by(lineage.c.child, lineage.c.position)):
            found[child] = (*found.get(child, ()), parent)
    return found


def _numbered(name: str, project: str) -> bool:
    front, _, number = name.rpartition("@")
    return front == project and number.isdecimal()


def _short(value: Json) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
