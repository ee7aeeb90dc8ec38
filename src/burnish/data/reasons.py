"""Why rows are left out, told to people: each reason once, with its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

MOST = 10  # row numbers that a line names, and lines


def by_reason(found: Iterable[tuple[int, str]]) -> list[str]:
    """A line for each reason with the numbers of its rows, in the order in which they come.

    At most ten lines, and in each at most ten numbers; what is not named is counted.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for number, reason in found:
        rows[reason].append(number)
    lines = [f"{numbered(numbers)}: {reason}" for reason, numbers in list(rows.items())[:MOST]]
    rest = sum(map(len, list(rows.values())[MOST:]))
    return lines + ([f"and {rest} more row{'s' * (rest > 1)}"] if rest else [])


def numbered(rows: Sequence[int]) -> str:
    """``row 4``; ``rows 4, 7, 9``; ``rows 1, 2, ... and 30 more``."""
    more = f" and {len(rows) - MOST} more" if len(rows) > MOST else ""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:MOST]))}{more}"
