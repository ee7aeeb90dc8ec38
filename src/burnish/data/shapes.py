"""The shapes that examples come in, and one row of each into a `Row`."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from burnish.records import Document, Json, Message, Role, Row

CHATS = ("messages", "conversations", "conversation")
PROMPTS = (
    "prompt", "instruction", "question", "query", "customermessage", "usermessage", "customer", "user",
    "message", "request", "inquiry", "ticket", "email", "input", "text", "body",
)  # fmt: skip
ANSWERS = (
    "completion", "output", "answer", "response", "reply", "agentmessage", "agentreply", "agentresponse",
    "supportreply", "assistant", "bestanswer", "target",
)  # fmt: skip
DOCUMENTS = ("documents", "context")
CASES = ("case", "caseid", "conversationid", "ticketid")
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant",
}  # fmt: skip
SHAPES = {("prompt", "completion"): "prompt and completion", ("instruction", "output"): "Alpaca"}


class BadRow(Exception):
    """One row cannot be used: why, and what to do."""

    def __init__(self, reason: str, mend: str = "") -> None:
        self.reason, self.mend = reason, mend
        super().__init__(reason)


def normal(name: str) -> str:
    """A column's name by its letters and digits alone: "Customer Message" is customer_message."""
    return "".join(c for c in name.casefold() if c.isalnum())


def named(columns: Iterable[str]) -> str:
    """Column names for a message, at most twelve."""
    names = [f'"{c[:40]}"' for c in columns]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "none"


def recognised(columns: Sequence[str]) -> bool:
    """Whether a header holds a column that is known as a prompt or a conversation."""
    return any(normal(c) in (*CHATS, *PROMPTS) for c in columns)


