"""How the learning rate moves through a run: a warm-up, then one of four shapes. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from burnish.errors import TrainingError

FLOOR = 0.1  # the share of the peak at which a falling rate ends
DECAY = 0.1  # the share of the updates in which "wsd" falls


def constant(done: float) -> float:
    """The peak throughout."""
    return 1.0


def linear(done: float) -> float:
    """A straight line from the peak down to a tenth of it."""
    return 1.0 - (1.0 - FLOOR) * done


def cosine(done: float) -> float:
    """Half a cosine from the peak down to a tenth of it (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    return FLOOR + (1.0 - FLOOR) * (1.0 + math.cos(math.pi * done)) / 2


def wsd(done: float) -> float:
    """Warm-up-stable-decay (Hu et al. 2024, arXiv:2404.06395): the peak, then a fall in the last tenth of the updates.

    The fall is a straight line down to a tenth of the peak.
    """
    return linear(max(0.0, done - (1.0 - DECAY)) / DECAY)


SHAPES: Mapping[str, Callable[[float], float]] = {"constant": constant, "linear": linear, "cosine": cosine, "wsd": wsd}


def share(schedule: str, step: int, updates: int, warmup: int) -> float:
    """The learning rate of update ``step`` (from 0) as a share of its peak.

    The warm-up rises in ``warmup`` equal steps towards the peak, which the first update after it has. The shape is read
    at the share of the updates after the warm-up that are done: 0 at its first, below 1 at the last one.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SHAPES[schedule]((step - warmup) / max(1, updates - warmup))


def require_fit(warmup: int, updates: int, where: str | None = None) -> None:
    """The warm-up is shorter than the run.

    Raises:
        TrainingError: It is not, so that no update would have the peak rate; the message names both numbers.
    """
    if warmup and warmup >= updates:
        raise TrainingError(
            f"warmup = {warmup} does not fit into a run of {updates} updates",
            where=where,
            mend=f"it may be {updates - 1} at most; or train longer",
        )
