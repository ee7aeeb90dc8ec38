"""Several processes that train one model: each takes its share of every window, and all take the same step.

They speak over gloo. Small things go as JSON, never as pickle; gradients as one sum.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")
WAIT = timedelta(minutes=30)  # for a worker that is behind; one that died is noticed at once


class Workers:
    """Worker ``rank`` of ``size``; by default the only one, who shares with nobody.

    Only worker 0 writes logs, checkpoints and the store.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, rank: int, size: int, meeting: Path) -> Workers:
        """Meet the others at the file ``meeting``, which is fresh for each time."""
        store = distributed.FileStore(str(meeting), size)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=WAIT)
        return cls(rank, size)

    def leave(self) -> None:
        """Close the connections."""
        if self.size > 1:
            distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This worker's part of what all of them have."""
        return items[self.rank :: self.size]

    def exchange(self, value: Any) -> list[Any]:
        """Every worker's value, in order of rank: what JSON can hold, numbers that are not finite included."""
        if self.size == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(mine)]))
        longest = int(max(lengths))
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        distributed.all_gather(texts, torch.nn.functional.pad(mine, (0, longest - len(mine))))
        return [json.loads(bytes(text[: int(n)].tolist()).decode()) for text, n in zip(texts, lengths, strict=True)]

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of all workers' gradients; where a worker has none, it adds nothing."""
        if self.size == 1 or not parameters:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()
