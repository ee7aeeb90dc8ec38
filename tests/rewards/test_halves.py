"""Votes in two halves that share neither a rater nor a prompt."""

from __future__ import annotations

import random

import pytest

from burnish.errors import TrainingError
from burnish.records import Vote
from burnish.rewards.halves import disjoint_halves


def vote(number: int, rater: str, prompt: str) -> Vote:
    return Vote(number, f"key-{number}", "p", "compare", f"on-{prompt}", "v", rater, "human", "", other="o", choice="a")


def prompts(votes: list[Vote]) -> dict[str, str]:
    return {v.exchange: v.exchange.removeprefix("on-") for v in votes}


@pytest.mark.parametrize("seed", range(4))
def test_no_rater_and_no_prompt_is_on_both_sides(seed: int) -> None:
    draw = random.Random(seed)
    votes = [vote(i, f"r{draw.randrange(7)}", f"q{draw.randrange(40)}") for i in range(300)]
    found = disjoint_halves(votes, prompts(votes), seed)
    assert found == disjoint_halves(votes, prompts(votes), seed)
    first, second = found.first, found.second
    assert not {v.rater for v in first} & {v.rater for v in second}
    assert not {v.exchange for v in first} & {v.exchange for v in second}
    assert sorted(v.sequence for v in (*first, *second, *found.left_out)) == list(range(300))
    assert min(len(first), len(second)) > 60


def test_by_hand() -> None:
    """Ada and Ben end in different halves; a prompt goes where more was said, and what crosses is left out."""
    said = [("ada", "x"), ("ada", "x"), ("ben", "x"), ("ben", "y"), ("ada", "z"), ("ben", "w")]
    votes = [vote(i, *pair) for i, pair in enumerate(said)]
    found = disjoint_halves(votes, prompts(votes), 0)
    by_rater = {half[0].rater: [v.sequence for v in half] for half in (found.first, found.second)}
    assert by_rater == {"ada": [0, 1, 4], "ben": [3, 5]}
    assert [v.sequence for v in found.left_out] == [2]


def test_one_vote_a_prompt_loses_none() -> None:
    votes = [vote(i, f"r{i % 2}", f"q{i}") for i in range(20)]
    found = disjoint_halves(votes, prompts(votes), 1)
    assert (len(found.first), len(found.second), found.left_out) == (10, 10, [])


def test_votes_on_erased_answers_are_left_out() -> None:
    votes = [vote(i, f"r{i % 2}", f"q{i}") for i in range(4)]
    known = prompts(votes)
    del known["on-q3"]
    assert [v.sequence for v in disjoint_halves(votes, known, 1).left_out] == [3]


@pytest.mark.parametrize("said", [[("ada", "x"), ("ada", "y")], [("ada", "x"), ("ben", "x")], []])
def test_one_rater_or_one_prompt_makes_no_halves(said: list[tuple[str, str]]) -> None:
    votes = [vote(i, *pair) for i, pair in enumerate(said)]
    with pytest.raises(TrainingError, match="make no two halves"):
        disjoint_halves(votes, prompts(votes), 0)
