"""The promotion log, append-only and chained, and the one function that promotes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Connection, select

from burnish.errors import Refused, StoreError
from burnish.evaluation.gates import recheck
from burnish.records import Promotion, Record
from burnish.store import Store, append
from burnish.store.ledger import load_records, record_digest
from burnish.store.schema import lineage, promotions, records


@dataclass(frozen=True, slots=True)
class Listed:
    """A version and where it stands: it serves, served before, passed or failed its gate, or was never judged."""

    record: Record
    state: Literal["production", "former", "passed", "refused", "unjudged"]


def promote(store: Store, project: str, version: str, by: str) -> Promotion:
    """Let a version serve, if the newest verdict on that very version passed. Nothing else promotes.

    The verdict is read here and now, and not believed: its record must be what was written, name this version and no
    other, and each of its rules must hold again from its own figures. A version that serves already stays.

    Args:
        version: Its id or name.
        by: Who decides; kept in the log.

    Raises:
        Refused: There is no verdict on this version, or it does not hold.
        StoreError: There is no such version in this project.
    """
    record = store.record(version)
    if record.kind != "version" or record.project != project:
        raise StoreError(f'"{version}" is no version of {project}', mend="burnish models list shows them")
    if not by.strip():
        raise StoreError("a promotion names who decided", mend="give by")
    with store.write() as conn:
        verdict = _newest_verdict(conn, record)
        objection = _objection(conn, record, verdict)
        if objection is not None or verdict is None:
            raise Refused(
                f"{record.name or record.id} is not promoted: {objection}",
                where=None if verdict is None else verdict.id,
                mend="burnish models card says how it was judged; burnish run judges a new version",
            )
        stack = _stack(_log(conn, project))
        if stack and stack[-1] == record.id:
            return next(line for line in reversed(_log(conn, project)) if line.version == record.id)
        return _append(conn, project, "promote", record.id, stack[-1] if stack else None, verdict.id, by)


def rollback(store: Store, project: str, by: str) -> Promotion:
    """Let the version serve again that served before the present one; it passed its gate when it was promoted.

    Raises:
        Refused: No version served before.
    """
    if not by.strip():
        raise StoreError("a rollback names who decided", mend="give by")
    with store.write() as conn:
        log = _log(conn, project)
        stack = _stack(log)
        if len(stack) < 2:
            raise Refused("no version served before this one", mend="burnish history shows what served when")
        verdict = next(line.verdict for line in reversed(log) if line.version == stack[-2] and line.verdict)
        return _append(conn, project, "rollback", stack[-2], stack[-1], verdict, by)


def production(store: Store, project: str, at: datetime | None = None) -> Record | None:
    """The version that serves, or served at a time (without a zone: UTC); None while the base answers."""
    with store.read() as conn:
        stack = _stack(_log(conn, project, at))
        return load_records(conn, stack[-1:])[0] if stack else None


def history(store: Store, project: str, at: datetime | None = None) -> list[Promotion]:
    """The promotion log, oldest first, up to a time (without a zone: UTC)."""
    with store.read() as conn:
        return _log(conn, project, at)


def versions(store: Store, project: str) -> list[Listed]:
    """Every version of a project with where it stands, oldest first."""
    with store.read() as conn:
        log = _log(conn, project)
        serving = _stack(log)[-1:]
        promoted = {line.version for line in log}
        found = []
        every = select(records.c.id).where(records.c.project == project, records.c.kind == "version")
        for record in load_records(conn, conn.scalars(every)):
            verdict = _newest_verdict(conn, record)
            state: Literal["production", "former", "passed", "refused", "unjudged"]
            if record.id in serving:
                state = "production"
            elif record.id in promoted:
                state = "former"
            elif verdict is None:
                state = "unjudged"
            else:
                state = "passed" if _objection(conn, record, verdict) is None else "refused"
            found.append(Listed(record, state))
        return found


def _newest_verdict(conn: Connection, version: Record) -> Record | None:
    query = (
        select(records.c.id)
        .join(lineage, lineage.c.child == records.c.id)
        .where(lineage.c.parent == version.id, records.c.kind == "verdict", records.c.project == version.project)
        .order_by(records.c.sequence.desc())
        .limit(1)
    )
    found = load_records(conn, conn.scalars(query))
    return found[0] if found else None


def _objection(conn: Connection, version: Record, verdict: Record | None) -> str | None:
    """Why a verdict does not let this version serve; None where it does. Fails closed."""
    if verdict is None:
        return "there is no verdict on it"
    for record in (verdict, *load_records(conn, verdict.parents)):
        if record_digest(record.kind, record.key, record.body) != record.digest:
            return f"the record {record.id} is not what was written"
    body = verdict.body
    if body.get("candidate") != version.id:
        return "its verdict is about another version"
    if not body.get("rules"):
        return "its verdict has no rules"
    for rule in body["rules"]:
        wrong = recheck(rule)
        if wrong is not None or rule.get("passed") is not True:
            return rule["why"] if rule.get("passed") is not True else f"{rule['metric']}: {wrong}"
    return None if body.get("passed") is True else "its verdict is no"


def _log(conn: Connection, project: str, at: datetime | None = None) -> list[Promotion]:
    query = select(promotions).where(promotions.c.project == project).order_by(promotions.c.sequence)
    if at is not None:
        moment = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        query = query.where(promotions.c.created_at <= moment.isoformat(timespec="microseconds"))
    return [
        Promotion(
            sequence=row["sequence"],
            project=row["project"],
            action=row["action"],
            version=row["version"],
            previous=row["previous_version"],
            verdict=row["verdict"],
            by=row["by_whom"],
            created_at=row["created_at"],
        )
        for row in conn.execute(query).mappings()
    ]


def _stack(log: list[Promotion]) -> list[str]:
    """The versions that served, the present one last; a rollback takes one off, so that the next goes further back."""
    stack: list[str] = []
    for line in log:
        if line.action == "promote":
            stack.append(line.version)
        else:
            stack.pop()
    return stack


def _append(
    conn: Connection,
    project: str,
    action: Literal["promote", "rollback"],
    version: str,
    previous: str | None,
    verdict: str,
    by: str,
) -> Promotion:
    values = {"project": project, "action": action, "version": version, "previous_version": previous}
    append(conn, promotions, values | {"verdict": verdict, "by_whom": by})
    return _log(conn, project)[-1]
