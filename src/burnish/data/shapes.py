"""The shapes that examples come in: the names of their fields, and what stands in a field."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from burnish.records import Document, Json, Role

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
PAIRS = (("chosen", "rejected"), ("preferredoutput", "nonpreferredoutput"))
LABELS = ("label", "thumb", "thumbs")


class Turn(NamedTuple):
    """One message as it was read; ``weight`` is how much an assistant message counts in training."""

    role: Role
    content: str
    weight: float | None = None


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
    return any(normal(c) in (*CHATS, *PROMPTS, "chosen") for c in columns)


def tidy(text: str) -> str:
    """Text as it is trained on: composed characters (NFC), newlines as such, no space around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")).strip()


def conversation(value: Json, name: str) -> list[Turn]:
    """The messages of a conversation.

    Raises:
        BadRow: It is no list of messages, or one of them has an unknown role, no text or a wrong weight.
    """
    if not isinstance(value, list) or not value:
        raise BadRow(f'"{name}" is not a list of messages', 'write [{"role": "user", "content": "..."}, ...]')
    messages: list[Turn] = []
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
            content = "\n".join(string(p.get("text"), "text") for p in content)
        text = string("" if content is None else content, f"content of message {place}")
        messages.append(Turn(known, text, _weight(keys.get("weight"), known, place)))
    return messages


def _weight(value: Json, role: Role, place: int) -> float | None:
    if value is None or (role != "assistant" and value == 0):
        return None
    if role != "assistant":
        raise BadRow(f"message {place} ({role}) has a weight", "only what the assistant says is weighted")
    weight = number(value)
    if weight is None or not 0 <= weight <= 1:
        raise BadRow(f"message {place} has the weight {str(value)[:40]!r}", "write a number from 0 to 1")
    return weight


def number(value: Json) -> float | None:
    """A finite number, also where a CSV file holds it as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def check_text(message: Turn, place: int) -> None:
    """Refuse a message without text, or with characters that no text holds."""
    if not message.content and message.role != "system":
        empty = "the answer is empty" if message.role == "assistant" else f"message {place} ({message.role}) is empty"
        raise BadRow(empty, "fill it in, or remove the row")
    if "\0" in message.content:
        raise BadRow(f"a NUL character in message {place}", "remove it")
    if any("\ud800" <= c <= "\udfff" for c in message.content):
        raise BadRow(f"half a character (a lone surrogate) in message {place}", "remove it")


def documents(value: Json) -> tuple[Document, ...]:
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
        check_text(Turn("user", text + title), place)
        found.append(Document(str(keys.get("id") or place), title, text))
    return tuple(found)


def string(value: Json, name: str) -> str:
    """A field that must be text, tidied."""
    if not isinstance(value, str):
        raise BadRow(f'"{name}" is {type(value).__name__}, not a text', "write it as a string")
    return tidy(value)
