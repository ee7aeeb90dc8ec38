"""What of a row is trained: its ids, and how much each of them counts.

The mask comes from where each part was rendered, never from words that a template may or may not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from burnish.data.marks import lightened
from burnish.data.render import Renderer
from burnish.errors import DataError
from burnish.records import Row

TrainOn = Literal["last", "all", "everything"]
NONE: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Supervision:
    """A row as one sequence: ``prompt`` is read only, and each of ``ids`` after it is trained with its weight.

    ``answers`` is how many answers are rendered as such, ``unasked`` how many follow no user message and so belong to
    what is read.
    """

    prompt: list[int]
    ids: list[int]
    weights: list[float]
    answers: int = 1
    unasked: int = 0


def supervision(
    row: Row, renderer: Renderer, train_on: TrainOn = "last", shares: Mapping[str, float] = NONE
) -> Supervision:
    """The ids of a row and the weight of each.

    "last" trains the last answer, "all" every answer that follows a user message, each from its first id to its stop
    token; "everything" all ids but the first, which nothing comes before. ``row.weights`` weigh the answers; what
    others said counts fully where everything is trained. ``shares`` say how much of its weight a token of the row's
    answer keeps where a person marked an error of that kind.

    Raises:
        DataError: The row has no answer; the template refuses the conversation, or renders an earlier answer otherwise
            once a later one follows; everything is trained and the row holds documents, which never are.
    """
    if row.answer is None:
        raise DataError("there is no answer to learn", where=f"row {row.number}", mend="give every row an answer")
    if train_on == "last":
        prompt, ids = renderer.prompt(row.prompt, row.documents), renderer.answer(row.answer)
        weight = row.weights[-1] if row.weights else 1.0
        return Supervision(prompt, ids, lightened(weight, renderer.offsets(row.answer), row.marks or (), shares))
    if train_on == "everything" and row.documents:
        raise DataError(
            "it holds documents, which are read and never trained", where=f"row {row.number}",
            mend='set sft.train_on = "all", or take the documents out',
        )  # fmt: skip
    turns = renderer.turns(row.prompt, row.answer, row.documents)
    between = 1.0 if train_on == "everything" else 0.0
    ids, weights = [], []
    for part, place in turns:
        weight = between if place is None else row.weights[place] if row.weights else 1.0
        ids += part
        marked = part is turns[-1][0]  # the row's answer
        weights += (
            lightened(weight, renderer.offsets(row.answer), row.marks or (), shares) if marked else [weight] * len(part)
        )
    first = 1 if train_on == "everything" else len(turns[0][0])
    said = [place for _, place in turns if place is not None]
    spoken = sum(message.role == "assistant" for message in row.prompt) + 1
    return Supervision(ids[:first], ids[first:], weights[first:], len(said), spoken - len(said))
