"""Parts of a reward and their weighted sum, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from burnish.errors import TrainingError
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Combined, Groups, Paid, Scores, Weighted, rewarded
from burnish.sampling import Sample

ASKED = [Asked([1], Row((Message("user", "a"),), None, 1)), Asked([2], Row((Message("user", "b"),), None, 2))]
SAMPLES = [[Sample((7, 8), (-1.0, -1.0), "stop"), Sample((9,), (-1.0,), "stop")], [Sample((3,), (-1.0,), "length")]]


def first_id(asked: Sequence[Asked], samples: Groups) -> Paid:
    return Paid([[float(sample.ids[0]) for sample in group] for group in samples])


def length(asked: Sequence[Asked], samples: Groups) -> Paid:
    return Paid([[float(len(sample.ids)) for sample in group] for group in samples])


def saying(*values: list[float | None]) -> Any:
    return lambda asked, samples: Paid(list(values), "it broke" if any(None in group for group in values) else None)


def groups_of(values: Sequence[Sequence[float | None]]) -> list[list[Sample]]:
    return [[Sample((1,), (-1.0,), "stop") for _ in group] for group in values]


def test_the_total_is_the_weighted_sum_and_each_part_is_told_apart() -> None:
    scores = Combined((Weighted("first", first_id, 0.5), Weighted("second", length, -2.0)))(ASKED, SAMPLES, {}, 0)
    assert scores.total == [[3.5 - 4.0, 4.5 - 2.0], [1.5 - 2.0]]
    assert scores.parts == {"first": [[7.0, 9.0], [3.0]], "second": [[2.0, 1.0], [1.0]]}
    assert scores.figures() == {"reward/first": 19 / 3, "reward/second": 4 / 3}


def test_a_failed_answer_is_left_out_and_counted_never_paid_zero() -> None:
    parts = (
        Weighted("sure", saying([1.0, 2.0], [3.0])),
        Weighted("judge", saying([None, 5.0], [0.0]), may_fail=True),
    )
    scores = Combined(parts)(ASKED, SAMPLES, {}, 0)
    assert scores.kept == [[1], [0]]
    assert scores.total == [[7.0], [3.0]]
    assert scores.parts == {"sure": [[2.0], [3.0]], "judge": [[5.0], [0.0]]}  # a reward of 0.0 is a reward
    assert scores.figures()["reward/judge/failed"] == 1.0 and "reward/sure/failed" not in scores.figures()
    assert scores.why == "it broke"


def test_prompts_without_enough_answers_are_left_out() -> None:
    scores = Scores([[1.0, 2.0], [3.0]], {"p": [[1.0, 2.0], [3.0]]}, [[0, 1], [0]], [[[1.0], [2.0]], [[3.0]]])
    asked, samples, left = rewarded(ASKED, SAMPLES, scores, least=2)
    assert (asked, samples) == (ASKED[:1], SAMPLES[:1])
    assert (left.total, left.parts, left.tokens) == ([[1.0, 2.0]], {"p": [[1.0, 2.0]]}, [[[1.0], [2.0]]])
    with pytest.raises(TrainingError, match="no prompt of 2 has 3 answers with a reward"):
        rewarded(ASKED, SAMPLES, scores, least=3)


def test_batch_and_running_scale_by_hand() -> None:
    rollouts: list[list[list[float | None]]] = [[[1.0, 3.0]], [[3.0, 9.0]]]
    found = {}
    for normalise in ("batch", "running"):
        scales: dict[str, Any] = {}
        found[normalise] = []
        for number, values in enumerate(rollouts):
            part = Weighted("p", saying(*values), 2.0, normalise)  # type: ignore[arg-type]
            found[normalise].append(Combined((part,))(ASKED[:1], groups_of(values), scales, number).total[0])
    assert found["batch"] == [[-2.0, 2.0], [-2.0, 2.0]]
    # all four: mean 4, squares 9 + 1 + 1 + 25, deviation 3
    assert found["running"] == [[-2.0, 2.0], pytest.approx([-2 / 3, 10 / 3])]


def test_a_rollout_that_is_replayed_does_not_count_twice() -> None:
    scales: dict[str, Any] = {}
    part = Combined((Weighted("p", saying([1.0, 3.0]), normalise="running"),))
    once = part(ASKED[:1], groups_of([[1.0, 3.0]]), scales, 0)
    before = {name: dict(known) for name, known in scales.items()}
    assert part(ASKED[:1], groups_of([[1.0, 3.0]]), scales, 0) == once and scales == before


def test_looks_stay_on_the_scale_of_the_first() -> None:
    """Else the reward on dev prompts would be 0 at every look, and the best checkpoint could not be told."""
    scales: dict[str, Any] = {}
    for values, wanted in (([1.0, 3.0], [-1.0, 1.0]), ([4.0, 6.0], [2.0, 4.0])):
        part = Combined((Weighted("p", saying(list(values)), normalise="batch"),))
        assert part(ASKED[:1], groups_of([values]), scales, None).total == [wanted]


def test_clipped_on_its_scale_and_before_its_weight() -> None:
    part = Combined((Weighted("p", saying([1.0, 3.0, 8.0]), weight=10.0, clip=(2.0, 5.0)),))
    assert part(ASKED[:1], groups_of([[1.0, 3.0, 8.0]]), {}, 0).total == [[20.0, 30.0, 50.0]]
