"""The supervision audit: what of each row is trained, before anything is.

A row that is cut off trains half an answer and no stop token; a row whose answer is cut off whole trains
nothing, and the run "succeeds". So a row longer than the limit is never cut: it is named and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.data.reasons import by_reason
from burnish.data.render import Renderer
from burnish.data.supervision import Supervision, TrainOn, supervision
from burnish.errors import DataError
from burnish.records import Json, Row

PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class RowAudit:
    """One row: how much of it is only read, how much is trained, and whether the stop token is trained.

    A row with two answers reads its prompt once and trains both. ``answers`` is how many are trained; ``longest`` the
    row's length, of two answers with the longer one. ``problem`` says why the row must be left out, ``odd`` what a
    person should know of it.
    """

    number: int
    prompt: int
    trained: int
    stop: bool
    answers: int = 1
    longest: int = 0
    problem: str | None = None
    odd: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of all rows. ``unit`` is "tokens", or "words" where there was no tokenizer to count with."""

    unit: Literal["tokens", "words"]
    limit: int
    rows: tuple[RowAudit, ...]

    @property
    def bad(self) -> tuple[RowAudit, ...]:
        """The rows that must be left out."""
        return tuple(row for row in self.rows if row.problem)

    def percentiles(self) -> dict[str, dict[str, int]]:
        """Nearest-rank percentiles of the lengths of ``prompt``, ``trained`` and ``row``."""
        lengths = {
            "prompt": sorted(r.prompt for r in self.rows),
            "trained": sorted(r.trained for r in self.rows),
            "row": sorted(r.longest for r in self.rows),
        }
        return {
            what: {f"p{p}": values[max(0, -(-len(values) * p // 100) - 1)] for p in PERCENTILES}
            for what, values in lengths.items()
            if values
        }

    def to_json(self) -> dict[str, Json]:
        """Totals for a record: counts and shares, no text."""
        good = [row for row in self.rows if not row.problem]
        trained, total = sum(r.trained for r in good), sum(r.trained + r.prompt for r in good)
        return {
            "unit": self.unit,
            "rows": len(self.rows),
            "left_out": len(self.rows) - len(good),
            "trained": trained,
            "total": total,
            "trained_share": round(trained / total, 4) if total else 0.0,
            "stop_trained": sum(r.stop for r in good),
            "answers": sum(r.answers for r in good if r.trained),
            "odd": sum(r.odd is not None for r in good),
            "percentiles": self.percentiles(),
        }

    def lines(self) -> list[str]:
        """The audit for people: totals, then why rows are left out or odd."""
        totals = self.to_json()
        lengths = totals["percentiles"].get("row", {})
        said = [
            f"{totals['rows']} rows, {totals['left_out']} left out; "
            f"{totals['trained']} of {totals['total']} {self.unit} are trained "
            f"({totals['trained_share']:.0%}) in {totals['answers']} answers, "
            f"{totals['stop_trained']} rows end with a trained stop token",
            f"length of a row in {self.unit}: half up to {lengths.get('p50', 0)}, "
            f"90 % up to {lengths.get('p90', 0)}, longest {lengths.get('p100', 0)}, limit {self.limit}",
        ]
        for rows in (
            [(r.number, r.problem) for r in self.bad if r.problem],
            [(r.number, r.odd) for r in self.rows if r.odd],
        ):
            said += by_reason(rows)
        return said


def audit(rows: Sequence[Row], renderer: Renderer | None, limit: int, train_on: TrainOn = "last") -> Audit:
    """What would be trained of each row; ``limit`` is the longest row in tokens (data.max_length).

    Without a renderer lengths are counted in words, and nothing is left out for its length.
    """
    if renderer is None:
        return Audit("words", limit, tuple(_in_words(row, train_on) for row in rows))
    return Audit("tokens", limit, tuple(_in_tokens(row, renderer, limit, train_on) for row in rows))


def _in_words(row: Row, train_on: TrainOn) -> RowAudit:
    said = [len(answer.split()) for answer in (row.answer, row.rejected) if answer is not None]
    earlier = [len(m.content.split()) for m in row.prompt if m.role == "assistant"]
    read = sum(len(m.content.split()) for m in row.prompt) + sum(len(d.text.split()) for d in row.documents)
    trained, answers, longest = sum(said), len(said), read + max(said, default=0)
    if said and train_on != "last":
        moved = read if train_on == "everything" else sum(earlier)
        read, trained, answers = read - moved, trained + moved, answers + len(earlier)
    return RowAudit(row.number, read, trained, False, answers, longest)


def _in_tokens(row: Row, renderer: Renderer, limit: int, train_on: TrainOn) -> RowAudit:
    try:
        if row.answer is None:
            prompt = len(renderer.prompt(row.prompt, row.documents))
            return RowAudit(row.number, prompt, 0, False, 0, prompt, _too_long(prompt, prompt, limit))
        found = supervision(row, renderer, train_on)
        odd = renderer.mismatch(row.prompt, row.answer, row.documents)
        other = renderer.answer(row.rejected) if row.rejected is not None else []
    except DataError as error:
        return RowAudit(row.number, 0, 0, stop=False, problem=error.what)
    trained = sum(weight > 0 for weight in found.weights)
    read = len(found.prompt) + len(found.ids) - trained
    stop = bool(found.weights[-1]) and found.ids[-1] in renderer.stop_ids
    longest = len(found.prompt) + max(len(found.ids), len(other))
    problem = _too_long(len(found.prompt), longest, limit) or _nothing_trained(row, found, trained)
    if found.unasked and odd is None:
        odd = f"{found.unasked} of its answers follow no user message and are not trained as answers"
    answers = found.answers + (row.rejected is not None)
    return RowAudit(row.number, read, trained + len(other), stop, answers, longest, problem, odd)


def _too_long(prompt: int, whole: int, limit: int) -> str | None:
    have = f"tokens, data.max_length is {limit}:"
    if prompt >= limit:
        return f"the prompt alone has {prompt} {have} its answer would be truncated away"
    if whole > limit:
        return f"{whole} {have} the last {whole - limit} of its answer would be cut off"
    return None


def _nothing_trained(row: Row, found: Supervision, trained: int) -> str | None:
    if len(found.ids) < 2:
        return "its answer has no token to train on"
    if trained == 0:
        return "every answer that would be trained has the weight 0"
    return None
