"""Average precision, by hand."""

from __future__ import annotations

import pytest

from burnish.errors import EvaluationError
from burnish.statistics import average_precision


def test_the_mean_precision_at_each_event_that_is_found() -> None:
    # highest first: a hit (1 of 1), a miss, a hit (2 of 3), a miss
    found = average_precision([0.1, 0.9, 0.3, 0.2], [False, True, False, True], "abcd", seed=0)
    assert found.value == pytest.approx((1 + 2 / 3) / 2)
    assert found.low is not None and found.high is not None and found.low <= found.value <= found.high


def test_equal_scores_are_one_step_so_that_guessing_has_the_base_rate() -> None:
    assert average_precision([0.5] * 4, [True, False, False, False], "abcd", seed=0).value == 0.25
    # two at 0.9 of which one is a hit (precision 1/2), then a hit at 0.1 (2/3)
    assert average_precision([0.9, 0.9, 0.1], [True, False, True], "aab", seed=0).value == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )


def test_whole_clusters_are_drawn_again_and_one_alone_has_no_interval() -> None:
    assert average_precision([0.9, 0.1], [True, False], "aa", seed=0).low is None
    scores, wrong = [0.9, 0.8, 0.2, 0.1] * 10, [True, False, True, False] * 10
    alone = average_precision(scores, wrong, [*range(40)], seed=1)
    together = average_precision(scores, wrong, [i // 4 for i in range(40)], seed=1)
    assert together.low == together.high == alone.value and alone.low < alone.high  # type: ignore[operator]


def test_without_the_event_there_is_nothing_to_find() -> None:
    with pytest.raises(EvaluationError, match="never happened"):
        average_precision([0.1, 0.2], [False, False], "ab", seed=0)
