"""Written answers inside reinforcement learning: values and gradients by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from burnish.objectives import (
    Answer,
    Outputs,
    Tree,
    chord,
    chord_schedule,
    chord_term,
    likelihood_term,
    pack,
    policy_term,
    shaped,
    shaped_term,
    sharing,
)

NAN = float("nan")


def leaf(*values: float) -> torch.Tensor:
    return tensor(values, requires_grad=True)


def test_chord_weighs_a_token_by_p_times_one_less_p():
    logp_S = leaf(math.log(0.5), NAN, math.log(0.9), math.log(0.01))
    result = chord(logp_S, tensor([1.0, 0.0, 2.0, 1.0]))
    # phi: 0.25, 0.09, 0.0099
    wanted = -(0.25 * math.log(0.5) + 2 * 0.09 * math.log(0.9) + 0.0099 * math.log(0.01))
    assert result.total.item() == pytest.approx(wanted, rel=1e-5)
    assert result.metrics["phi"].item() == pytest.approx(0.25 + 2 * 0.09 + 0.0099, rel=1e-5)
    assert result.units == 4.0  # the count does not depend on phi
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([-0.25, 0.0, -0.18, -0.0099], rel=1e-5)  # phi has no gradient


def test_chord_schedule_by_hand():
    mu = chord_schedule(0.9, 0.05, updates=13, warmup=4)
    assert [mu(step) for step in range(4)] == pytest.approx([0.18, 0.36, 0.54, 0.72])
    assert mu(4) == pytest.approx(0.9) and mu(8) == pytest.approx((0.9 + 0.05) / 2) and mu(12) == pytest.approx(0.05)
    assert mu(40) == pytest.approx(0.05)
    assert chord_schedule(0.3, 0.3, updates=1)(0) == pytest.approx(0.3)


def test_shaped_by_hand():
    logp_S = leaf(math.log(0.1), NAN, math.log(0.9))
    result = shaped(logp_S, tensor([2.0, NAN, -1.0]), tensor([1.0, 0.0, 1.0]), gamma=0.1)
    # f(0.1) = 0.1 / 0.2 = 0.5, f(0.9) = 0.9
    assert result.total.item() == pytest.approx(-(2 * 0.5 - 1 * 0.9), rel=1e-5)
    assert result.metrics["probability"].item() == pytest.approx(1.0, rel=1e-5) and result.units == 2.0
    result.total.backward()
    # d f / d log p = gamma p / (p + gamma)^2: 0.01 / 0.04 = 0.25 and 0.09 / 1 = 0.09
    assert logp_S.grad.tolist() == pytest.approx([-2 * 0.25, 0.0, 0.09], rel=1e-5)


def mixed() -> list[Tree]:
    drawn = Answer([2, 3], [1.0] * 2, {"advantage": [-1.0] * 2, "old_logp": [-1.0] * 2, "reference_logp": [-1.0] * 2})
    shown = Answer([4, 5, 6], [1.0] * 3, {"demonstrated_advantage": [1.0] * 3})
    return [Tree([1], (drawn, shown)), Tree([1], (Answer([7], [1.0]),))]


def test_each_kind_of_answer_is_read_by_its_own_term():
    trees = mixed()
    stream = pack(trees, 100)[0]
    outputs = Outputs(torch.full((6,), math.log(0.1)))
    probability = math.log(0.1)
    wanted = {"policy": 2.0, "shaped": 3.0, "chord": 1.0, "likelihood": 1.0}
    totals = {"shaped": -3 * 0.5, "chord": -0.09 * probability, "likelihood": -probability}
    for term in (policy_term(), shaped_term(), chord_term(), likelihood_term()):
        result = term.loss(outputs, stream)
        assert term.count(trees) == result.units == wanted[term.name]
        if term.name in totals:
            assert result.total.item() == pytest.approx(totals[term.name], rel=1e-5)


def test_sharing_on_and_off_policy_tokens_have_one_denominator():
    terms = sharing(policy_term(), shaped_term())
    assert [term.count(mixed()) for term in terms] == [2.0, 3.0]
    assert [term.divided_by(mixed()) for term in terms] == [5.0, 5.0]
