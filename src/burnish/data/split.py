"""Splits that stay as they are when rows are added, and that share nothing.

A hash of whose row it is (or, where nobody is named, of the prompt) decides, never a position or a seed: an
added row moves no other, except that a held-out row that it nearly repeats is held out no longer. What was
once trained on is never held out later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from burnish.data.clean import Index
from burnish.data.read import Dropped
from burnish.records import Row, Split

Splits = dict[Split, list[Row]]


def place(row: Row) -> float:
    """A number in [0, 1) that depends on the row's subject, or on its prompt where it has none."""
    if row.subject is not None:
        parts = ["subject", row.subject]
    else:
        parts = ["prompt", *(f"{m.role}\0{m.content}" for m in row.prompt)]
    return int.from_bytes(hashlib.sha256("\0\0".join(parts).encode()).digest()[:8], "big") / 2**64


def split(rows: Sequence[Row], dev_share: float, test_share: float) -> Splits:
    """Train, dev and test rows in the given shares (in expectation), one subject in one split."""
    splits: Splits = {"train": [], "dev": [], "test": []}
    for row in rows:
        at = place(row)
        splits["test" if at < test_share else "dev" if at < test_share + dev_share else "train"].append(row)
    return splits


def split_by_likeness(rows: Sequence[Row], dev_share: float, test_share: float) -> Splits:
    """The split for rows that are variations of a few texts: like rows, and those of one subject, stay together.

    The largest group is trained on; the others are held out in the order of a hash until the shares are reached.
    Adding rows may move a group, which `split` never does: it is for files of which nothing else can be held out.
    """
    groups = sorted(_alike(rows), key=lambda group: min(map(place, group)))
    largest = max(groups, key=len, default=[])
    splits: Splits = {"train": [], "dev": [], "test": []}
    wanted: dict[Split, float] = {"test": test_share * len(rows), "dev": dev_share * len(rows)}
    for group in groups:
        room: list[Split] = [
            name
            for name, want in wanted.items()
            if len(splits[name]) < want and len(group) <= max(want, len(rows) / 4) and group is not largest
        ]
        splits[room[0] if room else "train"] += group
    return {name: sorted(held, key=lambda row: row.number) for name, held in splits.items()}


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in groups that are connected by near prompts or by one subject."""
    above = {id(row): id(row) for row in rows}

    def root(at: int) -> int:
        while above[at] != at:
            above[at] = at = above[above[at]]
        return at

    index, first = Index(), dict[str, Row]()
    for row in rows:
        if row.subject is not None:
            above[root(id(row))] = root(id(first.setdefault(row.subject, row)))
        for other in index.near(row, skip=lambda known: root(id(known)) == root(id(row))):  # noqa: B023
            above[root(id(row))] = root(id(other))
        index.add(row)
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(root(id(row)), []).append(row)
    return list(groups.values())


def keep_apart(splits: Mapping[Split, Sequence[Row]], movable: frozenset[Split]) -> tuple[Splits, list[Dropped]]:
    """The splits without a held-out prompt that equals or nearly repeats one that is trained on.

    Training rows win, then test rows, then dev rows; bare prompts and preferences give way to both. A row of a
    ``movable`` split (one that was cut from the training file) that belongs to nobody joins the training rows instead.
    """
    apart: Splits = {name: list(splits.get(name, ())) for name in ("train", "dev", "test", "prompts")}
    apart |= {name: list(rows) for name, rows in splits.items() if name == "preferences"}
    dropped: list[Dropped] = []
    trained = Index(apart["train"])
    moved = True
    while moved:
        moved = False
        for name in ("test", "dev"):
            kept: list[Row] = []
            for row in apart[name]:
                twin = trained.twin(row)
                if twin is None:
                    kept.append(row)
                elif name in movable and row.subject is None:
                    apart["train"].append(row)
                    trained.add(row)
                    moved = True
                else:
                    dropped.append(Dropped(row.number, f"its prompt nearly repeats training row {twin}", where=name))
            apart[name] = kept
    if movable:
        apart["train"].sort(key=lambda row: row.number)
    dropped += _give_way(apart, "dev", ("test",))
    dropped += _give_way(apart, "prompts", ("test", "dev"))
    if "preferences" in apart:
        dropped += _give_way(apart, "preferences", ("test", "dev"))
    return apart, dropped


def hold_out(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows to learn from and about a ``share`` to measure on, in order; no prompt of one nearly repeats the other's.

    A hash of the subject or the prompt decides, as in `split`; a held-out row that nearly repeats one that is learned
    is learned too.
    """
    learned = [row for row in rows if place(row) >= share]
    held = [row for row in rows if place(row) < share]
    index = Index(learned)
    while moved := [row for row in held if index.twin(row) is not None]:
        for row in moved:
            index.add(row)
        held = [row for row in held if not any(row is other for other in moved)]
        learned += moved
    return sorted(learned, key=lambda row: row.number), held


def _give_way(apart: Splits, name: Split, others: tuple[Split, ...]) -> list[Dropped]:
    index = Index(row for other in others for row in apart[other])
    twins = {id(row): index.twin(row) for row in apart[name]}
    lost = [row for row in apart[name] if twins[id(row)] is not None]
    apart[name] = [row for row in apart[name] if twins[id(row)] is None]
    kept_in = " or ".join(others)
    return [Dropped(r.number, f"its prompt nearly repeats {kept_in} row {twins[id(r)]}", where=name) for r in lost]
