"""Intervals over clusters: numbers worked out by hand, coverage by simulation, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.errors import EvaluationError
from burnish.statistics import crossed_bootstrap, mean_interval, paired_bootstrap


def test_mean_and_interval_of_two_clusters_by_hand() -> None:
    # drawn again, two clusters of means 0 and 1 give 0, 1/2 and 1 in 1, 2 and 1 of 4 cases
    figure = mean_interval([0.0, 1.0], ["p", "q"], seed=0)
    assert (figure.value, figure.low, figure.high, figure.clusters) == (0.5, 0.0, 1.0, 2)
    middle = mean_interval([0.0, 1.0], ["p", "q"], seed=0, level=0.4)
    assert (middle.low, middle.high) == (0.5, 0.5)


def test_a_cluster_weighs_as_many_values_as_it_has() -> None:
    figure = mean_interval([1.0, 1.0, 1.0, 0.0], ["p", "p", "p", "q"], seed=0)
    assert figure.value == 0.75
    assert figure.clusters == 2


def test_interval_is_that_of_the_normal_theory_where_it_holds() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    figure = mean_interval(values, range(400), seed=2, resamples=8000)
    half = 1.96 * values.std(ddof=1) / 20
    assert figure.value == pytest.approx(values.mean())
    assert figure.low == pytest.approx(values.mean() - half, abs=0.02)
    assert figure.high == pytest.approx(values.mean() + half, abs=0.02)


def test_skewed_values_get_a_skewed_interval() -> None:
    values = np.random.default_rng(3).exponential(size=60)
    figure = mean_interval(values, range(60), seed=4, resamples=4000)
    assert figure.high is not None and figure.low is not None
    assert figure.high - figure.value > 1.1 * (figure.value - figure.low)


def test_clusters_are_drawn_whole() -> None:
    # ten answers of one prompt say no more than one of them
    prompts = np.random.default_rng(5).normal(size=50)
    once = mean_interval(prompts, range(50), seed=6)
    tenfold = mean_interval(np.repeat(prompts, 10), np.repeat(np.arange(50), 10).tolist(), seed=6)
    assert once.low == pytest.approx(tenfold.low) and once.high == pytest.approx(tenfold.high)


def test_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), 3).tolist()
    covered = 0
    for run in range(300):
        values = np.repeat(draw.normal(size=60), 3) + draw.normal(size=180)
        figure = mean_interval(values, clusters, seed=run, resamples=400)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= 0 <= figure.high
    assert 0.90 <= covered / 300 <= 0.985


def test_pairs_are_compared_pair_by_pair() -> None:
    """Prompts differ far more than versions do: paired, a difference of 0.1 is plain; unpaired it is lost."""
    draw = np.random.default_rng(8)
    easy = draw.normal(scale=3.0, size=80)
    a, b = easy + 0.1 + draw.normal(scale=0.1, size=80), easy + draw.normal(scale=0.1, size=80)
    figure = paired_bootstrap(a, b, range(80), seed=9)
    assert figure.value == pytest.approx((a - b).mean())
    assert figure.low is not None and figure.high is not None
    assert 0.0 < figure.low < figure.value < figure.high < 0.2
    unpaired = paired_bootstrap(a, draw.permutation(b), range(80), seed=9)
    assert unpaired.low is not None and unpaired.low < 0.0


def test_same_seed_same_interval_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(10).normal(size=30)
    first = mean_interval(values, range(30), seed=11)
    assert mean_interval(values, range(30), seed=11) == first
    assert mean_interval(values, range(30), seed=12) != first
    monkeypatch.setattr("burnish.statistics.resampling.BLOCK", 30 * 7)
    assert mean_interval(values, range(30), seed=11) == first


def test_one_cluster_has_no_interval_and_equal_clusters_one_of_no_width() -> None:
    assert mean_interval([0.2, 0.4], ["p", "p"], seed=0).low is None
    equal = mean_interval([0.3, 0.3, 0.3], ["p", "q", "r"], seed=0)
    assert (equal.low, equal.value, equal.high) == (0.3, 0.3, 0.3)


def test_pooled_over_runs_both_runs_and_prompts_are_drawn_again() -> None:
    flat = crossed_bootstrap([[1.0, 2.0], [1.0, 2.0]], seed=0)
    assert (flat.value, flat.low, flat.high, flat.clusters) == (1.5, 1.0, 2.0, 2)
    runs = crossed_bootstrap([[0.0] * 50, [1.0] * 50, [2.0] * 50], seed=0)
    assert (runs.value, runs.low, runs.high) == (1.0, pytest.approx(0.0), pytest.approx(2.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(EvaluationError, match="not finite, the first at position 1"):
        mean_interval([0.0, bad, 1.0], ["p", "q", "r"], seed=0)
    with pytest.raises(EvaluationError, match="not finite"):
        paired_bootstrap([0.0, 1.0], [1.0, bad], ["p", "q"], seed=0)
    with pytest.raises(EvaluationError, match="not finite"):
        crossed_bootstrap([[0.0, bad]], seed=0)


def test_what_cannot_be_a_figure_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no value"):
        mean_interval([], [], seed=0)
    with pytest.raises(EvaluationError, match="2 values against 3"):
        mean_interval([1.0, 2.0], ["p", "q", "r"], seed=0)
    with pytest.raises(EvaluationError, match="2 values against 1"):
        paired_bootstrap([1.0, 2.0], [1.0], ["p", "q"], seed=0)
    with pytest.raises(EvaluationError, match="level"):
        mean_interval([1.0, 2.0], ["p", "q"], seed=0, level=1.0)
    with pytest.raises(EvaluationError, match="table"):
        crossed_bootstrap(np.array([1.0, 2.0]), seed=0)
