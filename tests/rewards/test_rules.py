"""Rules on length and format, by hand."""

from __future__ import annotations

import pytest

from burnish.rewards.rules import is_json_object, length_penalty, matches


@pytest.mark.parametrize(("tokens", "penalty"), [(0, -0.2), (2, 0.0), (10, 0.0), (11, -0.1), (20, -1.0)])
def test_length_by_hand(tokens: int, penalty: float) -> None:
    assert length_penalty(tokens, shortest=2, longest=10) == pytest.approx(penalty)


@pytest.mark.parametrize(
    ("answer", "found"), [("Yes.", 1.0), (" Yes.\n", 1.0), ("Yes. No.", 0.0), ("", 0.0), ("Yes", 0.0)]
)
def test_the_whole_answer_must_match(answer: str, found: float) -> None:
    assert matches(answer, r"(Yes|No)\.") == found


def test_a_dot_matches_newlines() -> None:
    assert matches("one\ntwo", "one.*two") == 1.0


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"city": "Bonn", "date": null}', 1.0),
        ('{"city": "Bonn"}', 0.0),
        ('["city", "date"]', 0.0),
        ('{"city": NaN, "date": 1}', 0.0),
        ('Here: {"city": 1, "date": 2}', 0.0),
        ("[" * 100_000, 0.0),
        ("", 0.0),
    ],
)
def test_a_json_object_with_keys(answer: str, found: float) -> None:
    assert is_json_object(answer, ["city", "date"]) == found
