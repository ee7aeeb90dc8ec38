"""What a run must hold fixed so that a resumed one ends with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from burnish.config import host
from burnish.training.workers import Workers


def conditions(workers: Workers) -> dict[str, str]:
    """What moves the last bits of a sum: the threads, the workers, the library that adds up, where and how exactly."""
    threads, torch_is = str(torch.get_num_threads()), str(torch.__version__)
    return {"threads": threads, "workers": str(workers.size), "torch": torch_is, **host.described()}


@contextmanager
def deterministic() -> Iterator[None]:
    """Within it equal inputs give equal bits: an operation that cannot is an error of torch's.

    The number of threads must not change on its own either: the command line sets MKL_DYNAMIC and OMP_DYNAMIC to false.
    """
    before, memory = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    filled = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs, and nothing reads what is empty
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
