"""Win rates, strengths and agreement, against numbers by hand and an independent optimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.errors import EvaluationError
from burnish.statistics import agreement, bradley_terry, win_rate


def test_win_rate_counts_a_tie_as_half() -> None:
    figure = win_rate(["a", "a", "b", "tie"], ["p", "p", "q", "q"], seed=0)
    assert figure.value == 0.625
    assert (figure.low, figure.high, figure.clusters) == (0.25, 1.0, 2)


def test_two_versions_have_the_strengths_of_their_wins() -> None:
    assert bradley_terry([[0, 3], [1, 0]]) == pytest.approx([0.75, 0.25])


def test_strengths_of_three_versions_by_hand() -> None:
    # consistent odds: 1 beats 2 two to one, 2 beats 3 two to one, 1 beats 3 four to one
    assert bradley_terry([[0, 2, 4], [1, 0, 2], [1, 1, 0]]) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def climb(wins: np.ndarray) -> np.ndarray:
    """The maximum by plain gradient ascent on the scores, which shares nothing with Newton's method."""
    scores = np.zeros(len(wins))
    for _ in range(200_000):
        chance = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
        gradient = (wins - (wins + wins.T) * chance).sum(axis=1)
        scores += gradient / (wins + wins.T).sum()
        if np.abs(gradient).max() < 1e-9:
            break
    return np.exp(scores) / np.exp(scores).sum()


@pytest.mark.parametrize("seed", range(5))
def test_strengths_are_at_the_maximum(seed: int) -> None:
    draw = np.random.default_rng(seed)
    wins = draw.integers(1, 30, size=(5, 5)) * draw.choice([0.5, 1.0], size=(5, 5))
    np.fill_diagonal(wins, 0)
    assert bradley_terry(wins) == pytest.approx(climb(wins), abs=1e-6)


def test_lopsided_wins_still_reach_the_maximum() -> None:
    """One version wins nearly always: where estimators that stop early are furthest off."""
    wins = np.array([[0, 97, 99], [3, 0, 90], [1, 10, 0]], dtype=float)
    found = bradley_terry(wins)
    assert found == pytest.approx(climb(wins), abs=1e-7)
    assert found[0] > 0.95


def test_strengths_without_a_maximum_are_refused() -> None:
    with pytest.raises(EvaluationError, match="never lost to"):
        bradley_terry([[0, 5], [0, 0]])
    with pytest.raises(EvaluationError, match="never lost to"):
        bradley_terry([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 2], [0, 0, 2, 0]])
    with pytest.raises(EvaluationError, match="square"):
        bradley_terry([[0, 1, 2], [1, 0, 2]])
    with pytest.raises(EvaluationError, match="not finite"):
        bradley_terry([[0, math.nan], [1, 0]])
    with pytest.raises(EvaluationError, match="between"):
        bradley_terry([[0, -1], [1, 0]])


def test_agreement_counts_pairs_of_raters_by_hand() -> None:
    votes = [
        ("i1", "x", "a"), ("i1", "y", "a"), ("i1", "z", "b"),  # one pair of three agrees
        ("i2", "x", "b"), ("i2", "y", "b"),  # agrees
        ("i3", "x", "a"), ("i3", "y", "tie"),  # no pair with two sides
        ("i4", "x", "a"),  # no pair
    ]  # fmt: skip
    figure = agreement(votes, seed=0)  # type: ignore[arg-type]
    assert figure.value == 0.5
    assert figure.clusters == 2
    assert figure.low is not None and figure.high is not None
    assert figure.low < 0.5 <= figure.high


def test_agreement_that_cannot_be_known_is_refused() -> None:
    with pytest.raises(EvaluationError, match="two raters"):
        agreement([("i1", "x", "a"), ("i2", "y", "a")], seed=0)
    with pytest.raises(EvaluationError, match="two votes"):
        agreement([("i1", "x", "a"), ("i1", "x", "b")], seed=0)
