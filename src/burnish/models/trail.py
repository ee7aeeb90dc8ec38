"""What an engine computed at every token while it drew: a trainer goes back along it, and need not run forward again.

The gradient of answers that were just drawn begins with a forward of the same weights over the same tokens, which the
engine has done. Axes: L layers, N tokens that the engine ran, T packed tokens of a stream, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from burnish.objectives import Stream, Tree

MOST = 512 << 20  # bytes that a trail may take
ROOT = -1  # the row before the first token

Inputs = Callable[[int], Tensor]  # the number of a layer (L: the norm after the last one) to its input [T, D]


class Trail:
    """The inputs of layers 1 to L at up to ``tokens`` tokens: [L, N, D]; layer 0 reads the embeddings.

    A token is found by all that was read before it. ``weights`` are what the model trains: once one of them has moved,
    nothing is found any more.
    """

    def __init__(self, weights: Iterable[Tensor], layers: int, tokens: int, width: int) -> None:
        self._states_LND = torch.empty(layers, tokens, width)  # what is never written takes no memory
        self._next: dict[tuple[int, int], int] = {}  # (row of the token before, id) -> row
        self._used = 0
        self._stamps = [(weight, weight._version) for weight in weights]

    @property
    def fresh(self) -> bool:
        """Whether no weight has been written since."""
        return all(weight._version == version for weight, version in self._stamps)

    def record(self, layer: int, hidden_TD: Tensor) -> None:
        """Keep what comes out of a layer at the tokens of a step, as many of the first ones as find room."""
        rows_TD = self._states_LND[layer, self._used : self._used + len(hidden_TD)]
        rows_TD.copy_(hidden_TD[: len(rows_TD)])

    def name(self, before: int | None, ids: Sequence[int], first: int) -> int | None:
        """Say which tokens of the step [``first``, ...) follow the one in row ``before``; returns the row of the last.

        None where ``before`` is None (a token that was not kept) or where they found no room.
        """
        if before is None or self._used + first + len(ids) > self._states_LND.shape[1]:
            return None
        for place, id in enumerate(ids, self._used + first):
            before = self._next.setdefault((before, id), place)
        return before

    def end_step(self, tokens: int) -> None:
        """The next step has other tokens."""
        self._used += tokens

    def find(self, ids: Sequence[int], before: int = ROOT) -> list[int] | None:
        """The rows of these ids after the token in row ``before``; None where one of them was not kept."""
        rows: list[int] = []
        for id in ids:
            row = self._next.get((before, id))
            if row is None:
                return None
            rows.append(row)
            before = row
        return rows

    def holds(self, trees: Sequence[Tree]) -> bool:
        """Whether every token of these trees is found, but for each answer's last one, which no engine runs."""
        if not self.fresh:
            return False
        for tree in trees:
            prompt = self.find(tree.prompt)
            if prompt is None or any(self.find(answer.ids[:-1], prompt[-1]) is None for answer in tree.answers):
                return False
        return True

    def inputs(self, stream: Stream) -> Inputs | None:
        """What gives each layer's input at the stream's tokens; None where one of them is not found."""
        if not self.fresh:
            return None
        ids, rows = stream.ids_T.tolist(), [ROOT] * len(stream.ids_T)
        for span in stream.spans:  # a parent comes before its children
            found = self.find(ids[span.start : span.stop], rows[span.parent[1] - 1] if span.parent else ROOT)
            if found is None:
                return None
            rows[span.start : span.stop] = found
        rows_T = torch.tensor(rows)
        return lambda layer: self._states_LND[layer - 1].index_select(0, rows_T)
