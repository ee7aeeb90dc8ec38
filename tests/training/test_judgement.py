"""The test for a turn: by hand, on what it must not see, and how often it errs on equal looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.training.judgement import ALPHA, LEAST, interval, mean, standing, turned, win_shares


def test_win_shares_by_hand() -> None:
    shares = win_shares([math.log(3), 0.0, None, 900.0], [0.0, 0.0, 1.0, -900.0])
    assert shares[:3] == [pytest.approx(0.75), 0.5, None] and shares[3] == pytest.approx(1.0)


def test_too_few_answers_have_no_mean() -> None:
    few = [1.0] * (LEAST - 1) + [None] * 10
    assert mean(few) is None and interval(few, 0) is None
    assert mean([1.0] * LEAST + [None] * 10) == 1.0
    assert mean([1.0, 0.0]) == 0.5  # all there are
    assert turned({0: [0.5, 0.5], 2: [0.0, 0.0]}, 1, ALPHA, 0) is None  # too few to be sure


def test_how_good_a_look_is_comes_from_the_votes_of_several() -> None:
    """By hand: the newest four looks that raters spoke about, the start's half among them; then the model's change."""
    equal = [0.5] * LEAST
    predicted = {0: equal, 2: [0.6] * LEAST, 4: [0.7] * LEAST}
    assert standing({0: equal}, {0: equal}) == 0.5
    assert standing(predicted, {}) == pytest.approx(0.7)  # nobody was asked
    unheard = [1.0] + [None] * LEAST  # one vote is none
    assert standing(predicted, {0: equal, 2: unheard, 4: unheard}) == pytest.approx(0.7)
    nothing: list[float | None] = [None] * LEAST
    assert standing(predicted | {6: nothing}, {}) == 0.5  # the model has no number for the newest look
    for share in (0.51, 0.55, 0.62):  # what raters said is not rounded by what the model said
        assert standing({0: equal, 2: [share] * LEAST}, {0: equal, 2: equal}) == 0.5
    voted = {0: equal, 2: [1.0] * LEAST}
    assert standing(predicted, voted) == pytest.approx((0.5 + 1.0) / 2 + (0.7 - 0.6))
    assert standing(predicted, voted | {4: [0.0] * LEAST}) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    later = {step: [0.7] * LEAST for step in (6, 8)}
    assert standing(predicted | later, voted | later) == pytest.approx((0.5 + 1.0 + 0.7 + 0.7) / 4)
    later[10] = equal
    assert standing(predicted | later, voted | later) == pytest.approx((1.0 + 0.7 + 0.7 + 0.5) / 4)


def test_a_turn_is_measured_against_the_best_look() -> None:
    start = [0.5] * 24
    good = [0.9, 0.8] * 12
    bad = [0.3, 0.5, 0.4, 0.6] * 6
    found = turned({0: start, 2: good, 4: bad}, 2, ALPHA, 0)
    assert found is not None
    best, apart = found
    assert best == 2 and apart.value == pytest.approx(0.45 - 0.85) and apart.high is not None and apart.high < 0
    assert turned({0: start, 2: bad, 4: good}, 2, ALPHA, 0) is None
    late = turned({0: start, 2: good, 4: bad, 6: bad}, 3, ALPHA, 0)
    assert late is not None and late[0] == 2  # no worse than the look before it, but than the best
    assert turned({0: start}, 1, ALPHA, 0) is None
    assert turned({0: start, 2: [0.46, 0.45] * 12}, 1, ALPHA, 0) is None  # sure, and too little to stop for
    assert turned({0: start, 2: [0.44, 0.43] * 12}, 1, ALPHA, 0) is not None


def test_only_prompts_that_both_looks_speak_about_count() -> None:
    first: list[float | None] = [1.0] * 12 + [None] * 12
    second: list[float | None] = [None] * 12 + [0.0] * 12
    assert turned({2: first, 4: second}, 1, ALPHA, 0) is None


def test_each_further_look_must_be_surer() -> None:
    draw = np.random.default_rng(5)
    then = [0.5] * 24
    now = (0.5 - 0.09 + 0.11 * draw.standard_normal(24)).tolist()
    assert turned({0: then, 2: now}, 1, ALPHA, 0) is not None
    assert turned({0: then, 2: now}, 9, ALPHA, 0) is None


def test_ten_looks_at_a_policy_that_stays_equal_seldom_stop() -> None:
    """Votes of which a half are won at every look: over 40 runs of ten looks the share stopped stays small."""
    draw, stopped = np.random.default_rng(0), 0
    for run in range(40):
        looks: dict[int, list[float]] = {0: [0.5] * 24}
        for use in range(1, 11):
            looks[use] = draw.integers(0, 2, 24).astype(float).tolist()
            if turned({**looks}, use, ALPHA, run) is not None:
                stopped += 1
                break
    assert stopped <= 4
