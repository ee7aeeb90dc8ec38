"""What an engine knows of a request that it has begun."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from burnish.models.trail import ROOT
from burnish.records import FinishReason
from burnish.sampling.request import Request


@dataclass(slots=True)
class Running:
    """A request in a slot: ``ids`` is prompt and answer so far, of which ``cached`` have keys in the slot.

    ``row`` is where the trail keeps the last of these: ROOT before it was asked, None where it does not.
    """

    id: int
    request: Request
    generator: random.Random
    limit: int
    ids: list[int]
    cached: int = 0
    drawn: int = 0
    row: int | None = ROOT

    def finished(self) -> tuple[FinishReason | None, str | None]:
        """Why the answer ends with the token that was drawn last, if it does, and the stop string that ends it."""
        params = self.request.params
        if self.ids[-1] in params.stop_ids:
            return "stop", None
        stopped_by = params.stop and params.stop.found(self.ids[-self.drawn :])
        if stopped_by:
            return "stop", stopped_by
        return ("length" if self.drawn == self.limit else None), None


@dataclass(slots=True)
class Feed:
    """Tokens of a running request that the next forward runs; ``last`` is where the last of them lies in it."""

    slot: int
    running: Running
    ids: list[int] = field(default_factory=list)
    last: int = 0
