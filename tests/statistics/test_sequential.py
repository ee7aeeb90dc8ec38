"""What may be looked at more than once: simulated peeking, and error shared among uses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.errors import EvaluationError
from burnish.statistics import alpha_for_use, confidence_sequence
from burnish.statistics.sequential import radius


def test_radius_by_hand() -> None:
    prior = 25 / (2 * math.log(20) + math.log(1 + 2 * math.log(20)))
    assert prior == pytest.approx(3.1501, abs=1e-4)
    by_hand = math.sqrt((25 + prior) * math.log((25 + prior) / (prior * 0.05**2))) / 100
    assert radius(100, 0.95, 100) == pytest.approx(by_hand) == pytest.approx(0.1518, abs=1e-4)


def test_thirty_daily_peeks_keep_false_alarms_under_alpha() -> None:
    """No difference in truth, 20 votes a day, a look each evening: how often does some look cry wolf?"""
    draw = np.random.default_rng(0)
    days = np.arange(20, 601, 20)
    votes = draw.choice([0.0, 0.5, 1.0], p=[0.45, 0.1, 0.45], size=(4000, 600))
    means = votes.cumsum(axis=1)[:, days - 1] / days
    bounds = np.array([radius(int(day), 0.95, 100) for day in days])
    assert (np.abs(means - 0.5) > bounds).any(axis=1).mean() <= 0.05
    fixed = 1.96 * votes.std() / np.sqrt(days)
    assert (np.abs(means - 0.5) > fixed).any(axis=1).mean() > 0.2  # what a test for one look does


def test_figure_holds_the_sequence_and_finds_a_difference() -> None:
    votes = np.random.default_rng(1).choice([0.0, 1.0], p=[0.35, 0.65], size=300)
    figure = confidence_sequence(votes)
    assert figure.low is not None and figure.high is not None
    assert figure.value == pytest.approx(votes.mean()) and figure.clusters == 300
    assert figure.high - figure.low == pytest.approx(2 * radius(300, 0.95, 100))
    assert figure.low > 0.5
    assert (confidence_sequence([1.0]).low, confidence_sequence([1.0]).high) == (0.0, 1.0)


def test_values_outside_are_refused() -> None:
    for values in ([0.5, 1.5], [-0.1], [math.nan], []):
        with pytest.raises(EvaluationError):
            confidence_sequence(values)


def test_uses_of_one_set_spend_alpha_together() -> None:
    assert [alpha_for_use(n) for n in (1, 2, 3)] == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert sum(alpha_for_use(n) for n in range(1, 20_000)) == pytest.approx(0.05, abs=1e-5)
    for use, alpha in ((0, 0.05), (1, 0.0), (1, 1.0)):
        with pytest.raises(EvaluationError):
            alpha_for_use(use, alpha)
