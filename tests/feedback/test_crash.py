"""SIGKILL from outside, at any moment: no acknowledged vote is lost, and none is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from burnish.feedback import Receipt, ensure_rater, record_vote, votes
from burnish.store import schema as tables

VOTER = """
import sys
from pathlib import Path
from burnish.feedback import ensure_rater, record_vote
from burnish.store import open_store

store = open_store(Path(sys.argv[1]))
rater = ensure_rater(store, "support", sys.argv[2])
for number in range(int(sys.argv[3]), 100_000):
    key = f"{sys.argv[2]}-{number}"
    receipt = record_vote(store, "support", rater, "edit", key=key, exchange=sys.argv[4], text=f"Answer {key}.")
    print(key, receipt.sequence, flush=True)
"""


def test_acknowledged_votes_survive_sigkill_and_none_is_doubled(desk_at: Callable[[Path], Any], tmp_path: Path) -> None:
    desk = desk_at(tmp_path / "store")
    answers = {name: desk.answer("No.") for name in ("ann", "bob")}
    draw = random.Random(0)
    acknowledged: dict[str, int] = {}
    for _ in range(3):
        voters = {name: _voter(desk.store.path, name, acknowledged, answers[name]) for name in answers}
        for name, voter in voters.items():  # both are in the middle of it when they die
            assert voter.stdout is not None
            _read(voter, acknowledged, lines=draw.randint(3, 25) if name == "ann" else 1)
        for voter in voters.values():
            os.killpg(voter.pid, signal.SIGKILL)
        for voter in voters.values():
            _read(voter, acknowledged)
            voter.wait()
    with desk.store.read() as conn:
        kept = {row.key: row.sequence for row in conn.execute(select(tables.votes.c.key, tables.votes.c.sequence))}
    assert len(acknowledged) >= 12
    assert {key: kept.get(key) for key in acknowledged} == acknowledged
    assert len(kept) <= len(acknowledged) + 2 * 3  # at most one vote of each killed voter was not yet acknowledged
    assert len(set(kept.values())) == len(kept)
    assert list(desk.store.verify().problems) == []


def _voter(path: Path, name: str, acknowledged: dict[str, int], answer: str) -> subprocess.Popen[str]:
    """Starts again at the last vote that it knows to be in: a client that repeats itself."""
    last = max((int(key.split("-")[1]) for key in acknowledged if key.startswith(name)), default=0)
    command = [sys.executable, "-c", VOTER, str(path), name, str(last), answer]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _read(voter: subprocess.Popen[str], acknowledged: dict[str, int], lines: int | None = None) -> None:
    assert voter.stdout is not None
    for number, line in enumerate(voter.stdout, 1):
        key, _, sequence = line.rstrip("\n").partition(" ")
        if line.endswith("\n"):
            assert acknowledged.setdefault(key, int(sequence)) == int(sequence)
        if number == lines:
            return


def test_one_event_sent_by_many_at_once_is_kept_once(desk: Any) -> None:
    ann, answer = ensure_rater(desk.store, "support", "ann"), desk.answer("No.")
    receipts: list[Receipt] = []
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        receipts.append(record_vote(desk.store, "support", ann, "thumb", key="k", exchange=answer, value=1))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipt.duplicate for receipt in receipts) == [False] + [True] * 7
    assert {receipt.sequence for receipt in receipts} == {1}
    assert len(votes(desk.store, "support")) == 1
