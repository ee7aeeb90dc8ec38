"""Credit functions: against numbers computed by hand, and against loops that follow the papers' sums to the letter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.training.credit import dapo, dr_grpo, gae, grpo, pairs, reinforce_pp, rloo
from burnish.training.credit.kl import controlled, penalty
from burnish.training.credit.whiten import whitened

numbers = st.floats(-5, 5, allow_nan=False, width=32)
groups = st.lists(st.lists(numbers, min_size=2, max_size=6), min_size=1, max_size=4)
answers = st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=5)


def near(values: Sequence[float]) -> object:
    return pytest.approx(values, abs=1e-6)


def test_leave_one_out_by_hand() -> None:
    # the others' means are 2.5, 2, 1.5 and 1
    assert rloo.advantages([[0.0, 1.0, 3.0, 4.0]])[0] == near([0 - 8 / 3, 1 - 7 / 3, 3 - 5 / 3, 4 - 4 / 3])
    assert rloo.advantages([[0.0, 1.0], [5.0, 5.0, 5.0]]) == [[-1.0, 1.0], [0.0, 0.0, 0.0]]


@given(groups)
@settings(max_examples=50, deadline=None)
def test_leave_one_out_is_the_mean_of_the_others(rewards_NG: list[list[float]]) -> None:
    for rewards_G, found_G in zip(rewards_NG, rloo.advantages(rewards_NG), strict=True):
        for i, advantage in enumerate(found_G):
            others = [r for j, r in enumerate(rewards_G) if j != i]
            assert advantage == pytest.approx(rewards_G[i] - math.fsum(others) / len(others), abs=1e-6)


def test_without_the_deviation_by_hand() -> None:
    assert dr_grpo.advantages([[0.0, 1.0, 3.0, 4.0], [5.0, 5.2]]) == [near([-2, -1, 1, 2]), near([-0.1, 0.1])]


@given(groups)
@settings(max_examples=50, deadline=None)
def test_group_advantages_against_a_loop(rewards_NG: list[list[float]]) -> None:
    """Dr. GRPO's are leave-one-out's times (G - 1) / G; GRPO's are Dr. GRPO's over the group's deviation."""
    whole, alone, plain = dr_grpo.advantages(rewards_NG), rloo.advantages(rewards_NG), grpo.advantages(rewards_NG)
    for n, rewards_G in enumerate(rewards_NG):
        size = len(rewards_G)
        mean = sum(rewards_G) / size
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards_G) / size)
        for i, reward in enumerate(rewards_G):
            assert whole[n][i] == pytest.approx(reward - mean, abs=1e-6)
            assert whole[n][i] == pytest.approx(alone[n][i] * (size - 1) / size, abs=1e-6)
            wanted = 0.0 if deviation < 1e-4 else (reward - mean) / deviation
            assert plain[n][i] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("advantages", [rloo.advantages, dr_grpo.advantages])
def test_a_group_of_one_and_a_reward_that_is_no_number_are_refused(advantages) -> None:
    for rewards in ([1.0], [], [1.0, math.nan]):
        with pytest.raises(ValueError, match=r"group|finite"):
            advantages([[0.0, 1.0], rewards])


def test_generalised_advantages_by_hand() -> None:
    # d3 = 1 - 0.5 = 0.5; d2 = 0 + 0.9 * 0.5 - 0.2 = 0.25; d1 = -0.1 + 0.9 * 0.2 - 0.4 = -0.32
    # A3 = 0.5; A2 = 0.25 + 0.72 * 0.5 = 0.61; A1 = -0.32 + 0.72 * 0.61 = 0.1192
    found = gae.advantages([-0.1, 0.0, 1.0], [0.4, 0.2, 0.5], discount=0.9, trace=0.8)
    assert found == near([0.1192, 0.61, 0.5])
    # with neither discount nor trust in the values: all that is still to come, less what was expected
    assert gae.advantages([-0.1, 0.0, 1.0], [0.4, 0.2, 0.5], 1.0, 1.0) == near([0.9 - 0.4, 1.0 - 0.2, 1.0 - 0.5])
    assert gae.advantages([], []) == []
    with pytest.raises(ValueError, match="2 rewards, but 1 values"):
        gae.advantages([1.0, 2.0], [1.0])


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_generalised_advantages_are_the_papers_sum(both, discount: float, trace: float) -> None:
    rewards, values = [r for r, _ in both], [v for _, v in both]
    after = [*values[1:], 0.0]
    for t, found in enumerate(gae.advantages(rewards, values, discount, trace)):
        wanted = sum(
            (discount * trace) ** (u - t) * (rewards[u] + discount * after[u] - values[u])
            for u in range(t, len(rewards))
        )
        assert found == pytest.approx(wanted, abs=1e-6)


