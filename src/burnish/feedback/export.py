"""Votes as a file: one JSON object a line, with what was asked, what was said, and whose vote it is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from burnish.errors import FeedbackError
from burnish.feedback.votes import votes
from burnish.records import Exchange, Json, Vote
from burnish.store import Store


def export_votes(store: Store, project: str, path: Path) -> int:
    """Write the votes that stand as JSONL and return their number; the file is whole or not there.

    A comparison holds ``answer_a``, ``answer_b``, ``choice`` and ``criteria``, the choice by each; the other kinds
    hold ``answer`` and ``value``, ``text`` or ``spans``, which data files may hold in the same form. Every row holds
    ``source``, so people's votes and simulated ones stay told apart; raters appear by id. Votes on erased answers are
    left out.

    Raises:
        FeedbackError: The folder is not there, or the file cannot be written.
    """
    kept = votes(store, project)
    texts = store.exchanges.many(id for vote in kept for id in (vote.exchange, vote.other) if id)
    rows = [_row(vote, texts) for vote in kept if vote.exchange in texts and (vote.other or vote.exchange) in texts]
    whole = path.with_name(path.name + ".part")
    try:
        with whole.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise FeedbackError(f"cannot write: {error.strerror}", where=str(path)) from error
    return len(rows)


def _row(vote: Vote, texts: dict[str, Exchange]) -> dict[str, Json]:
    said = texts[vote.exchange]
    row: dict[str, Json] = {
        "sequence": vote.sequence,
        "kind": vote.kind,
        "source": vote.source,
        "rater": vote.rater,
        "created_at": vote.created_at,
        "prompt": [asdict(message) for message in said.prompt],
        "version": vote.version,
    }
    if vote.kind == "compare" and vote.other:
        other = {
            "answer_a": said.answer,
            "answer_b": texts[vote.other].answer,
            "other_version": vote.other_version,
        }
        said_here = {"choice": vote.choice, "criteria": dict(vote.criteria), "left": vote.left}
        return row | other | said_here | {"comparison": vote.comparison}
    spans = vote.marks and [{"start": mark.start, "end": mark.stop, "type": mark.kind} for mark in vote.marks]
    said_row = {"answer": said.answer, "value": vote.value, "text": vote.text, "spans": spans}
    return row | {name: value for name, value in said_row.items() if value is not None}
