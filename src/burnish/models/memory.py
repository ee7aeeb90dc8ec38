"""Memory that is free, and that the process still holds."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def release() -> None:
    """Give what is free back to the system, where the C library can (glibc's ``malloc_trim``); else nothing.

    What one phase freed lies in pieces between what is kept, and the next one would ask for more beside it: so the
    peak of a process would be nearer to the sum of its phases than to the largest of them. Takes milliseconds.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be opened by no name
        return None
