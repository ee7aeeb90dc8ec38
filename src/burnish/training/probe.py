"""The learning-rate probe: a few updates at each of a few rates, and the rate that lowers a loss on unseen rows most.

A short run is no long one: over few updates a rate looks better the larger it is, until it is unstable, and worse at
removing noise than it will be after the rate has fallen (Wu et al. 2018, arXiv:1803.02021). So the grid ends at a
multiple of the default that is small, and of rates that are nearly as good the smallest is taken.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from burnish.errors import TrainingError
from burnish.progress import Progress
from burnish.training.loop import Loop
from burnish.training.settings import Choice, Probe

FILE = "probe.json"
NEARLY = 0.05  # of the best gain: a smaller rate that is this near is taken


def settled(
    probe: Probe,
    loop_at: Callable[[float, Probe], Loop],
    loss: Callable[[], float],
    folder: Path,
    progress: Progress,
) -> Choice:
    """The learning rate of a run, as its probe finds it.

    The trained parameters are as before when it returns. What it found is kept in ``folder``, so that a run that is
    resumed has the rate that it began with.

    Args:
        loop_at: A loop over the run's windows at a constant rate, with an optimizer of its own.
        loss: What the rates are compared by, as the parameters are now: a loss of trees that are not in the windows.

    Raises:
        TrainingError: Training is not finite at any of the rates.
    """
    path = folder / FILE
    if path.exists():
        found = json.loads(path.read_text())
        return Choice(found["rate"], found["why"])
    start, after = _tried(probe, loop_at, loss, progress)
    rate = best_rate(start, after)
    tried = ", ".join(f"{now:.4g} at {at:.2g}" if now is not None else f"not finite at {at:.2g}" for at, now in after)
    why = f"auto: loss on {probe.rows} unseen rows after {probe.updates} updates: {tried}; {start:.4g} before"
    _keep(path, {"rate": rate, "why": why})
    progress.say(f"learning rate {rate:.2g} ({why})")
    return Choice(rate, why)


def best_rate(start: float, after: Sequence[tuple[float, float | None]]) -> float:
    """The smallest rate whose loss is within 5 % of the largest gain over ``start``; the smallest where none gains.

    Args:
        after: Each rate with the loss that it reached; None: it was not finite.

    Raises:
        TrainingError: No rate reached a finite loss.
    """
    finite = [(rate, loss) for rate, loss in sorted(after) if loss is not None and math.isfinite(loss)]
    if not finite:
        raise TrainingError("training is not finite at any of the rates tried", mend="set learning_rate in the recipe")
    gain = start - min(loss for _, loss in finite)
    if gain <= 0:
        return finite[0][0]
    return next(rate for rate, loss in finite if start - loss >= (1 - NEARLY) * gain)


def _tried(
    probe: Probe, loop_at: Callable[[float, Probe], Loop], loss: Callable[[], float], progress: Progress
) -> tuple[float, list[tuple[float, float | None]]]:
    """The loss before, and after the probe's updates at each of its rates."""
    start, after = math.nan, list[tuple[float, float | None]]()
    for number, rate in enumerate(probe.rates):
        loop = loop_at(rate, probe)
        before = {name: parameter.detach().clone() for name, parameter in loop.parameters.items()}
        if number == 0:
            start = loss()
        try:
            for step in range(probe.updates):
                loop.update(step, loop.windows.window(step))
                done = number * probe.updates + step + 1
                progress.update("learning-rate probe", done, probe.updates * len(probe.rates))
            after.append((rate, loss()))
        except TrainingError:
            after.append((rate, None))
        finally:
            with torch.no_grad():
                for name, parameter in loop.parameters.items():
                    parameter.copy_(before[name])
                    parameter.grad = None
    return start, after


def _keep(path: Path, found: dict[str, float | str]) -> None:
    """Whole or not at all: a probe that is killed is repeated, and finds the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump(found, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
