"""The contracts of rewards, metrics and credit: ours keep them, and a broken one is told which, with the numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.errors import PartError
from burnish.parts import Part, credit_contract, environment_contract, examples_of, score_contract
from burnish.records import Message, Reply, Row
from burnish.training.credit import dr_grpo, grpo, rloo

ROWS = [Row((Message("user", f"Where is parcel {n}?"),), f"It is near {n}." if n % 2 else None, n) for n in range(1, 4)]
Rewards = Sequence[Sequence[float]]


def part(function: Callable[..., Any]) -> Part:
    return Part("mine:it", function, "mine.py 0", (Path(__file__),))


def test_a_good_score_keeps_its_contract() -> None:
    seen: list[Reply] = []

    def score(reply: Reply) -> float:
        seen.append(reply)
        return len(reply.answer) / 10

    assert score_contract(part(score), examples_of(ROWS)) == ["one number per answer", "determinism"]
    assert {reply.finished for reply in seen} == {True, False}
    assert "" in {reply.answer for reply in seen}  # a model may well say nothing
    assert {reply.written for reply in seen} == {"It is near 1.", None, "It is near 3."}


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda reply: None, 'contract "one number per answer": it returned None on row 1'),
        (lambda reply: "0.5", "it returned '0.5' on row 1"),
        (lambda reply: [1.0], r"it returned \[1.0\] on row 1"),
        (lambda reply: math.nan, "it returned nan on row 1"),
        (lambda reply: -math.inf if "2" in reply.prompt[-1].content else 0.0, "it returned -inf on row 2"),
        (lambda reply: 1 / len(reply.answer), "raised on row 1 ZeroDivisionError"),
        (lambda reply: random.random(), 'contract "determinism": the same answer to row 1 gave 0.'),
    ],
)
def test_a_score_that_breaks_it(score: Callable[..., Any], said: str) -> None:
    with pytest.raises(PartError, match=said):
        score_contract(part(score), examples_of(ROWS))


@pytest.mark.parametrize(
    "credit",
    [grpo.advantages, partial(grpo.advantages, scale="batch"), dr_grpo.advantages, rloo.advantages],
)
def test_our_credits_keep_their_contract(credit: Callable[[Rewards], list[list[float]]]) -> None:
    kept = credit_contract("ours", credit)
    assert kept[-1] == "a group of one is refused"


def plain(rewards_NG: Rewards) -> list[list[float]]:
    return [[r - sum(group) / len(group) for r in group] for group in rewards_NG]


def divided(rewards_NG: Rewards) -> list[list[float]]:
    return [[a / math.sqrt(sum(b * b for b in group)) for a in group] for group in plain(rewards_NG)]


def by_place(rewards_NG: Rewards) -> list[list[float]]:
    return [[a * (place + 1) for place, a in enumerate(group)] for group in plain(rewards_NG)]


def running(rewards_NG: Rewards, last: list[float] = [0.0]) -> list[list[float]]:  # noqa: B006  (the bug)
    last[0] += 1
    return [[a + last[0] for a in group] for group in plain(rewards_NG)]


def first_is_best(rewards_NG: Rewards) -> list[list[float]]:
    return [[1.0 - place for place, _ in enumerate(sorted(group))] for group in rewards_NG]


@pytest.mark.parametrize(
    ("credit", "said"),
    [
        (lambda r: [-a for group in plain(r) for a in group], "one advantage per answer"),
        (lambda r: None, "one advantage per answer.*NoneType"),
        (
            lambda r: [group[1:] for group in plain(r)],
            r"groups of \[4, 4, 4, 4\] rewards gave groups of \[3, 3, 3, 3\]",
        ),
        (lambda r: [[math.nan] * len(group) for group in r], 'contract "finite"'),
        (divided, "ZeroDivisionError"),
        (running, "determinism"),
        (by_place, 'contract "order"'),
        (lambda r: plain(r) if len(r) == 1 else [plain(r)[0]] * len(r), 'contract "order"'),
        (lambda r: [[-a for a in group] for group in plain(r)], "reward 0 got 2 and reward 1 got 1"),
        (first_is_best, 'contract "(order|a better answer never gets less)"'),
    ],
)
def test_a_credit_that_breaks_it(credit: Callable[..., Any], said: str) -> None:
    with pytest.raises(PartError, match=said):
        credit_contract("mine:it", part(credit))


def test_a_group_of_one_is_answered_or_refused() -> None:
    assert credit_contract("mine:it", part(plain))[-1] == "a group of one"
    assert credit_contract("mine:it", part(grpo.advantages))[-1] == "a group of one is refused"

    def sample_deviation(rewards_NG: Rewards) -> list[list[float]]:
        return [[a / (len(group) - 1) for a in group] for group in plain(rewards_NG)]

    with pytest.raises(PartError, match="ZeroDivisionError"):
        credit_contract("mine:it", part(sample_deviation))


class Echo:
    """Says back what it hears, so many times."""

    def __init__(self, row: Row, most: int = 9) -> None:
        self.row, self.left = row, most

    def reply(self, answer: str) -> str | None:
        self.left -= 1
        return f"you said: {answer}" if self.left else None

    def reward(self) -> float:
        return float(self.left)


HEARD: list[str] = []


class Shared(Echo):
    """Keeps what was said in one place for all episodes."""

    def reply(self, answer: str) -> str | None:
        HEARD.append(answer)
        return f"you all said {len(HEARD)} things"


def test_a_good_environment_keeps_its_contract() -> None:
    kept = environment_contract(part(lambda row, seed: Echo(row, 1 + row.number)), ROWS, 3, True)
    assert kept[:3] == ["a text or None", "determinism", "one reward for an episode"]
    assert kept[3] == "ends (6 of 9 tried episodes by themselves, the others at rl.turns = 3)"
    assert "one reward for an episode" not in environment_contract(part(lambda row, seed: Echo(row)), ROWS, 3, False)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda row, seed: Shared(row), 'contract "determinism": the same answers to row 1 got'),
        (lambda row, seed: Echo(row, random.randrange(2, 99)), 'contract "determinism"'),
        (lambda row, seed: SimpleNamespace(reply=lambda answer: None), r"its episodes have no reward\(\)"),
    ],
)
def test_an_environment_that_breaks_it(start: Callable[..., Any], message: str) -> None:
    with pytest.raises(PartError, match=message):
        environment_contract(part(start), ROWS, 3, True)
