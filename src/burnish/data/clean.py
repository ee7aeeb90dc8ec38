"""Duplicates, near-duplicates and contradictions.

Two prompts are near when one shares over half of its 5-word shingles with the other (Broder 1997, "On the
resemblance and containment of documents"). Only what people wrote counts: a system prompt or a document that
all rows share makes no two rows alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from burnish.data.read import Dropped
from burnish.records import Row

WIDTH = 5  # words in a shingle
NEAR = 0.5


def asked(row: Row) -> str:
    """What the user wrote in the prompt."""
    return "\n".join(m.content for m in row.prompt if m.role == "user")


def shingles(text: str) -> tuple[str, ...]:
    """The distinct runs of five words, in order, without case and punctuation; a short text is one."""
    words = re.findall(r"\w+", text.casefold()) or [text.strip()]
    runs = (" ".join(words[i : i + WIDTH]) for i in range(max(1, len(words) - WIDTH + 1)))
    return tuple(dict.fromkeys(runs))


class Index:
    """Prompts that can be asked for those that hold over half of another's shingles."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows: list[Row] = []
        self._sets: list[frozenset[str]] = []
        self._places: dict[str, list[int]] = defaultdict(list)
        self._known: set[frozenset[str]] = set()
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Take the row's prompt in; equal prompts are kept once."""
        parts = frozenset(shingles(asked(row)))
        if parts in self._known:
            return
        self._known.add(parts)
        for part in parts:
            self._places[part].append(len(self.rows))
        self._sets.append(parts)
        self.rows.append(row)

    def near(self, row: Row, skip: Callable[[Row], bool] | None = None) -> Iterator[Row]:
        """The rows that hold over half of this row's shingles, without those to ``skip``.

        Such a row holds at least one of any half of the shingles, so only those with one of the rarest half
        are compared: text that all rows share costs nothing.
        """
        parts = shingles(asked(row))
        rarest = sorted(parts, key=lambda p: len(self._places.get(p, ())))[: (len(parts) + 1) // 2]
        whole = frozenset(parts)
        tried: set[int] = set()
        for part in rarest:
            for place in self._places.get(part, ()):
                if place in tried or (skip and skip(self.rows[place])):
                    continue
                tried.add(place)
                if len(whole & self._sets[place]) > NEAR * len(whole):
                    yield self.rows[place]

    def twin(self, row: Row) -> int | None:
        """The number of a row that holds over half of this row's shingles, None where there is none."""
        return next((found.number for found in self.near(row)), None)


def without_duplicates(rows: Sequence[Row], where: str = "") -> tuple[list[Row], list[Dropped]]:
    """The rows without those that repeat the prompt and the answer (or the preference) of an earlier one."""
    first: dict[object, int] = {}
    kept: list[Row] = []
    dropped: list[Dropped] = []
    for row in rows:
        said = (row.rejected, row.label, row.marks if where == "preferences" else None)  # two people mark otherwise
        key = (row.prompt, row.answer, said, tuple(d.text for d in row.documents))
        if key in first:
            dropped.append(Dropped(row.number, f"repeats row {first[key]}", where=where))
        else:
            first[key] = row.number
            kept.append(row)
    return kept, dropped


def contradictions(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Pairs of row numbers whose prompts are equal or nearly so and whose answers have little in common.

    Nearly: each of the two prompts, and of the two last questions, holds over half of the other's shingles. Little: the
    answers do not hold over half of each other's. A row is paired with the first that it contradicts.
    """
    index = Index()
    alike: dict[frozenset[str], list[Row]] = defaultdict(list)  # an index keeps equal prompts once
    found: list[tuple[int, int]] = []
    for row in rows:
        if row.answer is None:
            continue
        others = (other for known in index.near(row) for other in alike[frozenset(shingles(asked(known)))])
        against = next((other for other in others if _contradict(row, other)), None)
        if against is not None:
            found.append((against.number, row.number))
        index.add(row)
        alike[frozenset(shingles(asked(row)))].append(row)
    return found


def _contradict(row: Row, other: Row) -> bool:
    documents = [[d.text for d in r.documents] for r in (row, other)]
    systems = [[m.content for m in r.prompt if m.role == "system"] for r in (row, other)]
    if documents[0] != documents[1] or systems[0] != systems[1]:
        return False
    questions = _resemble(asked(row), asked(other)) and _resemble(row.prompt[-1].content, other.prompt[-1].content)
    return questions and not _resemble(row.answer or "", other.answer or "")


def _resemble(a: str, b: str) -> bool:
    first, second = frozenset(shingles(a)), frozenset(shingles(b))
    return len(first & second) > NEAR * max(len(first), len(second))


def oddities(rows: Sequence[Row]) -> tuple[str, ...]:
    """What a person should look at: equal prompts with different answers, and prompts that nearly repeat."""
    by_prompt: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        by_prompt[(row.prompt, tuple(d.text for d in row.documents))].append(row)
    notes: list[str] = []
    several = [rows for rows in by_prompt.values() if len({r.answer for r in rows}) > 1]
    if several:
        pairs = ", ".join("/".join(str(r.number) for r in rows[:3]) for rows in several[:5])
        notes.append(
            f"equal prompts with different answers: {len(several)} (rows {pairs}{' ...' if several[5:] else ''})"
        )
    index = Index()
    near: list[int] = []
    for row in (rows[0] for rows in by_prompt.values()):
        if index.twin(row) is not None:
            near.append(row.number)
        index.add(row)
    if near:
        shown = ", ".join(map(str, near[:5])) + (" ..." if near[5:] else "")
        notes.append(f"prompts that nearly repeat another: {len(near)} (rows {shown})")
    return tuple(notes)


def opposed(rows: Sequence[Row]) -> tuple[str, ...]:
    """Preferences that another row says the other way round: which of two answers is better, whether one is good."""
    said: dict[object, int] = {}
    against: list[str] = []
    for row in rows:
        asked = (row.prompt, tuple(d.text for d in row.documents))
        other = (row.rejected, row.answer) if row.rejected is not None else (row.answer, not row.label)
        if (asked, other) in said:
            against.append(f"{said[asked, other]}/{row.number}")
        said[asked, (row.answer, row.label if row.rejected is None else row.rejected)] = row.number
    if not against:
        return ()
    return (f"preferences that contradict another: {len(against)} (rows {', '.join(against[:5])})",)
