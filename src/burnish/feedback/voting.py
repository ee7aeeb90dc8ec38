"""How a vote is taken: checked, bound to the answer's own version, chained, and acknowledged once it is on
the disk.

The idempotency key names the event: the same key with the same content is acknowledged again and stored once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, select

from burnish.errors import FeedbackError
from burnish.feedback.comparisons import left_side, undone
from burnish.feedback.marking import require_inside, require_marks
from burnish.records import Json, Mark, VoteKind
from burnish.store import Store, append
from burnish.store import schema as tables

LONGEST_KEY = 200
LONGEST_TEXT = 100_000
CONTENT = ("kind", "comparison_id", "exchange", "choice", "criteria", "value", "rater_id", "undo_of")

Seen = Literal["left", "right", "tie"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The acknowledgement of an event that is on the disk; ``duplicate``: it had been there before."""

    sequence: int
    duplicate: bool


def record_vote(
    store: Store,
    project: str,
    rater: str,
    kind: VoteKind,
    *,
    key: str,
    comparison: str | None = None,
    choice: Seen | None = None,
    exchange: str | None = None,
    value: float | None = None,
    text: str | None = None,
    marks: Sequence[Mark] | None = None,
    criteria: Mapping[str, Seen] | None = None,
    asked: Collection[str] = (),
) -> Receipt:
    """Keep one vote; when this returns, it is on the disk.

    ``compare`` takes ``comparison`` and ``choice``, the side as the rater saw it, and may take ``criteria``: the side
    by each of those that were ``asked`` for, or by some of them. The others take ``exchange``, and ``rating`` a
    ``value`` from 1 to 5, ``thumb`` a ``value`` of 1 or -1, ``edit`` the corrected answer as ``text``, ``span`` the
    errors found in it as ``marks``, none where it is right: characters (code points) of the answer as it is kept. A
    later rating, thumb, edit or marks of the same answer by the same rater replace the former ones.

    Args:
        rater: The rater's id; it decides whether the vote is a person's or simulated.
        asked: The recipe's criteria (feedback.criteria).
        key: Idempotency key, chosen by whoever sends the vote: 1 to 200 printable characters.

    Raises:
        FeedbackError: The vote does not fit its kind, names nothing that is there, corrects nothing, judges
            an item twice, or its key belongs to another vote. Nothing was kept.
    """
    _require_key(key)
    given = {"comparison": comparison, "choice": choice, "exchange": exchange, "value": value, "text": text}
    _require_fit(kind, **given, marks=marks)
    _require_criteria(kind, criteria or {}, asked)
    written = {"text": text} if text is not None else None if marks is None else {"marks": _plain(marks)}
    with store.write() as conn:
        source = _source(conn, project, rater)
        if kind == "compare":
            row = _compared(conn, project, rater, comparison or "", choice or "tie", criteria or {})
        else:
            row = _judged(store, conn, project, kind, exchange or "", value, text, marks)
        row |= {"project": project, "key": key, "kind": kind, "rater_id": rater, "source": source}
        earlier = _earlier(store, conn, row, written)
        if earlier is not None:
            return Receipt(earlier, duplicate=True)
        if kind == "compare":
            _require_first(conn, row)
            _end_lease(conn, row)
        if written is not None:
            subject, case = row.pop("subject"), row.pop("case")
            row["text_id"] = store.texts.add(conn, project, written, subject, case).id
        sequence = append(conn, tables.votes, row)
    return Receipt(sequence, duplicate=False)


