"""Group-relative advantages against hand-computed numbers."""

from __future__ import annotations

import math

import pytest

from burnish.training.credit.grpo import advantages


def test_by_hand() -> None:
    # mean 2, deviations -2, -1, 1, 2: population variance (4 + 1 + 1 + 4) / 4 = 2.5
    spread = math.sqrt(2.5)
    assert advantages([0.0, 1.0, 3.0, 4.0]) == pytest.approx([-2 / spread, -1 / spread, 1 / spread, 2 / spread])


def test_a_reward_of_zero_is_a_reward() -> None:
    assert advantages([0.0, 1.0]) == pytest.approx([-1.0, 1.0])


def test_equal_rewards_carry_nothing() -> None:
    assert advantages([1.5, 1.5, 1.5]) == [0.0, 0.0, 0.0]
    assert advantages([1.5, 1.5 + 1e-6]) == [0.0, 0.0]


@pytest.mark.parametrize("rewards", [[1.0], [], [1.0, math.nan], [math.inf, 0.0]])
def test_what_has_no_advantage_is_refused(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match=r"group|finite"):
        advantages(rewards)
