"""Hidden states at the freezing boundary: what lies below the first trained layer says the same in every pass.

So it is run once for each row, in fixed batches, and kept on disk. Worth it where a row is seen more than once.
Axes: T packed tokens, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from burnish.models.language import LanguageModel
from burnish.objectives.stream import Stream, Tree, pack
from burnish.progress import Progress
from burnish.records import Json
from burnish.training.remembered import BUDGET, Remembered, limit, make_room

FOLDER = "boundaries"


@dataclass
class Boundaries:
    """Where each tree's hidden states lie, the input of layer ``first``: what ``LanguageModel.kept`` asks."""

    first: int
    places: Mapping[str, Path]
    _open: dict[Path, Any] = field(default_factory=dict)

    def __call__(self, stream: Stream) -> tuple[Tensor, int] | None:
        """The input of layer ``first`` [T, D], and which it is; None where a tree of the stream is not kept."""
        keys = [key for key, _ in trees_of(stream)]
        if any(key not in self.places for key in keys):
            return None
        return joined(stream, [self._read(key) for key in keys]), self.first

    def _read(self, key: str) -> Tensor:
        path = self.places[key]
        if path not in self._open:
            self._open[path] = safe_open(path, "pt")
        tensor: Tensor = self._open[path].get_tensor(key)
        return tensor


def keep_boundaries(
    model: LanguageModel,
    trees: Sequence[Tree],
    passes: int,
    cache: Path,
    source: Json,
    progress: Progress,
    what: str,
    keep_last: bool = False,
) -> bool:
    """Run these trees up to the first trained layer of ``model`` and keep what comes out, for ``model`` to use.

    ``source`` names the model's weights; ``keep_last`` is how the loop packs. False where there is nothing to spare:
    one pass, a trained first layer, the slow path, or states over the disk that they may use.

    Raises:
        ConfigError: BURNISH_CACHE_GB is not a number of gigabytes.
    """
    first, width = model.first_trained, int(model.head.shape[1])
    if passes < 2 or first == 0 or model.path == "slow":
        return False
    window = model.window
    if window is not None:  # a longer row runs on the slow path, which reads nothing
        trees = [tree for tree in trees if tree.longest(keep_last) <= window]
    if not trees:
        return False
    need, most = model.dtype.itemsize * width * sum(tree.tokens(keep_last) for tree in trees), limit()
    folder = cache / FOLDER
    if not make_room(folder, need, most):
        progress.say(f"{what}: {need / 1e9:.1f} GB of hidden states are over the limit of {most / 1e9:g}: not kept")
        return False

    def compute(stream: Stream) -> Mapping[str, Tensor]:
        return by_tree(stream, model.boundary(stream), trees_of(stream))

    streams = pack(trees, BUDGET, keep_last=keep_last)
    kept = Remembered.made(folder, [source, first], model)
    files = (path for path, _ in kept.keep(streams, compute, progress, f"{what}: reading rows"))
    places = {key: path for stream, path in zip(streams, files, strict=True) if path for key, _ in trees_of(stream)}
    model.kept = Boundaries(first, places)
    return True


def by_tree(stream: Stream, hidden_TD: Tensor, trees: Iterable[tuple[str, slice]]) -> dict[str, Tensor]:
    """The states of each whole tree, the head's among them, by its name; ``trees`` as ``trees_of`` tells them."""
    head_TD = hidden_TD[: stream.head]
    return {key: torch.cat([head_TD, hidden_TD[place]]) for key, place in trees}


def joined(stream: Stream, trees: Sequence[Tensor]) -> Tensor:
    """The states of a stream from those of its whole trees: what ``by_tree`` took apart, under any head."""
    return torch.cat([trees[0][: stream.head], *(tree_TD[stream.head :] for tree_TD in trees)])


def trees_of(stream: Stream) -> Iterator[tuple[str, slice]]:
    """Each tree of a stream: a name for all that it holds, and its place on the axis, without the head."""
    head = stream.head
    above = (0, head) if head else None
    roots = [number for number, span in enumerate(stream.spans) if span.parent == above]
    for root, after in zip(roots, [*roots[1:], len(stream.spans)], strict=True):
        spans = stream.spans[root:after]
        start, stop = spans[0].start, spans[-1].stop
        ids = torch.cat([stream.ids_T[:head], stream.ids_T[start:stop]])
        stops = [head + span.stop - start for span in spans]
        yield hashlib.sha256(f"{stops} ".encode() + ids.numpy().tobytes()).hexdigest(), slice(start, stop)
