"""Files into tables: JSONL, JSON and CSV, with the line of whatever is wrong.

What is wrong with the file is an error at once; what is wrong with one row is told with its number and costs
that row alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.data import csvfile
from burnish.data.reader import Reader, Wanted
from burnish.data.reasons import by_reason
from burnish.data.shapes import BadRow, named, normal, recognised
from burnish.errors import DataError
from burnish.records import Json, Row

ROW_LIMIT = 200_000  # bytes of one row's text
CLEAN = ".clean.jsonl"  # the name of a cleaned copy ends so; its field "row" is the number in the original


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it stands in the file: its fields, or its text where it cannot even be taken apart."""

    number: int
    content: Json
    problem: BadRow | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A file taken apart, its rows not yet understood. ``digest`` is the SHA-256 of its bytes."""

    path: Path
    form: str
    columns: tuple[str, ...]
    raws: tuple[Raw, ...]
    odd: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is left out: its number, why, what to do about it, and the file or split it stood in."""

    number: int
    reason: str
    mend: str = ""
    where: str = ""

    def __str__(self) -> str:
        return f"row {self.number}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a file that can be used, those that cannot, and what is odd about the file.

    ``contents`` maps the number of every row to what stands in the file: its fields, or its text.
    """

    path: Path
    shape: str
    rows: tuple[Row, ...]
    dropped: tuple[Dropped, ...]
    odd: tuple[str, ...]
    columns: tuple[str, ...]
    unused: tuple[str, ...]
    contents: Mapping[int, Json]
    digest: str


def read_rows(path: Path, *, subject: str | None = None, wanted: Wanted = "answers") -> Reading:
    """The rows of ``path``, whatever common shape they have.

    Args:
        path: A JSONL, JSON or CSV file.
        subject: The column that says whose data a row is.
        wanted: "answers" (each row needs one), "prompts" (an answer is left out), or "preferences" (each row has a
            rejected answer or a label beside its answer).

    Raises:
        DataError: The file itself is wrong, or not one row of it can be used.
    """
    return understand(read_table(path), subject=subject, wanted=wanted)


def require_good(reading: Reading) -> None:
    """Stops where a row is bad: a run never trains on part of a file without saying so.

    Raises:
        DataError: Names the bad rows and why they are.
    """
    if reading.dropped:
        total = len(reading.rows) + len(reading.dropped)
        init = f", or let `burnish init --data {reading.path.name}` set them aside" if reading.rows[0].answer else ""
        raise DataError(
            f"{len(reading.dropped)} of {total} rows cannot be used\n{_listed(reading.dropped)}",
            where=str(reading.path),
            mend=f"mend or remove them{init}",
        )


def _listed(dropped: tuple[Dropped, ...] | list[Dropped]) -> str:
    lines = by_reason((d.number, f"{d.reason}; {d.mend}".rstrip("; ")) for d in dropped)
    return "\n".join(f"  {line}" for line in lines)


def understand(table: Table, *, subject: str | None = None, wanted: Wanted = "answers") -> Reading:
    """The table's rows by their shape; see `read_rows`."""
    where = str(table.path)
    if subject is not None and normal(subject) not in {normal(c) for c in table.columns}:
        raise DataError(
            f'data.subject names the column "{subject}", which is not there', where=where,
            mend=f"the columns are {named(table.columns)}",
        )  # fmt: skip
    raws = _original_numbers(table)
    reader = Reader(subject=subject, wanted=wanted)
    rows: list[Row] = []
    dropped: list[Dropped] = []
    for raw in raws:
        try:
            if raw.problem is not None:
                raise raw.problem
            rows.append(reader.row(raw.number, raw.content, ROW_LIMIT))
        except BadRow as bad:
            dropped.append(Dropped(raw.number, bad.reason, bad.mend, table.path.name))
    if not rows and not recognised(table.columns):
        raise DataError(
            f"unknown shape: no field is known as prompt or messages, only {named(table.columns)}",
            where=where,
            mend="name them messages, prompt and completion, instruction and output, or question and answer",
        )
    if not rows:
        bare = wanted == "answers" and any(lost.reason.startswith("no answer") for lost in dropped)
        hint = "bare prompts belong into data.prompts" if bare else "mend these rows, or name another file"
        raise DataError(f"no row can be used\n{_listed(dropped)}", where=where, mend=hint)
    return Reading(
        path=table.path,
        shape=f"{table.form}, {reader.described()}",
        rows=tuple(rows),
        dropped=tuple(dropped),
        odd=(*table.odd, *reader.odd()),
        columns=table.columns,
        unused=reader.unused(table.columns),
        contents={raw.number: raw.content for raw in raws},
        digest=table.digest,
    )


def _original_numbers(table: Table) -> tuple[Raw, ...]:
    """The rows of a clean copy under the numbers that they had in the file it was made from."""
    contents = [raw.content for raw in table.raws]
    numbers = [c["row"] for c in contents if isinstance(c, dict) and type(c.get("row")) is int]
    if not table.path.name.endswith(CLEAN) or len(set(numbers)) < len(contents):
        return table.raws
    return tuple(replace(raw, number=number) for raw, number in zip(table.raws, numbers, strict=True))


