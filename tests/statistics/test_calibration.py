"""Calibration and shares, by hand."""

from __future__ import annotations

import math

import pytest

from burnish.errors import EvaluationError
from burnish.statistics import Bin, calibration_error, reliability, share_interval


def test_calibration_error_by_hand() -> None:
    p, y = [0.9, 0.9, 0.9, 0.9, 0.2], [1.0, 1.0, 1.0, 0.0, 1.0]
    assert reliability(p, y, bins=10) == [
        Bin(0.2, 0.3, 1, 0.2, 1.0),
        Bin(0.9, 1.0, 4, pytest.approx(0.9), 0.75),
    ]
    assert calibration_error(p, y, bins=10) == pytest.approx((4 * 0.15 + 1 * 0.8) / 5)


def test_probability_one_falls_in_the_last_bin() -> None:
    assert reliability([1.0, 0.0], [1, 0], bins=4) == [
        Bin(0.0, 0.25, 1, 0.0, 0.0),
        Bin(0.75, 1.0, 1, 1.0, 1.0),
    ]
    assert calibration_error([1.0, 0.0], [1, 0]) == 0.0


def test_what_is_no_probability_is_refused() -> None:
    for p, y in (([1.2], [1]), ([0.5], [2]), ([math.nan], [1]), ([0.5, 0.5], [1]), ([], [])):
        with pytest.raises(EvaluationError):
            calibration_error(p, y)
    with pytest.raises(EvaluationError):
        calibration_error([0.5], [1], bins=0)


def test_share_interval_by_hand() -> None:
    figure = share_interval(8, 10)
    assert (figure.value, figure.clusters) == (0.8, 10)
    assert figure.low == pytest.approx(0.4902, abs=1e-4)
    assert figure.high == pytest.approx(0.9433, abs=1e-4)
    assert share_interval(0, 10).low == 0.0
    assert share_interval(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    for successes, total in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(EvaluationError):
            share_interval(successes, total)
