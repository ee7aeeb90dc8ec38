"""An own reward as a scorer of sampled answers."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.parts import Part
from burnish.parts.contract import number_of
from burnish.records import Row
from burnish.sampling import Sample
from burnish.tasks.chat import ChatTask


def score_replies(
    part: Part, task: ChatTask, rows: Sequence[Row], samples: Sequence[Sequence[Sample]]
) -> list[list[float]]:
    """What an own reward says about every answer to every row.

    Raises:
        PartError: It raised, or returned anything but a finite number; names the row.
    """
    return [
        [number_of(part, task.reply(row, sample), row.number) for sample in group]
        for row, group in zip(rows, samples, strict=True)
    ]