def test_whitening_by_hand() -> None:
    # mean 2, population variance (4 + 1 + 1 + 4) / 4 = 2.5
    spread = math.sqrt(2.5)
    assert whitened([[0.0, 1.0], [3.0, 4.0]]) == [near([-2 / spread, -1 / spread]), near([1 / spread, 2 / spread])]
    assert whitened([[0.0, 1.0], [3.0, 4.0]], shift=False)[1] == near([1 / spread + 2, 2 / spread + 2])
    assert whitened([[1.5, 1.5], [1.5]]) == [[0.0, 0.0], [0.0]]
    assert whitened([[1.5, 1.5], [1.5]], shift=False) == [[1.5, 1.5], [1.5]]


def test_reinforce_plus_plus_by_hand() -> None:
    # what is still to come: 0.9, 1.0, 1.0 and 0: mean 0.725
    apart = [0.9 - 0.725, 1.0 - 0.725, 1.0 - 0.725, -0.725]
    spread = math.sqrt(sum(a * a for a in apart) / 4)
    found = reinforce_pp.advantages([[-0.1, 0.0, 1.0], [0.0]])
    assert found == [near([a / spread for a in apart[:3]]), near([apart[3] / spread])]


@given(answers)
@settings(max_examples=50, deadline=None)
def test_reinforce_plus_plus_against_a_loop(rewards_KL: list[list[float]]) -> None:
    returns = [[math.fsum(rewards_L[t:]) for t in range(len(rewards_L))] for rewards_L in rewards_KL]
    flat = torch.tensor([r for returns_L in returns for r in returns_L], dtype=torch.float64)
    spread = float(flat.std(correction=0))
    found = [a for advantages_L in reinforce_pp.advantages(rewards_KL) for a in advantages_L]
    wanted = (flat - flat.mean()) / spread if spread >= 1e-8 else torch.zeros_like(flat)
    assert found == pytest.approx(wanted.tolist(), abs=1e-4)


def test_which_groups_teach_something() -> None:
    assert dapo.informative([0.0, 0.0, 1.0]) and not dapo.informative([0.0, 0.0]) and not dapo.informative([2.0])


def test_the_slope_before_the_limit_by_hand() -> None:
    assert [dapo.overlong(n, 20, 0.2) for n in (1, 16, 17, 18, 20)] == near([0, 0, -0.25, -0.5, -1])
    with pytest.raises(ValueError, match="21 tokens, where 20"):
        dapo.overlong(21, 20)


def test_best_and_worst() -> None:
    assert pairs.best_and_worst([1.0, 3.0, 0.0, 3.0]) == (1, 2)
    assert pairs.best_and_worst([0.0, -1.0]) == (0, 1)
    assert pairs.best_and_worst([2.0, 2.0]) is None


def test_the_penalty_by_hand_and_its_controller() -> None:
    assert penalty([-1.0, -2.0], [-1.5, -1.0], 0.1) == near([-0.05, 0.1])
    # twice the target is capped at a fifth too much: 0.02 * (1 + 0.1 * 0.2); a tenth below it is not
    assert controlled(0.02, 0.2, 0.1) == pytest.approx(0.0204)
    assert controlled(0.02, 0.09, 0.1) == pytest.approx(0.02 * 0.99)
    assert controlled(0.02, 0.0, 0.1) == pytest.approx(0.02 * 0.98)


def test_in_the_reward_only_k1_has_the_gradient_of_the_kl() -> None:
    """The policy gradient of an expected penalty is E[penalty grad log pi]: on a small softmax, exactly."""
    logits = torch.tensor([0.3, -1.2, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.5, 0.4, 0.2, 0.9], dtype=torch.float64).log_softmax(0)
    logp = logits.log_softmax(0)
    (wanted,) = torch.autograd.grad((logp.exp() * (logp - reference)).sum(), logits, retain_graph=True)

    def gradient(penalty_V: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((logp.detach().exp() * penalty_V * logp).sum(), logits, retain_graph=True)[0]

    paid = torch.tensor(penalty(logp.tolist(), reference.tolist(), 1.0), dtype=torch.float64)
    assert torch.allclose(-gradient(paid), wanted, atol=1e-12)
    apart = (logp - reference).detach()
    for other in (apart**2 / 2, torch.expm1(-apart) + apart):  # k2, k3
        assert not torch.allclose(gradient(other), wanted, atol=1e-2)
