"""What the supervised stage will cost on this machine: measured in two updates on the recipe's own rows."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.config import host
from burnish.errors import TrainingError
from burnish.progress import Silent
from burnish.records import Row
from burnish.training.settings import Choice

if TYPE_CHECKING:
    from burnish.models.artifacts import Loaded
    from burnish.pipeline.project import Project

GB = 1e9
BYTES = {"float32": 4, "bfloat16": 2}
TRAINED = (
    4 * BYTES["float32"]
)  # of each trained weight: itself, its gradient and two moments, whatever the base is held in


@dataclass(frozen=True, slots=True)
class Price:
    """``seconds`` of all ``updates``; ``peak`` bytes of memory, and those that are ``free`` for it (None: unknown)."""

    updates: int
    seconds: float
    peak: int
    free: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the peak stays within what is free."""
        return None if self.free is None else self.peak <= self.free

    def lines(self) -> list[str]:
        """The price for people."""
        fits = {True: "it fits", False: "it does NOT fit", None: "what is free is not known here"}[self.fits]
        free = "" if self.free is None else f" of {self.free / GB:.1f} GB that are free"
        return [
            f"sft: {self.updates} updates, {_spoken(self.seconds)} here (the second of two timed updates)",
            f"memory: {self.peak / GB:.1f} GB at the peak of those updates, the longest rows among them,{free}: {fits}",
        ]


def price(project: Project, rows: Sequence[Row], choices: Mapping[str, Choice]) -> Price:
    """Take two updates and throw them away: the first with the longest rows, for memory, the second timed.

    Raises:
        TrainingError: The weights alone need more memory than is free.
    """
    from burnish.objectives import likelihood_term
    from burnish.tasks import task_for
    from burnish.training.adapting import adapted
    from burnish.training.supervised import supervised
    from burnish.training.teaching import Teaching

    recipe, free = project.recipe, _free()
    _require_room(project, free)
    loaded, _ = adapted(recipe, _start(project), recipe.seed)
    task, batch = task_for(recipe, loaded.renderer), int(choices["batch_size"].value)
    trees = sorted((task.trained(row) for row in rows), key=lambda tree: tree.tokens(keep_last=False))
    middle = max(0, (len(trees) - batch) // 2)
    teaching = Teaching(loaded.model.logp, (likelihood_term(),), list)  # a teacher or an own loss comes on top
    with tempfile.TemporaryDirectory() as folder:
        learner = supervised(recipe.adapt, loaded.model, teaching)
        loop = learner.passes(trees, choices, recipe.seed, Path(folder), Silent())
        loop.update(0, trees[-batch:])
        began = time.perf_counter()
        typical = trees[middle : middle + batch]
        loop.update(1, typical)
        pace = (time.perf_counter() - began) / sum(tree.tokens(keep_last=False) for tree in typical)
    seconds = pace * sum(tree.tokens(keep_last=False) for tree in trees) * choices["epochs"].value
    return Price(loop.settings.updates, seconds, _peak(), free)


def _start(project: Project) -> Loaded:
    from burnish.models.artifacts import Loaded, load_version
    from burnish.models.language import LanguageModel

    if project.own_base is not None:
        return load_version(project.store, project.own_base, project.cache, progress=project.progress)
    base = project.resolved_base
    return Loaded(LanguageModel.load(base), project.renderer, base)


def _require_room(project: Project, free: int | None) -> None:
    full = project.recipe.adapt.method == "full"
    need = project.resolved_base.parameters * (BYTES[host.dtype()] + (TRAINED if full else 0))
    if free is not None and need > free:
        raise TrainingError(
            f"{project.recipe.base} needs at least {need / GB:.1f} GB of memory, and {free / GB:.1f} GB are free",
            where="base",
            mend='take a smaller base, or adapt.method = "lora"' if full else "take a smaller base",
        )


def _free() -> int | None:
    """Bytes that this process may take: what it has, and what the system says is available (None: it does not say)."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return int(fields["MemAvailable"].split()[0]) * 1024 + pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _peak() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def _spoken(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
