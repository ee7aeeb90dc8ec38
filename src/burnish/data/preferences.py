"""Rows that say how good an answer is: which of two is better, whether one is good, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.data.shapes import (
    ANSWERS,
    CHATS,
    LABELS,
    PAIRS,
    BadRow,
    Turn,
    check_text,
    conversation,
    normal,
    number,
    string,
)
from burnish.records import Json, Row

GOOD, BAD = ("true", "good", "1", "+1", "up", "yes"), ("false", "bad", "0", "-1", "down", "no")


@dataclass(frozen=True, slots=True)
class Said:
    """A conversation that ends with an answer, and what is known of the answer (see `Row`)."""

    turns: Sequence[Turn]
    rejected: str | None = None
    margin: float | None = None
    label: bool | None = None


def pair_of(row: Mapping[str, Json]) -> tuple[str, str] | None:
    """The names of the better and the worse answer's fields, where the row has both."""
    return next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)


def label_of(row: Mapping[str, Json]) -> bool | None:
    """Whether the row's answer is a good one; None where no field says so in a known way."""
    found = next((row[name] for name in LABELS if row.get(name) not in (None, "")), None)
    if isinstance(found, bool):
        return found
    value = number(found)
    word = f"{value:g}" if value is not None else str(found).strip().casefold()
    return True if word in GOOD else False if word in BAD else None


def holds_preferences(rows: Sequence[Json]) -> bool:
    """Whether most rows of a file are pairs, or all answers are called good or bad, and some of them each."""
    fields = [{normal(str(name)): value for name, value in row.items()} for row in rows if isinstance(row, dict)]
    pairs = [row for row in fields if pair_of(row) and not any(name in row for name in ANSWERS)]
    labels = [label_of(row) for row in fields if any(row.get(name) for name in (*ANSWERS, *CHATS))]
    return 2 * len(pairs) > len(rows) or (len(labels) == len(fields) and {*labels} == {True, False})


def judged(rows: Sequence[Row]) -> list[Row]:
    """The rows that say which answer is better, or whether one is good; the others have nothing but marks."""
    return [row for row in rows if row.rejected is not None or row.label is not None]


def labelled(turns: Sequence[Turn], row: Mapping[str, Json]) -> Said:
    """One answer with its label.

    Raises:
        BadRow: There is no label, or it is neither good nor bad.
    """
    label = label_of(row)
    if label is None:
        name = next((name for name in LABELS if row.get(name) not in (None, "")), None)
        if name is None:
            raise BadRow(
                "neither a rejected answer nor a label nor spans",
                "add the answer that was worse as rejected, a label (good or bad), or the spans that are wrong",
            )
        raise BadRow(
            f"the {name} {str(row[name])[:40]!r} is neither good nor bad", "write true or false, good or bad, 1 or 0"
        )
    return Said(turns, label=label)


def paired(before: Sequence[Turn], row: Mapping[str, Json], pair: tuple[str, str]) -> Said:
    """Two answers to one prompt.

    Each is a text, one message, or a conversation that begins with the prompt. Without a prompt of its own, the row's
    two conversations share all messages but the last.

    Raises:
        BadRow: An answer is missing, empty or several messages, both are equal, or the margin is none.
    """
    chosen, rejected = (_turns(row[name], word) for name, word in zip(pair, PAIRS[0], strict=True))
    if not any(turn.role == "user" for turn in before):
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), len(chosen))
        own = chosen[: min(shared, len(chosen) - 1, len(rejected) - 1)]
        before = [*([] if own and own[0].role == "system" else before), *own]
    better, worse = (_answer(turns, before, name) for turns, name in zip((chosen, rejected), PAIRS[0], strict=True))
    if better.content == worse.content:
        raise BadRow(
            "chosen and rejected are equal", "a preference needs two different answers: mend or remove the row"
        )
    margin = row.get("margin")
    if margin in (None, ""):
        return Said([*before, better], worse.content)
    found = number(margin)
    if found is None or found < 0:
        raise BadRow(
            f"the margin {str(margin)[:40]!r} is not a number from 0 up", "write how much better it is, or none"
        )
    return Said([*before, better], worse.content, found)


def _turns(value: Json, name: str) -> list[Turn]:
    if isinstance(value, list | dict):
        return conversation([value] if isinstance(value, dict) else value, name)
    return [Turn("assistant", "" if value is None else string(value, name))]


def _answer(turns: Sequence[Turn], before: Sequence[Turn], name: str) -> Turn:
    """The one message that follows the prompt."""
    plain = [turn for turn in before if turn.role != "system"]
    for prompt in (list(before), plain):
        if prompt and list(turns[: len(prompt)]) == prompt:
            turns = turns[len(prompt) :]
            break
    if len(turns) != 1:
        raise BadRow(
            f"the {name} answer is {len(turns)} messages that do not stand in the prompt",
            "put what both answers share into the prompt, and one assistant message into each",
        )
    (turn,) = turns
    if turn.role != "assistant":
        raise BadRow(f"the {name} answer is from the {turn.role}", "an answer is from the assistant")
    if not turn.content:
        raise BadRow(f"the {name} answer is empty", "fill it in, or remove the row")
    check_text(turn, len(before) + 1)
    return turn
