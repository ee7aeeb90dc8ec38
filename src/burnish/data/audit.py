"""The supervision audit: what of each row is trained, before anything is.

A row that is cut off trains half an answer and no stop token; a row whose answer is cut off whole trains
nothing, and the run "succeeds". So a row longer than the limit is never cut: it is named and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.data.render import Renderer
from burnish.errors import DataError
from burnish.records import Json, Row

PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class RowAudit:
    """One row: the length of its prompt and of what is trained, and whether the stop token is trained.

    ``problem`` says why the row must be left out, ``odd`` what a person should know of it.
    """

    number: int
    prompt: int
    trained: int
    stop: bool
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
            "row": sorted(r.prompt + r.trained for r in self.rows),
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
            "odd": sum(r.odd is not None for r in good),
            "percentiles": self.percentiles(),
        }

    def lines(self) -> list[str]:
        """The audit for people: totals, then each row that is left out or odd (at most ten of each)."""
        totals = self.to_json()
        lengths = totals["percentiles"].get("row", {})
        said = [
            f"{totals['rows']} rows, {totals['left_out']} left out; "
            f"{totals['trained']} of {totals['total']} {self.unit} are trained "
            f"({totals['trained_share']:.0%}), {totals['stop_trained']} rows end with a trained stop token",
            f"length of a row in {self.unit}: half up to {lengths.get('p50', 0)}, "
            f"90 % up to {lengths.get('p90', 0)}, longest {lengths.get('p100', 0)}, limit {self.limit}",
        ]
        for rows in (
            [(r.number, r.problem) for r in self.bad],
            [(r.number, r.odd) for r in self.rows if r.odd],
        ):
            said += [f"row {number}: {why}" for number, why in rows[:10]]
            said += [f"and {len(rows) - 10} more"] if len(rows) > 10 else []
        return said


def audit(rows: Sequence[Row], renderer: Renderer | None, limit: int) -> Audit:
    """What would be trained of each row; ``limit`` is the longest row in tokens (data.max_length).

    Without a renderer lengths are counted in words, and nothing is left out for its length.
    """
    if renderer is None:
        return Audit("words", limit, tuple(_in_words(row) for row in rows))
    return Audit("tokens", limit, tuple(_in_tokens(row, renderer, limit) for row in rows))


def _in_words(row: Row) -> RowAudit:
    prompt = sum(len(m.content.split()) for m in row.prompt) + sum(len(d.text.split()) for d in row.documents)
    return RowAudit(row.number, prompt, len((row.answer or "").split()), stop=False)


def _in_tokens(row: Row, renderer: Renderer, limit: int) -> RowAudit:
    try:
        prompt = len(renderer.prompt(row.prompt, row.documents))
        answer = renderer.answer(row.answer) if row.answer is not None else []
        odd = renderer.mismatch(row.prompt, row.answer, row.documents) if row.answer is not None else None
    except DataError as error:
        return RowAudit(row.number, 0, 0, stop=False, problem=error.what)
    stop = bool(answer) and answer[-1] in renderer.stop_ids
    return RowAudit(row.number, prompt, len(answer), stop, _problem(prompt, len(answer), row.answer, limit), odd)


def _problem(prompt: int, trained: int, answer: str | None, limit: int) -> str | None:
    have = f"tokens, data.max_length is {limit}:"
    if prompt >= limit:
        return f"the prompt alone has {prompt} {have} its answer would be truncated away"
    if prompt + trained > limit:
        return f"{prompt + trained} {have} the last {prompt + trained - limit} of its answer would be cut off"
    if answer is not None and trained < 2:
        return "its answer has no token to train on"
    return None
