"""Means and deviations of parts, by hand."""

from __future__ import annotations

import pytest

from burnish.rewards.scale import Moments, moments, pooled, standardised


def test_moments_by_hand() -> None:
    assert moments([1.0, 2.0, 6.0]) == Moments(3.0, 3.0, 14.0)
    assert moments([]) == Moments(0.0, 0.0, 0.0)


def test_pooled_moments_are_those_of_all_numbers_together() -> None:
    parts = ([1.0, 2.0, 6.0], [], [4.0], [-3.0, 0.5])
    assert pooled(map(moments, parts)) == pytest.approx(moments([x for part in parts for x in part]))


def test_standardised_by_hand() -> None:
    scale = moments([1.0, 3.0])  # mean 2, population deviation 1
    assert standardised(5.0, scale) == 3.0
    assert standardised(7.0, moments([2.0, 2.0])) == 5.0  # equal numbers are only moved
    assert standardised(7.0, Moments()) == 7.0
