"""The front between criteria, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.records import Figure
from burnish.rewards.front import dominated, front


def pair(prompt: str, margins: tuple[float, float], shares: dict[str, float]) -> dict[str, Any]:
    return {"prompt": prompt, "margins": dict(zip(("solves", "tone"), margins, strict=True)), "shares": shares}


def reward(*pairs: dict[str, Any]) -> dict[str, Any]:
    return {"criteria": {"solves": {}, "tone": {}}, "held_out": list(pairs)}


OPPOSED = reward(
    pair("p", (3.0, -1.0), {"solves": 1.0, "tone": 0.0}),  # from a weight of 1/4 for solves on, the first is taken
    pair("q", (-1.0, 1.0), {"solves": 0.25, "tone": 1.0}),  # at a half each the reward is even
    pair("r", (1.0, 1.0), {"tone": 0.5}),  # nobody said whether it solves anything
)


def test_what_chosen_answers_won_by_hand() -> None:
    found = {round(point.weights.get("solves", 0), 1): point for point in front(OPPOSED)}
    assert sorted(found) == [round(step / 10, 1) for step in range(11)]
    shares = {weight: {name: f.value for name, f in point.shares.items()} for weight, point in found.items()}
    # tone alone: the second of p (solves 0, tone 1), the first of q (0.25, 1), the first of r (tone 0.5)
    assert shares[0.0] == pytest.approx({"solves": 0.125, "tone": 2.5 / 3})
    assert shares[0.3] == pytest.approx({"solves": 0.625, "tone": 1.5 / 3})
    assert shares[0.5] == pytest.approx({"solves": 0.75, "tone": 1.0 / 3})  # q is even: a half of each answer
    assert shares[1.0] == pytest.approx({"solves": 0.875, "tone": 0.5 / 3})
    assert found[1.0].shares["solves"].clusters == 2 and found[1.0].shares["tone"].clusters == 3
    assert not any(point.dominated for point in found.values())


def test_weights_that_another_one_beats_by_both_are_dominated() -> None:
    """The tone's head is wrong about p, on which both criteria agree: whatever leans on it alone loses by both."""
    found = {
        round(point.weights.get("solves", 0), 1): point.dominated
        for point in front(
            reward(
                pair("p", (1.0, -1.5), {"solves": 1.0, "tone": 1.0}),
                pair("q", (-1.0, 3.0), {"solves": 0.0, "tone": 1.0}),
            )
        )
    }
    assert {weight for weight, worse in found.items() if not worse} == {0.7, 0.8, 0.9, 1.0}


def test_equal_points_do_not_dominate_each_other() -> None:
    same = {"solves": Figure(0.5), "tone": Figure(0.5)}
    assert not dominated(same, [same, dict(same)])
    assert dominated(same, [{"solves": Figure(0.5), "tone": Figure(0.6)}])
    assert not dominated(same, [{"solves": Figure(0.4), "tone": Figure(0.9)}])


def test_given_weights_join_the_grid_once() -> None:
    assert len(front(OPPOSED, [{"solves": 0.7, "tone": 0.3}, {}])) == 11
    held = [each | {"margins": each["margins"] | {"overall": 1.0}} for each in OPPOSED["held_out"]]
    with_overall = front(OPPOSED | {"held_out": held}, [{"overall": 1.0}, {"overall": 1.0, "tone": 0.0}])
    assert [dict(point.weights) for point in with_overall[11:]] == [{"overall": 1.0}]


def test_without_two_criteria_that_were_voted_on_there_is_no_front() -> None:
    assert front({}) == []
    assert front(reward(pair("p", (1.0, 1.0), {"solves": 1.0}))) == []
