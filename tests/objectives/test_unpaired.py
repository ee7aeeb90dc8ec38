"""KTO against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import tensor

from burnish.errors import TrainingError
from burnish.objectives import Answer, Outputs, Tree, kto, kto_term, mismatch, pack


def leaf(*values: float) -> torch.Tensor:
    return tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    ("label", "point", "loss", "gradient"),
    [
        (1.0, 1.0, 0.377541, -0.0235004),
        (0.0, 1.0, 0.622459, 0.0235004),
        (0.5, 1.0, 0.5, 0.0),
        (1.0, -3.0, 0.354344, -0.0228784),  # a point below zero is zero
    ],
)
def test_kto(label, point, loss, gradient):
    ratio_R = leaf(6.0)
    result = kto(ratio_R, tensor([label]), point, beta=0.1)
    assert result.total.item() == pytest.approx(loss, abs=1e-6)
    result.total.backward()
    assert ratio_R.grad.item() == pytest.approx(gradient, abs=1e-6)


def test_kto_weights_and_metrics():
    ratio_R = tensor([6.0, 6.0, 1.0])
    result = kto(ratio_R, tensor([1.0, 0.0, 1.0]), 1.0, 0.1, 2.0, 3.0, tensor([1.0, 2.0, 1.0]))
    assert result.total.item() == pytest.approx(2 * 0.377541 + 2 * 3 * 0.622459 + 2 * 0.5, abs=1e-5)
    assert result.units == 4.0
    assert result.metrics["accuracy"].item() == 1.0 + 0.0 + 0.5
    assert result.metrics["margin"].item() == 6.0 - 2 * 6.0 + 1.0
    assert result.metrics["point"].item() == 4.0


def thumb(prompt: int, label: float, length: int, row: int, other: int = 0) -> Tree:
    """``other``: the length of the mismatched answer."""

    def answer(length: int) -> Answer:
        return Answer(range(length), [1.0] * length, {"reference_logp": [-2.0] * length}, row)

    return Tree([prompt], (answer(length),), {"label": label}, answer(other) if other else None)


TREES = [thumb(1, 1.0, 2, 1, 3), Tree([4], (Answer([5], [1.0]),)), thumb(2, 0.0, 1, 2, 1)]


def test_kto_term():
    logp_S = leaf(-1.0, 1.0, -1.0, 4.0)
    term = kto_term(beta=0.1)
    stream = pack(TREES, 100)[0]
    stream.window = {"kto": 1.0}
    result = term.loss(Outputs(logp_S), stream)  # ratios 4 and 6
    assert term.count(TREES) == result.units == 2.0
    assert result.total.item() == pytest.approx(0.425557 + 0.622459, abs=1e-5)
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([-0.0244458, -0.0244458, 0.0, 0.0235004], abs=1e-6)


def test_the_reference_point_is_read_from_mismatched_answers():
    statistic = kto_term().statistic
    assert statistic is not None
    asked = statistic.trees(TREES)
    assert [(list(t.prompt), len(t.answers[0].ids)) for t in asked] == [([1], 3), ([2], 1)]
    result = statistic.read(Outputs(tensor([-1.0, -1.0, 0.0, -5.0])), pack(asked, 100)[0])
    assert (result.total.item(), result.units) == (1 + 1 + 2 - 3, 2.0)


def test_a_reference_point_that_nobody_measured_is_not_zero():
    with pytest.raises(TrainingError, match="was not measured"):
        kto_term().loss(Outputs(torch.zeros(4)), pack(TREES, 100)[0])
    assert kto_term().loss(Outputs(torch.zeros(1)), pack(TREES[1:2], 100)[0]).units == 0.0


def test_mismatch():
    trees = [thumb(1, 1.0, 2, 1), thumb(1, 0.0, 3, 2), thumb(2, 1.0, 4, 3)]
    found = mismatch(trees)
    assert [list(t.prompt) for t in found] == [[1], [1], [2]]
    assert [t.answers[0].row for t in found] == [3, 3, 1]
    assert all(not t.answers[0].streams for t in found)  # what the answer had belongs to its own prompt
    with pytest.raises(TrainingError, match=r"row 1: .* all prompts are the same"):
        mismatch(trees[:2])


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (thumb(1, 1.0, 2, 7), "row 7: a judged answer has no mismatched one"),
        (thumb(1, 2.0, 2, 7, 1), "row 7: a label of 2.0"),
        (replace(TREES[0], mismatched=Answer([1], [1.0], row=7)), 'row 7: an answer carries no "reference_logp"'),
        (replace(TREES[0], answers=(Answer([1], [1.0], row=7),)), 'row 7: an answer carries no "reference_logp"'),
        (replace(TREES[0], answers=TREES[0].answers * 2), "row 1: a label of 1.0 on 2 answers"),
    ],
)
def test_what_is_no_judged_answer_is_refused_before_any_forward(tree, says):
    with pytest.raises(TrainingError, match=says):
        kto_term().count([tree])
