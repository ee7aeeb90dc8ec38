"""Group-relative advantages against hand-computed numbers."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from burnish.training.credit.grpo import advantages


def test_by_hand() -> None:
    # mean 2, deviations -2, -1, 1, 2: population variance (4 + 1 + 1 + 4) / 4 = 2.5
    spread = math.sqrt(2.5)
    expected = [-2 / spread, -1 / spread, 1 / spread, 2 / spread]
    assert advantages([[0.0, 1.0, 3.0, 4.0]])[0] == pytest.approx(expected)
    assert advantages([[0.0, 1.0, 3.0, 4.0], [5.0, 5.2]])[0] == pytest.approx(expected)


def test_over_the_batch_a_group_without_preference_weighs_little() -> None:
    # apart: -1, 1 and -0.1, 0.1: variance (1 + 1 + 0.01 + 0.01) / 4 = 0.505
    spread = math.sqrt(0.505)
    loud, quiet = advantages([[4.0, 6.0], [1.0, 1.2]], scale="batch")
    assert loud == pytest.approx([-1 / spread, 1 / spread]) and quiet == pytest.approx([-0.1 / spread, 0.1 / spread])
    assert advantages([[4.0, 6.0], [1.0, 1.2]], scale="group")[1] == pytest.approx([-1.0, 1.0])


def test_a_reward_of_zero_is_a_reward() -> None:
    assert advantages([[0.0, 1.0]])[0] == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize("scale", ["group", "batch"])
def test_equal_rewards_carry_nothing(scale: Literal["group", "batch"]) -> None:
    assert advantages([[1.5, 1.5, 1.5]], scale) == [[0.0, 0.0, 0.0]]
    assert advantages([[1.5, 1.5 + 1e-6]], scale) == [[0.0, 0.0]]


@pytest.mark.parametrize("rewards", [[1.0], [], [1.0, math.nan], [math.inf, 0.0]])
def test_what_has_no_advantage_is_refused(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match=r"group|finite"):
        advantages([[0.0, 1.0], rewards])
