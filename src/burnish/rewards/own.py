"""An own reward as a part of what sampled answers are paid."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.errors import PartError
from burnish.parts import Part
from burnish.parts.contract import number_of
from burnish.rewards.scores import Asked, Groups, Paid
from burnish.tasks.chat import ChatTask


def score_replies(part: Part, task: ChatTask, may_fail: bool, asked: Sequence[Asked], samples: Groups) -> Paid:
    """What an own reward says about every answer to every prompt.

    Raises:
        PartError: It raised, or returned anything but a finite number, and may not fail; names the row.
    """
    values: list[list[float | None]] = []
    why = None
    for prompt, group in zip(asked, samples, strict=True):
        values.append([])
        for sample in group:
            try:
                values[-1].append(number_of(part, task.reply(prompt.row, sample), prompt.row.number))
            except PartError as error:
                if not may_fail:
                    raise
                values[-1].append(None)
                why = str(error)
    return Paid(values, why)