def undo(store: Store, project: str, rater: str, *, key: str) -> Receipt:
    """Take back one's last vote, by a further event that says so; nothing is removed.

    Raises:
        FeedbackError: The rater has no vote, has taken the last one back already, or the key belongs to
            another event.
    """
    _require_key(key)
    table = tables.votes
    with store.write() as conn:
        source = _source(conn, project, rater)
        known = _by_key(conn, project, key)
        if known is not None:
            if known["undo_of"] is None or known["rater_id"] != rater:
                raise _taken(key)
            return Receipt(known["sequence"], duplicate=True)
        mine = (table.c.project == project) & (table.c.rater_id == rater) & table.c.undo_of.is_(None)
        newest = select(table).where(mine).order_by(table.c.sequence.desc()).limit(1)
        last = conn.execute(newest).mappings().first()
        if last is None:
            raise FeedbackError("there is no vote of yours to take back")
        if conn.scalar(undone().where(table.c.undo_of == last["sequence"])) is not None:
            raise FeedbackError("your last vote was taken back already", mend="vote again, or leave it so")
        row = {"project": project, "key": key, "kind": "undo", "rater_id": rater, "source": source}
        row |= {name: last[name] for name in ("comparison_id", "exchange", "version")}
        sequence = append(conn, table, row | {"undo_of": last["sequence"]})
    return Receipt(sequence, duplicate=False)


def _require_key(key: str) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise FeedbackError("a vote's key has 1 to 200 printable characters", mend="a random UUID will do")


def _require_fit(kind: str, **given: Any) -> None:
    wanted = {
        "compare": {"comparison", "choice"},
        "rating": {"exchange", "value"},
        "thumb": {"exchange", "value"},
        "edit": {"exchange", "text"},
        "span": {"exchange", "marks"},
    }.get(kind)
    if wanted is None:
        raise FeedbackError(f'"{kind}" is no kind of vote', mend="it is compare, rating, thumb, edit or span")
    present = {name for name, value in given.items() if value is not None}
    if present != wanted:
        needs, extra = sorted(wanted - present), sorted(present - wanted)
        what = f"needs {', '.join(needs)}" if needs else f"takes no {', '.join(extra)}"
        raise FeedbackError(f"a vote of kind {kind} {what}", mend=f"it takes {' and '.join(sorted(wanted))}")
    for name in ("comparison", "exchange"):
        if given[name] is not None and not isinstance(given[name], str):
            raise FeedbackError(f"the {name} is named by its id, a string")
    value, text = given["value"], given["text"]
    if kind == "compare" and given["choice"] not in ("left", "right", "tie"):
        raise FeedbackError("a comparison's choice is left, right or tie")
    allowed = (1, 2, 3, 4, 5) if kind == "rating" else (1, -1)
    if value is not None and (isinstance(value, bool) or value not in allowed):
        raise FeedbackError(f"a {kind} is one of {', '.join(map(str, allowed))}, not {value!r}")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise FeedbackError("the correction is empty", mend="write the answer as it should have been")
    if given["marks"] is not None:
        require_marks(given["marks"])
    if text is not None and len(text) > LONGEST_TEXT:
        raise FeedbackError(f"the correction is longer than {LONGEST_TEXT} characters")


def _require_criteria(kind: str, criteria: Mapping[str, str], asked: Collection[str]) -> None:
    if criteria and kind != "compare":
        raise FeedbackError(f"a vote of kind {kind} takes no criteria", mend="they belong to a comparison")
    for name, choice in criteria.items():
        if name not in asked:
            known = ", ".join(asked) or "none: the recipe has no feedback.criteria"
            raise FeedbackError(f"nobody was asked about {json.dumps(name)}", mend=f"the criteria are {known}")
        if choice not in ("left", "right", "tie"):
            raise FeedbackError(f"the choice by {json.dumps(name)} is left, right or tie", mend="or leave it out")


def _source(conn: Connection, project: str, rater: str) -> str:
    table = tables.raters
    source = conn.scalar(select(table.c.source).where(table.c.id == rater, table.c.project == project))
    if source is None:
        raise FeedbackError(f"there is no rater {rater} in {project}", mend="register the rater first")
    return str(source)


