"""Marked spans of an answer: reading them, and finding the tokens that they lie on."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from burnish.data.shapes import BadRow, normal, tidy
from burnish.feedback import overlap
from burnish.records import Json, Mark

FIELD = "spans"
KINDS = ("type", "errortype", "kind", "label")
SHAPE = 'write [{"start": 0, "end": 12, "type": "..."}, ...]: characters of the answer, the end not included'


def marks_of(value: Json, written: str) -> tuple[Mark, ...]:
    """The marks of an answer, at their places in the tidied text; ``written`` is the answer as it was given.

    Raises:
        BadRow: They are no list of spans, one of them has no type or does not lie in the answer, or two of one type
            overlap.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRow(f'"{FIELD}" is not a list of spans', SHAPE)
    found: list[Mark] = []
    for place, item in enumerate(value, 1):
        fields = {normal(str(name)): entry for name, entry in item.items()}
        start, end = fields.get("start"), fields.get("end")
        kind = next((fields[name] for name in KINDS if name in fields), None)
        if not isinstance(kind, str) or not kind.strip():
            raise BadRow(f"span {place} has no type", SHAPE)
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(written):
            what = f"span {place} is from {start!r} to {end!r}, and the answer has {len(written)} characters"
            raise BadRow(what, SHAPE)
        first, last = (_moved(at, written) for at in (start, end))
        if first < last:  # else it lay on white space that is not trained
            found.append(Mark(first, last, kind.strip()))
    both = overlap(found)
    if both is not None:
        one, other = both
        what = f'two spans of type "{one.kind}" overlap, at characters {other.start} to {min(one.stop, other.stop)}'
        raise BadRow(what, "make one span of them")
    return tuple(found)


def marked_kinds(offsets: Sequence[tuple[int, int]], marks: Sequence[Mark]) -> list[frozenset[str]]:
    """For each token the kinds of the marks that it shares a character with.

    ``offsets`` are the characters that each token stands for (`Renderer.offsets`); the stop token stands for none.
    """
    return [
        frozenset(mark.kind for mark in marks if start < mark.stop and mark.start < stop) for start, stop in offsets
    ]


def lightened(
    weight: float, offsets: Sequence[tuple[int, int]], marks: Sequence[Mark], shares: Mapping[str, float]
) -> list[float]:
    """The weight of each token: ``weight``, times the smallest of the shares of the kinds that mark it."""
    return [
        weight * min((shares[kind] for kind in kinds if kind in shares), default=1.0)
        for kinds in marked_kinds(offsets, marks)
    ]


def _moved(at: int, written: str) -> int:
    """Where a place in the written answer lies once it was tidied."""
    before = unicodedata.normalize("NFC", written[:at].replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", ""))
    return min(max(len(before) - _indent(written), 0), len(tidy(written)))


def _indent(written: str) -> int:
    """How many characters tidying takes off the front, once newlines and characters are composed."""
    whole = unicodedata.normalize("NFC", written.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", ""))
    return len(whole) - len(whole.lstrip())
