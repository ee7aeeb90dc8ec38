"""CSV as people have it: any of four delimiters, newlines inside quotes, ragged and broken rows.

The standard library's reader gives up the whole file at one broken quote; this one loses one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from burnish.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the file and its ``text``; ``fields`` is None where its quotes do not close."""

    number: int
    fields: list[str] | None
    text: str


def records(text: str, delimiter: str) -> Iterator[Line]:
    """Every record, blank ones too, numbered from 1 as a spreadsheet does (the header is row 1)."""
    quoted = re.compile(rf' *"((?:[^"]++|"")*+)" *(?={re.escape(delimiter)}|\r?\n|\r|\Z)')
    plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    newline = re.compile(r"\r\n|\n|\r|\Z")
    start, number = 0, 0
    while start < len(text):
        number += 1
        fields: list[str] | None = []
        at = start
        while fields is not None:
            match = quoted.match(text, at)
            if match:
                fields.append(match[1].replace('""', '"'))
            elif text[at : at + 1] == '"':
                fields, at = None, _line_end(text, start)
                break
            else:
                match = plain.match(text, at)
                assert match is not None  # it matches the empty string
                fields.append(match[0])
            at = match.end()
            if text[at : at + 1] != delimiter:
                break
            at += 1
        yield Line(number, fields, text[start:at])
        end = newline.match(text, at)
        start = end.end() if end and end.end() > at else len(text)


def _line_end(text: str, start: int) -> int:
    found = re.compile(r"[\r\n]|\Z").search(text, start)
    return found.start() if found else len(text)


def choose_delimiter(text: str, known: Callable[[list[str]], bool], where: str) -> str:
    """The one delimiter under which ``known`` recognises the header and the rows are as wide as it.

    Raises:
        DataError: There is none, or more than one.
    """
    headers = {d: next(records(text, d)).fields or [] for d in DELIMITERS}
    fitting = [d for d, header in headers.items() if known(header)]
    if fitting and max(map(len, headers.values())) == 1:
        return "\t"  # one column: a comma inside a text separates nothing
    if not fitting:
        widest = max(headers.values(), key=len)
        columns = ", ".join(f'"{name.strip()[:40]}"' for name in widest)
        hint = "the first row must name the columns, one of them prompt (or question, message) and one answer"
        if len(widest) == 1:
            hint += "; separate columns by a comma, semicolon, tab or bar"
        raise DataError(f"no known column in the header: {columns}", where=f"{where} row 1", mend=hint)
    likely = [d for d in fitting if _share(text, d, len(headers[d])) >= 0.5]
    names = " and ".join(DELIMITERS[d] for d in likely or fitting)
    if len(likely) > 1 or (not likely and len(fitting) > 1):
        raise DataError(
            f"the delimiter is ambiguous: the header can be read with {names}",
            where=f"{where} row 1",
            mend="quote the column names, or save the file with one delimiter",
        )
    chosen = (likely or fitting)[0]
    if not likely and _share(text, chosen, None) < 0.5:
        raise DataError(
            f"wrong delimiter: the header is separated by {names}, most rows are not",
            where=where,
            mend="save the file again with one delimiter for all rows",
        )
    return chosen


def _share(text: str, delimiter: str, width: int | None) -> float:
    """The share of the first 200 filled rows that have ``width`` fields (None: more than one); 1 without rows."""
    fits: list[bool] = []
    for line in records(text, delimiter):
        if line.number > 1 and line.text.strip():
            fields = line.fields or []
            fits.append(len(fields) > 1 if width is None else len(trimmed(fields, width)) == width)
        if len(fits) == 200:
            break
    return sum(fits) / len(fits) if fits else 1.0


def trimmed(fields: list[str], width: int) -> list[str]:
    """The fields without the empty ones that spreadsheets append beyond the header's width."""
    fields = list(fields)
    while len(fields) > width and not fields[-1].strip():
        fields.pop()
    return fields
