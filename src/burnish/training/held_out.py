"""Looking at rows that are not trained on, so that training stops in time and the best parameters are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


class Stop(Exception):
    """Raised by a look: training ends here, with the best parameters so far; ``figures`` are what it saw."""

    def __init__(self, why: str, figures: Mapping[str, Any]) -> None:
        super().__init__(why)
        self.figures = figures


@dataclass(frozen=True)
class HeldOut:
    """When and how the loop looks at rows that it does not train on.

    Args:
        measure: What there is to see after so many updates, "held_out" among it. May raise Stop.
        every: Updates between two looks; there is one after the last update too.
        better: Whether a lower or a higher "held_out" is better.
        patience: So many looks in a row without a better figure end the run; None: they never do.
        first: Whether to look before the first update, so that the start may be the best.
    """

    measure: Callable[[int], Mapping[str, float]]
    every: int
    better: Literal["lower", "higher"] = "lower"
    patience: int | None = None
    first: bool = False

    def due(self, step: int, last: int) -> bool:
        """Whether to look before update ``step`` (``last``: after the last one)."""
        return step == last or (step % self.every == 0 and (step > 0 or self.first))

    def judged(self, seen: Mapping[str, Any], step: int, figures: Mapping[str, float]) -> dict[str, Any]:
        """What is known after a look, from what was known: the last figures, the best ones, and how long ago.

        A figure that is not a number is never the best; the first one of two equal ones is.

        Returns:
            "step" and "figures" of this look, "best" (the same of the best look, None before there is one) and
            "since", the looks since then.
        """
        best, now = seen.get("best"), figures["held_out"]
        ahead = best is None or (now - best["figures"]["held_out"]) * (1 if self.better == "higher" else -1) > 0
        look = {"step": step, "figures": dict(figures)}
        if ahead and math.isfinite(now):
            return {**look, "best": look, "since": 0}
        return {**look, "best": best, "since": int(seen.get("since", 0)) + 1}

    def require_patience(self, seen: Mapping[str, Any]) -> None:
        """Go on unless it was long ago.

        Raises:
            Stop: No look of the last ``patience`` ones was better than the best one.
        """
        if self.patience is not None and seen["since"] >= self.patience and seen["best"] is not None:
            best = seen["best"]
            figure = f"{best['figures']['held_out']:.4g} after {best['step']} updates"
            raise Stop(f"held_out was best at {figure}, {seen['since']} looks ago", seen["figures"])
