"""The value function's loss by hand."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from burnish.objectives import Answer, Outputs, Tree, pack, value, value_term

NAN = float("nan")


def test_value():
    value_S = tensor([1.0, NAN, 0.1, 2.0], requires_grad=True)
    result = value(value_S, tensor([0.0, NAN, 0.0, 0.0]), tensor([2.0, NAN, 0.0, 0.0]), tensor([1.0, 0.0, 1.0, 2.0]))
    # errors 1, 0.01, 4; bounded to 0.2, 0.1, 0.2: 3.24, 0.01, 0.04
    assert result.total.item() == pytest.approx((3.24 + 0.01 + 2 * 4.0) / 2)
    assert result.metrics["error"].item() == pytest.approx(1 + 0.01 + 2 * 4)
    assert result.metrics["clip_share"].item() == 1.0 and result.units == 4.0
    result.total.backward()
    # the first has moved further than it may, towards the return: no gradient; the last away from it: all of it
    assert value_S.grad.tolist() == pytest.approx([0.0, 0.0, 0.1, 4.0])
    plain = value(value_S.detach(), tensor([0.0] * 4), tensor([2.0, 0, 0, 0]), tensor([1.0, 0, 1, 2]), clip=None)
    assert plain.total.item() == pytest.approx((1 + 0.01 + 2 * 4) / 2)


def test_the_term_reads_sampled_answers_alone():
    sampled = Answer([2, 3], [1.0, 1.0], {"return": [1.0, 1.0], "value": [0.0, 0.0]})
    trees = [Tree([1], (sampled,)), Tree([1], (Answer([4], [1.0]),))]
    term = value_term(0.1, clip=None)
    result = term.loss(Outputs(value_S=torch.tensor([0.0, 3.0, NAN])), pack(trees, 100)[0])
    assert term.count(trees) == result.units == 2.0
    assert result.total.item() == pytest.approx((1 + 4) / 2)