def read_table(path: Path) -> Table:
    """The file taken apart into rows of named fields.

    Raises:
        DataError: It is missing, empty, not UTF-8, holds a NUL, is of an unknown kind, is not JSON at some
            line, or is separated by an unclear delimiter.
    """
    kind = path.suffix.lower()
    readers = {".jsonl": _json, ".ndjson": _json, ".json": _json, ".csv": _csv, ".tsv": _csv}
    data = _bytes(path)
    if kind not in readers:
        raise DataError(
            f'files of the kind "{kind or path.name}" are not read', where=str(path),
            mend="save it as .jsonl, .json or .csv",
        )  # fmt: skip
    text, odd = _text(data, path)
    form, columns, raws = readers[kind](text, path)
    if not raws:
        raise DataError("the file holds no rows", where=str(path), mend="put at least one example into it")
    return Table(path, form, columns, tuple(raws), odd, hashlib.sha256(data).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else f"cannot be read: {error}"
        raise DataError(reason, where=str(path), mend="check the path (a recipe's are relative to it)") from error
    if not data.strip():
        raise DataError("the file is empty", where=str(path), mend="put at least one example into it")
    return data


def _text(data: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("the file is UTF-16", where=str(path), mend='save it as UTF-8 ("CSV UTF-8" in Excel)')
    odd = ("begins with a byte order mark, which is left out",) if data.startswith(b"\xef\xbb\xbf") else ()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if odd else 0)
        raise DataError(
            f"not UTF-8: byte 0x{data[at]:02x} at byte {at + 1}",
            where=f"{path} line {data[:at].count(10) + 1}",
            mend='save it as UTF-8 ("CSV UTF-8" in Excel, or iconv -f windows-1252 -t utf-8)',
        ) from error
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise DataError("a NUL byte", where=f"{path} line {line}", mend="remove it: the file is damaged or not a text")
    return text, odd


def _json(text: str, path: Path) -> tuple[str, tuple[str, ...], list[Raw]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return "JSON", (), []
    if _is_document(lines[0][1].strip(), len(lines)):
        whole = _parse(text, path, 1)
        held = whole if isinstance(whole, list) else _held(whole)
        rows = [whole] if held is None else held
        return _items("JSON", list(enumerate(rows, 1)))
    return _items("JSONL", [(number, _parse(line, path, number)) for number, line in lines])


def _is_document(first: str, lines: int) -> bool:
    """Whether the file is one JSON document, not one object a line, judged by its first line."""
    try:
        parsed = json.loads(first)
    except (ValueError, RecursionError):
        return first.startswith("[") or first.endswith(("{", "[", ",", ":"))
    return lines == 1 and (isinstance(parsed, list) or _held(parsed) is not None)


def _held(whole: Json) -> list[Json] | None:
    """The rows of {"data": [...]}."""
    lists = [whole.get(k) for k in ("data", "rows", "examples", "train")] if isinstance(whole, dict) else []
    return next((held for held in lists if isinstance(held, list)), None)


def _parse(text: str, path: Path, line: int) -> Json:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        shown = text.split("\n")[error.lineno - 1].strip()[:60]
        raise DataError(
            f"not JSON at line {line + error.lineno - 1}: {error.msg}, in {shown!r}",
            where=str(path),
            mend="mend that line; a .jsonl file has one JSON object a line",
        ) from error
    except (ValueError, RecursionError) as error:
        what = f"not JSON at line {line}: nested too deep, or a number too long"
        raise DataError(what, where=str(path), mend="mend that line") from error


def _items(form: str, items: list[tuple[int, Json]]) -> tuple[str, tuple[str, ...], list[Raw]]:
    columns: dict[str, None] = {}
    raws: list[Raw] = []
    for number, item in items:
        if isinstance(item, dict):
            columns |= dict.fromkeys(item)
        raws.append(Raw(number, item))
    return form, tuple(columns), raws


def _csv(text: str, path: Path) -> tuple[str, tuple[str, ...], list[Raw]]:
    if not text.strip():
        return "CSV", (), []
    delimiter = csvfile.choose_delimiter(text, recognised, str(path))
    lines = csvfile.records(text, delimiter)
    header = [name.strip() for name in next(lines).fields or []]
    while header and not header[-1]:
        header.pop()
    names = [normal(name) for name in header]
    twice = {name for name in header if normal(name) and names.count(normal(name)) > 1}
    if twice:
        raise DataError(
            f"columns of one name: {named(sorted(twice))}", where=f"{path} row 1", mend="rename one of them"
        )
    usual = delimiter == "," or len(header) == 1
    form = "CSV" if usual else f"CSV separated by {csvfile.DELIMITERS[delimiter]}"
    return form, tuple(header), list(_csv_rows(lines, header))


def _csv_rows(lines: Iterator[csvfile.Line], header: list[str]) -> Iterator[Raw]:
    for line in lines:
        if not line.text.strip():
            continue
        if line.fields is None:
            problem = BadRow("a quote is opened and not closed", 'close it; a quote inside quotes is ""')
            yield Raw(line.number, line.text, problem)
            continue
        fields = csvfile.trimmed(line.fields, len(header))
        if len(fields) != len(header):
            problem = BadRow(
                f"the number of fields is {len(fields)}, the header has {len(header)}",
                "put quotes around a text that holds the delimiter",
            )
            yield Raw(line.number, line.text, problem)
            continue
        yield Raw(line.number, dict(zip(header, fields, strict=True)))
