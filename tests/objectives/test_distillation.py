"""Distillation against numbers computed by hand, and the teacher's tokens on the flat axis."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from burnish.errors import TrainingError
from burnish.objectives import Answer, Outputs, Top, Tree, distillation, distillation_term, pack

NONE = -math.inf
TAUGHT = Tree(
    [1],
    (
        Answer(
            [2, 3, 4],
            [1.0, 0.0, 0.5],
            top=Top(tensor([[5, 6], [7, 8], [9, -1]]), tensor([[-1, -2], [-3, -4], [-5, NONE]])),
        ),
    ),
)
PLAIN = Tree([1], (Answer([2], [1.0], row=3),))
JUDGED = Tree([1], (Answer([2], [1.0]), Answer([3], [1.0])), {"preference": 1.0})


def test_distillation():
    kl_S = tensor([0.5, math.nan, 2.0], requires_grad=True)
    result = distillation(kl_S, tensor([1.0, 0.0, 0.5]))
    assert (result.total.item(), result.units) == (1.5, 1.5)
    result.total.backward()
    assert kl_S.grad.tolist() == [1.0, 0.0, 0.5]


def test_what_a_teacher_says_lies_beside_the_positions_that_are_trained():
    wider = Answer([2], [1.0], top=Top(tensor([[1, 2, 3]]), tensor([[-1.0, -2.0, -3.0]])))
    stream = pack([PLAIN, TAUGHT, Tree([1], (wider,))], 100)[0]
    assert stream.top is not None
    assert stream.top.ids.tolist() == [[-1, -1, -1], [5, 6, -1], [9, -1, -1], [1, 2, 3]]
    assert stream.top.logp.tolist() == [[NONE] * 3, [-1, -2, NONE], [-5, NONE, NONE], [-1, -2, -3]]
    assert stream.present["top"].tolist() == [False, True, True, True]
    assert pack([PLAIN], 100)[0].top is None


@pytest.mark.parametrize(("stored", "units", "total"), [(True, 1.5, 2.5), (False, 2.5, 6.5)])
def test_distillation_term(stored, units, total):
    trees, term = [TAUGHT, PLAIN, JUDGED], distillation_term(stored=stored)
    kl_S = tensor([1.0, 3.0, 4.0, 9.0, 9.0])
    result = term.loss(Outputs(teacher_kl_S=kl_S), pack(trees, 100)[0])
    assert term.count(trees) == result.units == units
    assert result.total.item() == total


def test_a_window_may_hold_no_stored_teacher():
    assert distillation_term(stored=True).count([PLAIN]) == 0.0
    with pytest.raises(TrainingError, match="not asked for"):
        distillation_term().loss(Outputs(tensor([-1.0])), pack([PLAIN], 10)[0])


@pytest.mark.parametrize(
    ("top", "says"),
    [
        (Top(tensor([[1]]), tensor([[-1.0]])), "row 7: 2 ids, but 1 top"),
        (Top(tensor([[1], [2]]), torch.zeros(2, 3)), "row 7: the teacher's ids and logprobs differ in shape"),
    ],
)
def test_unsound_teachers_are_refused(top, says):
    with pytest.raises(TrainingError, match=says):
        pack([Tree([1], (Answer([2, 3], [1.0, 1.0], row=7, top=top),))], 10)
