"""Metrics by hand, and the spread of linearised figures against fresh draws."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from burnish.evaluation.metrics import (
    METRICS,
    difference_of,
    distinct_2,
    figure_of,
    metric_of,
    ratio_numbers,
    repeats,
    shown,
)
from burnish.records import Figure


def mean(values):
    return math.fsum(values) / len(values)


def test_distinct_2_by_hand():
    # bigrams: a b, b c | a b, b d: 3 distinct of 4. Without the first 2 of 2, without the second 2 of 2.
    assert mean(distinct_2(["a b c", "A b d"])) == pytest.approx(3 / 4)
    assert distinct_2(["a b c", "a b d"]) == pytest.approx([0.75, 0.75])
    # bigrams: a a, a a | b c: 2 distinct of 3; without the first 1 of 1, without the second 1 of 2; middle 3/4
    assert distinct_2(["a a a", "b c"]) == pytest.approx([2 / 3 + (0.75 - 1), 2 / 3 + (0.75 - 0.5)])
    assert distinct_2(["one", ""]) == [0.0, 0.0]
    assert mean(distinct_2(["only one text"])) == pytest.approx(1.0)


def test_the_spread_of_distinct_2_is_that_of_fresh_texts():
    words = [f"w{n}" for n in range(60)]
    weights = [1 / (n + 1) for n in range(60)]
    draw = random.Random(0)

    def corpus():
        return [" ".join(draw.choices(words, weights, k=draw.randint(4, 12))) for _ in range(80)]

    figures, errors = [], []
    for _ in range(150):
        numbers = distinct_2(corpus())
        figures.append(mean(numbers))
        errors.append(statistics.stdev(numbers) / math.sqrt(len(numbers)))
    assert mean(errors) == pytest.approx(statistics.stdev(figures), rel=0.25)


def test_a_ratio_of_means_by_hand():
    numbers = ratio_numbers([2.0, 4.0], [1.0, 3.0])
    assert mean(numbers) == pytest.approx(6 / 4)
    assert numbers == pytest.approx([1.5 + (2 - 1.5) / 2, 1.5 + (4 - 4.5) / 2])
    assert all(math.isnan(value) for value in ratio_numbers([1.0], [0.0]))


def test_repeats_reads_four_words():
    assert repeats("Please send the form, then please send the form again.")
    assert not repeats("Please send the form, then please send the other form.")


def test_a_figure_never_smooths_over_what_is_missing():
    clusters = list(range(4))
    assert figure_of([1.0, None, 3.0, None], clusters, seed=0).value == 2.0
    assert figure_of([1.0, None, 3.0, None], clusters, seed=0).clusters == 2
    for values in ([None] * 4, [1.0, math.nan, 2.0, 3.0], [1.0, math.inf, 2.0, 3.0]):
        figure = figure_of(values, clusters, seed=0)
        assert math.isnan(figure.value) and figure.low is None and figure.high is None
    apart = difference_of([1.0, math.nan, 1.0, 1.0], [0.0] * 4, clusters, seed=0)
    assert math.isnan(apart.value) and apart.low is None


def test_the_difference_is_paired_by_item():
    hard = [float(n * n) for n in range(60)]
    figure = difference_of([value + 1 + n % 2 for n, value in enumerate(hard)], hard, list(range(60)), seed=0)
    assert figure.value == pytest.approx(1.5)
    assert figure.low is not None and figure.high is not None and figure.high - figure.low < 0.3


def test_a_share_that_is_the_same_everywhere_has_wilsons_interval_over_clusters():
    none = figure_of([0.0] * 96, [n // 2 for n in range(96)], seed=0, metric=METRICS["cut"])
    assert none.low == 0.0 and none.high == pytest.approx(0.0741, abs=1e-3) and none.clusters == 48
    every = figure_of([1.0] * 96, list(range(96)), seed=0, metric=METRICS["cut"])
    assert every.low == pytest.approx(0.9615, abs=1e-3) and every.high == 1.0


def test_no_figure_of_distinct_2_is_above_one():
    texts = [f"unlike{n} words{n} here{n}" for n in range(60)] + ["some words again", "some words again"]
    numbers = distinct_2(texts)
    free = figure_of(numbers, list(range(62)), seed=0)
    held = figure_of(numbers, list(range(62)), seed=0, metric=METRICS["distinct_2"])
    assert free.high is not None and free.high > 1.0 == held.high and held.low == free.low


def test_metrics_are_found_by_name():
    assert metric_of("loss") is METRICS["loss"]
    utility = metric_of("score.utility")
    assert utility is not None and utility.better == "higher"
    assert metric_of("score.") is None and metric_of("lose") is None


def test_small_numbers_are_shown_with_three_digits():
    assert shown(Figure(0.61, 0.55, 0.664)) == "0.61 [0.55, 0.66]"
    assert shown(Figure(0.012, -0.004, 0.13)) == "0.012 [-0.004, 0.13]"
    assert shown(Figure(math.nan)) == "nan"