def tidy(text: str) -> str:
    """Text as it is trained on: composed characters (NFC), newlines as such, no space around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")).strip()


class Reader:
    """Reads rows one by one and remembers what it saw, for the report."""

    def __init__(self, *, subject: str | None, answers: bool) -> None:
        self.subject = normal(subject) if subject else None
        self.subject_name = subject
        self.answers = answers
        self.shapes: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self.used: set[str] = set()
        self.notes: Counter[str] = Counter()

    def row(self, number: int, fields: Json, limit: int) -> Row:
        """The row, tidied.

        Raises:
            BadRow: It has no usable prompt, or no answer where one is needed.
        """
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
        messages = self._messages(row)
        documents = self._documents(row)
        texts = [m.content for m in messages] + [d.text for d in documents]
        size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
        if size > limit:
            raise BadRow(f"{size:,} bytes of text, more than {limit:,}", "shorten it, or cut it into several rows")
        for place, message in enumerate(messages, 1):
            _check_text(message, place)
        prompt, answer = self._ends(messages)
        if sum(m.role == "assistant" for m in prompt):
            self.notes["rows with several answers, of which the last is learned"] += answer is not None
        return Row(
            prompt=prompt,
            answer=answer,
            number=number,
            subject=self._label(row, (self.subject,) if self.subject else ()),
            case=self._label(row, CASES),
            documents=documents,
        )

    def _ends(self, messages: Sequence[Message]) -> tuple[tuple[Message, ...], str | None]:
        """The prompt, which ends with a user message, and the answer."""
        if all(m.role == "system" for m in messages):
            raise BadRow("only a system message", "add what the user asks and the answer")
        if any(m.role == "system" for m in messages[1:]):
            raise BadRow("a system message that is not the first", "put it first, or leave it out")
        *before, last = messages
        if last.role != "assistant":
            if self.answers:
                raise BadRow("no answer: the last message is from the user", "add the answer, or remove the row")
            return tuple(messages), None
        if not before or before[-1].role != "user":
            raise BadRow("no user message before the answer", "add what the user asks")
        if not self.answers:
            self.notes["rows with an answer, which bare prompts do not need"] += 1
        return tuple(before), last.content if self.answers else None

    def _messages(self, row: Mapping[str, Json]) -> list[Message]:
        chat = next((c for c in CHATS if c in row), None)
        if chat:
            messages = _conversation(row[chat], chat)
            sharegpt = chat == "conversations"
            self._saw("ShareGPT conversations" if sharegpt else "chat messages", chat)
            return messages
        ask = next((c for c in PROMPTS if row.get(c) is not None), None)
        reply = next((c for c in ANSWERS if c in row), None)
        if ask is None and any(p in row for p in PROMPTS):
            raise BadRow("the prompt is empty", "add what the user asks")
        if ask is None:
            raise BadRow(f"no field known as a prompt, only {named(row)}", "name it prompt, question or messages")
        if reply is None and "chosen" in row and "rejected" in row:
            raise BadRow("chosen and rejected answers are votes, not examples", "rename chosen to answer to learn it")
        columns = [f'"{self.names[name]}"' for name in (ask, reply) if name]
        plain = f"columns {' and '.join(columns)}" if reply else f"bare prompts in {columns[0]}"
        shape = SHAPES.get((ask, reply or ""), plain)
        self._saw(shape, ask, *([reply] if reply else []))
        return [*self._system(row), *self._asked(row, ask), *_answered(row, reply)]

    def _asked(self, row: Mapping[str, Json], ask: str) -> list[Message]:
        if isinstance(row[ask], list):
            return _conversation(row[ask], ask)
        parts = [_string(row[ask], ask)]
        if ask == "instruction" and row.get("input"):  # Alpaca: the instruction and what it is about
            parts.append(_string(row["input"], "input"))
            self.used.add("input")
        return [Message("user", "\n\n".join(part for part in parts if part))]

    def _system(self, row: Mapping[str, Json]) -> list[Message]:
        if not row.get("system"):
            return []
        self.used.add("system")
        return [Message("system", _string(row["system"], "system"))]

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
        return _documents(row[name]) if name else ()

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

    def odd(self, columns: Sequence[str]) -> tuple[str, ...]:
        """What a person should know about the file: several answers, missing subjects, unused columns."""
        notes = [f"{note}: {count}" for note, count in self.notes.items() if count]
        unused = self.unused(columns)
        return (*notes, *([f"columns not used: {named(unused)}"] if unused else []))


def _answered(row: Mapping[str, Json], reply: str | None) -> list[Message]:
    if reply is None:
        return []
    if isinstance(row[reply], list):
        return _conversation(row[reply], reply)
    return [Message("assistant", _string(row[reply], reply) if row[reply] is not None else "")]


def _conversation(value: Json, name: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRow(f'"{name}" is not a list of messages', 'write [{"role": "user", "content": "..."}, ...]')
    messages: list[Message] = []
    for place, item in enumerate(value, 1):
        if not isinstance(item, dict):
            raise BadRow(f"message {place} is not an object", 'write {"role": "user", "content": "..."}')
        keys = {normal(str(k)): v for k, v in item.items()}
        role, content = keys.get("role", keys.get("from")), keys.get("content", keys.get("value"))
        known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            raise BadRow(
                f"message {place} has the unknown role {str(role)[:40]!r}",
                "known are system, user, assistant",
            )
        if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
            content = "\n".join(_string(p.get("text"), "text") for p in content)
        messages.append(Message(known, _string("" if content is None else content, f"content of message {place}")))
    return messages


def _check_text(message: Message, place: int) -> None:
    if not message.content and message.role != "system":
        empty = "the answer is empty" if message.role == "assistant" else f"message {place} ({message.role}) is empty"
        raise BadRow(empty, "fill it in, or remove the row")
    if "\0" in message.content:
        raise BadRow(f"a NUL character in message {place}", "remove it")
    if any("\ud800" <= c <= "\udfff" for c in message.content):
        raise BadRow(f"half a character (a lone surrogate) in message {place}", "remove it")


def _documents(value: Json) -> tuple[Document, ...]:
    """Documents as objects with id, title and text, or as plain strings."""
    if not value:
        return ()
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise BadRow('"documents" is not a list', 'write [{"id": "...", "title": "...", "text": "..."}]')
    found: list[Document] = []
    for place, item in enumerate(value, 1):
        keys = {"text": item} if isinstance(item, str) else item
        if not isinstance(keys, dict) or not isinstance(keys.get("text"), str) or not tidy(keys["text"]):
            raise BadRow(f"document {place} has no text", 'write {"id": "...", "title": "...", "text": "..."}')
        text, title = tidy(keys["text"]), tidy(str(keys.get("title") or ""))
        _check_text(Message("user", text + title), place)
        found.append(Document(str(keys.get("id") or place), title, text))
    return tuple(found)


def _string(value: Json, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f'"{name}" is {type(value).__name__}, not a text', "write it as a string")
    return tidy(value)
