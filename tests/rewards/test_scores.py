"""Parts of a reward and their weighted sum, by hand."""

from __future__ import annotations

from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Combined, Weighted
from burnish.sampling import Sample

ASKED = [Asked([1], Row((Message("user", "a"),), None, 1)), Asked([2], Row((Message("user", "b"),), None, 2))]
SAMPLES = [[Sample((7, 8), (-1.0, -1.0), "stop"), Sample((9,), (-1.0,), "stop")], [Sample((3,), (-1.0,), "length")]]


def test_the_total_is_the_weighted_sum_and_each_part_is_told_apart() -> None:
    first = Weighted("first", lambda asked, samples: [[float(s.ids[0]) for s in group] for group in samples], 0.5)
    second = Weighted("second", lambda asked, samples: [[float(len(s.ids)) for s in group] for group in samples], -2.0)
    scores = Combined((first, second))(ASKED, SAMPLES)
    assert scores.total == [[3.5 - 4.0, 4.5 - 2.0], [1.5 - 2.0]]
    assert scores.parts == {"first": [[7.0, 9.0], [3.0]], "second": [[2.0, 1.0], [1.0]]}
    assert scores.figures() == {"reward/first": 19 / 3, "reward/second": 4 / 3}
