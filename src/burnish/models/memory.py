"""Memory that is free, or could be read from its file again, and that the process still holds."""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

SMAPS = Path("/proc/self/smaps")
MAPPED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ [1-9][0-9]* +/")  # an area with an inode and a path
DONTNEED = 4  # Linux: the pages of a mapped file are read from it again when they are touched


def release() -> None:
    """Give what is free back to the system, where the C library can (glibc's ``malloc_trim``); else nothing.

    What one phase freed lies in pieces between what is kept, and the next one would ask for more beside it: so the
    peak of a process would be nearer to the sum of its phases than to the largest of them. Takes milliseconds.
    """
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


Area = tuple[int, int]  # addresses, [first, last)


def unwritten_files() -> list[Area]:
    """Where this process has files mapped of which it holds no page of its own (Linux)."""
    found: list[Area] = []
    try:
        lines = SMAPS.read_text().splitlines()
    except OSError:  # another system, or a container that hides it
        return found
    area, own = (0, 0), 0
    for line in lines:
        if line[0] in "0123456789abcdef":
            header = MAPPED.match(line)
            area = (int(header[1], 16), int(header[2], 16)) if header else (0, 0)
            own = 0
        elif line.startswith(("Anonymous:", "Swap:")):
            own += int(line.split()[1])
        elif line.startswith("VmFlags:") and area != (0, 0) and not own:  # the last line of each
            found.append(area)
    return found


def let_go(tensors: Iterable[Tensor], unwritten: Sequence[Area]) -> None:
    """Give back the pages of those tensors that lie in ``unwritten`` files; others stay as they are.

    They are there again when they are read: from the system's cache of the file, or from the disk.
    """
    advise, page = _of_libc("madvise"), mmap.PAGESIZE
    for tensor in tensors:
        start = -(-tensor.data_ptr() // page) * page
        stop = (tensor.data_ptr() + tensor.nbytes) // page * page
        if start < stop and any(first <= start and stop <= last for first, last in unwritten):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), DONTNEED)


@cache
def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be opened by no name
        return None
