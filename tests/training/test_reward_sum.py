"""What rl is paid with: the learned reward, an own one, or their sum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from burnish.parts import Part
from burnish.records import Message, Reply, Row
from burnish.rewards.scores import Asked
from burnish.sampling import Sample
from burnish.training import online

ROWS = [Row((Message("user", "two"),), "2", 1), Row((Message("user", "three"),), "3", 2)]
SAMPLES = [[Sample((7, 1), (-1.0, -1.0), "stop"), Sample((8,), (-1.0,), "length")], [Sample((9,), (-1.0,), "length")]]


def own(reply: Reply) -> float:
    return 10.0 * reply.finished + float(reply.written or 0) + reply.tokens / 100


@pytest.mark.parametrize(
    ("learns", "owns", "wanted"),
    [
        (True, False, [[7.0, 8.0], [9.0]]),
        (False, True, [[12.02, 2.01], [3.01]]),
        (True, True, [[19.02, 10.01], [12.01]]),
    ],
)
def test_by_hand(monkeypatch: pytest.MonkeyPatch, learns: bool, owns: bool, wanted: Any) -> None:
    monkeypatch.setattr(online, "score_answers", lambda model, prompts, ids: [[float(i[0]) for i in g] for g in ids])
    task: Any = SimpleNamespace(
        reply=lambda row, s: Reply(row.prompt, "", s.finish_reason == "stop", len(s.ids), row.answer)
    )
    part = Part("mine:own", own, "mine.py 0", ()) if owns else None
    learned: Any = object() if learns else None
    score = online._score(part, task, learned)
    found = score([Asked([1], row) for row in ROWS], SAMPLES)
    assert [pytest.approx(group) for group in wanted] == found.total
    assert list(found.parts) == ["learned"] * learns + ["mine:own"] * owns