def _exchange(conn: Connection, project: str, id: str) -> RowMapping:
    table = tables.exchanges
    query = select(table.c.version, table.c.text_id, table.c.subject, table.c.case)
    row = conn.execute(query.where(table.c.id == id, table.c.project == project)).mappings().first()
    if row is None:
        raise FeedbackError(f"there is no answer {id} in {project}", mend="send the id that the answer came with")
    return row


def _compared(
    conn: Connection, project: str, rater: str, comparison: str, choice: Seen, criteria: Mapping[str, Seen]
) -> dict[str, Any]:
    table = tables.comparisons
    query = select(table.c.a, table.c.b).where(table.c.id == comparison, table.c.project == project)
    item = conn.execute(query).first()
    if item is None:
        raise FeedbackError(f"there is no comparison {comparison} in {project}", mend="ask for the next one")
    left = left_side(comparison, rater)
    side_of = {"left": left, "right": "b" if left == "a" else "a", "tie": "tie"}
    said = {name: side_of[side] for name, side in criteria.items()}
    return {
        "comparison_id": comparison,
        "exchange": item.a,
        "version": _exchange(conn, project, item.a)["version"],
        "other": item.b,
        "other_version": _exchange(conn, project, item.b)["version"],
        "choice": side_of[choice],
        "criteria": json.dumps(said, sort_keys=True) if said else None,
        "left_side": left,
    }


def _judged(
    store: Store,
    conn: Connection,
    project: str,
    kind: VoteKind,
    exchange: str,
    value: float | None,
    text: str | None,
    marks: Sequence[Mark] | None,
) -> dict[str, Any]:
    found = _exchange(conn, project, exchange)
    row: dict[str, Any] = {"exchange": exchange, "version": found["version"]}
    if kind not in ("edit", "span"):
        return row | {"value": value}
    said = store.texts.get(conn, [found["text_id"]])[found["text_id"]]
    if said is None:
        raise FeedbackError("the answer was erased", mend="there is nothing left to correct or to mark")
    if marks is not None:
        require_inside(marks, said["answer"])
    elif (text or "").strip() == said["answer"].strip():
        raise FeedbackError("the correction equals the answer", mend="give it a thumb up if it is right")
    return row | {"subject": found["subject"], "case": found["case"]}  # so that erasure finds what was written


def _plain(marks: Sequence[Mark]) -> list[Json]:
    return [[mark.start, mark.stop, mark.kind.strip()] for mark in marks]


def _earlier(store: Store, conn: Connection, row: dict[str, Any], written: Json) -> int | None:
    """The sequence of the event with this key, if it says the same; None where the key is new."""
    known = _by_key(conn, row["project"], row["key"])
    if known is None:
        return None
    if any(known[name] != row.get(name) for name in CONTENT):
        raise _taken(row["key"])
    if written is not None:
        kept = store.texts.get(conn, [known["text_id"]])[known["text_id"]]
        if kept is not None and kept != written:
            raise _taken(row["key"])
    return int(known["sequence"])


def _by_key(conn: Connection, project: str, key: str) -> RowMapping | None:
    table = tables.votes
    query = select(table).where(table.c.project == project, table.c.key == key)
    return conn.execute(query).mappings().first()


def _require_first(conn: Connection, row: dict[str, Any]) -> None:
    table = tables.votes
    query = select(table.c.sequence).where(
        table.c.comparison_id == row["comparison_id"],
        table.c.rater_id == row["rater_id"],
        table.c.kind == "compare",
        table.c.sequence.not_in(undone()),
    )
    if conn.scalar(query) is not None:
        raise FeedbackError("you have judged this comparison already", mend="take that vote back first")


def _end_lease(conn: Connection, row: dict[str, Any]) -> None:
    table = tables.leases
    mine = (table.c.comparison_id == row["comparison_id"]) & (table.c.rater_id == row["rater_id"])
    conn.execute(table.delete().where(mine))


def _taken(key: str) -> FeedbackError:
    return FeedbackError(f'the key "{key}" belongs to another vote', mend="give every vote a key of its own")
