"""One row of any shape into a `Row`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from burnish.data import preferences
from burnish.data.marks import FIELD, marks_of
from burnish.data.preferences import Said
from burnish.data.shapes import (
    ANSWERS,
    CASES,
    CHATS,
    DOCUMENTS,
    LABELS,
    PAIRS,
    PROMPTS,
    SHAPES,
    BadRow,
    Turn,
    check_text,
    conversation,
    documents,
    named,
    normal,
    string,
)
from burnish.records import Document, Json, Mark, Message, Row

Wanted = Literal["answers", "prompts", "preferences"]
LABELLED = ", with labels"


class Reader:
    """Reads rows one by one and remembers what it saw, for the report."""

    def __init__(self, *, subject: str | None, wanted: Wanted) -> None:
        self.subject = normal(subject) if subject else None
        self.subject_name = subject
        self.wanted = wanted
        self.shapes: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self.used: set[str] = set()
        self.notes: Counter[str] = Counter()

    def row(self, number: int, fields: Json, limit: int) -> Row:
        """The row, tidied.

        Raises:
            BadRow: It has no usable prompt, or no answer where one is needed.
        """
        row = self._fields(fields)
        said = self._said(row)
        read = self._documents(row)
        texts = [t.content for t in said.turns] + [d.text for d in read] + [said.rejected or ""]
        size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
        if size > limit:
            raise BadRow(f"{size:,} bytes of text, more than {limit:,}", "shorten it, or cut it into several rows")
        for place, turn in enumerate(said.turns, 1):
            check_text(turn, place)
        prompt, answer = self._ends(said.turns)
        return Row(
            prompt=tuple(Message(turn.role, turn.content) for turn in prompt),
            answer=answer,
            number=number,
            subject=self._label(row, (self.subject,) if self.subject else ()),
            case=self._label(row, CASES),
            documents=read,
            weights=self._weights(said.turns),
            rejected=said.rejected,
            margin=said.margin,
            label=said.label,
            marks=self._marks(row) if self.wanted != "prompts" else None,
        )

    def _fields(self, fields: Json) -> dict[str, Json]:
        """The row's fields by their normal names."""
        if not isinstance(fields, dict):
            raise BadRow(f"it is {type(fields).__name__}, not an object", 'write {"field": ...}')
        row: dict[str, Json] = {}
        for name, value in fields.items():
            if not normal(name):
                continue
            if normal(name) in row and value is not None:
                raise BadRow(f'two fields are named "{name.strip()}"', "rename one of them")
            row.setdefault(normal(name), value)
            self.names.setdefault(normal(name), name.strip())
        return row

    def _said(self, row: Mapping[str, Json]) -> Said:
        """The conversation of the row, and what was preferred to what."""
        pair = preferences.pair_of(row)
        if self.wanted != "preferences":
            if pair and not any(reply in row for reply in ANSWERS):
                raise BadRow(
                    f"{self.names[pair[0]]} and {self.names[pair[1]]} answers are votes, not examples",
                    "name the file in data.preferences, or rename chosen to answer to learn it",
                )
            return Said(self._messages(row))
        if pair is None and row.get(FIELD) is not None and not any(row.get(name) not in (None, "") for name in LABELS):
            return Said(self._messages(row))
        if pair is None:
            said = preferences.labelled(self._messages(row, labelled=True), row)
            self.used.update(LABELS)
            return said
        self._saw("OpenAI's preference rows" if pair[0] == PAIRS[1][0] else "chosen and rejected", *pair)
        self.used.add("margin")
        return preferences.paired(self._before(row), row, pair)

    def _before(self, row: Mapping[str, Json]) -> list[Turn]:
        """What stands before the two answers; empty where they are whole conversations."""
        name = next((n for n in (*CHATS, *PROMPTS) if row.get(n) is not None), None)
        if name is None:
            return self._system(row)
        self.used.add(name)
        if name == "input" and isinstance(row[name], dict):
            return conversation(row[name].get("messages"), "input.messages")
        return conversation(row[name], name) if name in CHATS else [*self._system(row), *self._asked(row, name)]

    def _ends(self, turns: Sequence[Turn]) -> tuple[Sequence[Turn], str | None]:
        """What stands before the answer, ending with a user message, and the answer."""
        if all(turn.role == "system" for turn in turns):
            raise BadRow("only a system message", "add what the user asks and the answer")
        if any(turn.role == "system" for turn in turns[1:]):
            raise BadRow("a system message that is not the first", "put it first, or leave it out")
        *before, last = turns
        if last.role != "assistant":
            if self.wanted != "prompts":
                raise BadRow("no answer: the last message is from the user", "add the answer, or remove the row")
            return turns, None
        if not before or before[-1].role != "user":
            raise BadRow("no user message before the answer", "add what the user asks")
        if self.wanted == "prompts":
            self.notes["rows with an answer, which bare prompts do not need"] += 1
        return before, last.content if self.wanted != "prompts" else None

    def _weights(self, turns: Sequence[Turn]) -> tuple[float, ...]:
        """The weight of each assistant message; empty where none is given, and where nothing is weighted."""
        weights = [turn.weight for turn in turns if turn.role == "assistant"]
        if self.wanted == "answers" and len(weights) > 1:
            self.notes[
                "rows with several answers, of which the last is learned unless sft.train_on says otherwise"
            ] += 1
        if set(weights) <= {None}:
            return ()
        if self.wanted != "answers":
            raise BadRow("a message has a weight", "only the answers of data.train are weighted: leave it out")
        return tuple(1.0 if weight is None else weight for weight in weights)

    def _marks(self, row: Mapping[str, Json]) -> tuple[Mark, ...] | None:
        """The errors that a person marked in the row's answer; None where nobody looked for any."""
        self.used.add(FIELD)
        if row.get(FIELD) is None:
            return None
        written = next((row[name] for name in ANSWERS if name in row), None)
        if not isinstance(written, str):
            raise BadRow(
                f'"{FIELD}" of an answer that is no field of its own', "give such rows as a prompt and a completion"
            )
        return marks_of(row[FIELD], written)

    def _messages(self, row: Mapping[str, Json], labelled: bool = False) -> list[Turn]:
        chat = next((c for c in CHATS if c in row), None)
        if chat:
            messages = conversation(row[chat], chat)
            sharegpt = chat == "conversations"
            self._saw(("ShareGPT conversations" if sharegpt else "chat messages") + LABELLED * labelled, chat)
            return messages
        ask = next((c for c in PROMPTS if row.get(c) is not None), None)
        reply = next((c for c in ANSWERS if c in row), None)
        if ask is None and any(p in row for p in PROMPTS):
            raise BadRow("the prompt is empty", "add what the user asks")
        if ask is None:
            raise BadRow(f"no field known as a prompt, only {named(row)}", "name it prompt, question or messages")
        columns = [f'"{self.names[name]}"' for name in (ask, reply) if name]
        plain = f"columns {' and '.join(columns)}" if reply else f"bare prompts in {columns[0]}"
        shape = SHAPES.get((ask, reply or ""), plain) + LABELLED * labelled
        self._saw(shape, ask, *([reply] if reply else []))
        return [*self._system(row), *self._asked(row, ask), *_answered(row, reply)]

    def _asked(self, row: Mapping[str, Json], ask: str) -> list[Turn]:
        if isinstance(row[ask], list):
            return conversation(row[ask], ask)
        parts = [string(row[ask], ask)]
        if ask == "instruction" and row.get("input"):  # Alpaca: the instruction and what it is about
            parts.append(string(row["input"], "input"))
            self.used.add("input")
        return [Turn("user", "\n\n".join(part for part in parts if part))]

    def _system(self, row: Mapping[str, Json]) -> list[Turn]:
        if not row.get("system"):
            return []
        self.used.add("system")
        return [Turn("system", string(row["system"], "system"))]

    def _label(self, row: Mapping[str, Json], names: Sequence[str]) -> str | None:
        for name in names:
            self.used.add(name)
            value = row.get(name)
            if isinstance(value, str | int) and str(value).strip():
                return str(value).strip().encode(errors="replace").decode()
        if self.subject and self.subject in names:
            self.notes[f'rows without "{self.subject_name}", which cannot be found by it'] += 1
        return None

    def _documents(self, row: Mapping[str, Json]) -> tuple[Document, ...]:
        name = next((n for n in DOCUMENTS if row.get(n)), None)
        self.used.add(name or "")
        return documents(row[name]) if name else ()

    def _saw(self, shape: str, *columns: str) -> None:
        self.shapes[shape] += 1
        self.used.update(columns)

    def described(self) -> str:
        """ "chat messages", or several shapes with their counts."""
        if len(self.shapes) == 1:
            return next(iter(self.shapes))
        return " and ".join(f"{shape} ({count})" for shape, count in self.shapes.most_common())

    def unused(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns that no row was read from."""
        return tuple(c for c in columns if c.strip() and normal(c) not in self.used and normal(c) != "row")

    def odd(self) -> tuple[str, ...]:
        """What a person should know about the rows: several answers, missing subjects."""
        return tuple(f"{note}: {count}" for note, count in self.notes.items() if count)


def _answered(row: Mapping[str, Json], reply: str | None) -> list[Turn]:
    if reply is None:
        return []
    if isinstance(row[reply], list):
        return conversation(row[reply], reply)
    return [Turn("assistant", string(row[reply], reply) if row[reply] is not None else "")]
