"""Parameters, what training refuses, and the mismatch of sampler and trainer, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from burnish.errors import SamplingError
from burnish.sampling import MISMATCH_LIMIT, Params, Stop, mismatch, require_exact


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"top_k": -1},
        {"min_p": -0.1},
        {"min_p": 1.0},
        {"min_p": math.nan},
        {"max_new_tokens": 0},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SamplingError, match=next(iter(wrong))):
        Params(**wrong)


def test_training_refuses_what_changes_the_distribution() -> None:
    require_exact(Params(temperature=0.7))
    for name, value in (("top_p", 0.9), ("top_k", 40), ("min_p", 0.05)):
        with pytest.raises(SamplingError, match=f"{name} {value} truncates"):
            require_exact(Params(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(SamplingError, match="greedy"):
        require_exact(Params(temperature=0))


def test_the_text_ends_before_the_first_stop_string_wherever_tokens_border() -> None:
    pieces = ["say ", "EN", "D now", " STOP"]
    stop = Stop(("STOP", "END"), lambda ids: "".join(pieces[i] for i in ids))
    assert [stop.found(range(n)) for n in range(5)] == [None, None, None, "END", "END"]
    assert [stop.cut(range(n)) for n in range(5)] == ["", "say ", "say EN", "say ", "say "]
    for wrong in ((), ("",), ("x", "")):
        with pytest.raises(SamplingError, match="empty"):
            Stop(wrong, stop.text)


def test_mismatch_is_the_mean_of_exp_of_the_absolute_difference() -> None:
    assert mismatch([-1.0, -2.0], [-1.0, -2.0]) == 1.0
    # differences of both signs must not cancel: (e^0.1 + e^0.3) / 2
    assert mismatch([-1.0, -2.0], [-1.1, -1.7]) == pytest.approx((math.exp(0.1) + math.exp(0.3)) / 2)
    assert mismatch([-1.0], [-1.02]) > MISMATCH_LIMIT > mismatch([-1.0], [-1.009])
    assert mismatch([0.0], [-5000.0]) > 1e300


@pytest.mark.parametrize(("a", "b"), [([], []), ([-1.0], [-1.0, -2.0]), ([math.nan], [-1.0]), ([-1.0], [-math.inf])])
def test_mismatch_of_what_cannot_be_compared_is_an_error(a: list[float], b: list[float]) -> None:
    with pytest.raises(SamplingError):
        mismatch(a, b)
