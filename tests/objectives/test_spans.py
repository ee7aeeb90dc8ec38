"""The loss of span heads, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from burnish.errors import TrainingError
from burnish.objectives import Answer, Outputs, Tree, pack, span_stream, span_term, spans


def test_cross_entropy_of_the_segments_and_of_no_other_token() -> None:
    logits = torch.tensor([0.0, math.log(3), 5.0, -math.log(3)], requires_grad=True)
    found = spans(logits, torch.tensor([1.0, 0.0, -1.0, 1.0]))
    # p = 1/2, 3/4, 1/4: -log(1/2) - log(1/4) - log(1/4)
    assert found.total.item() == pytest.approx(math.log(2) + 2 * math.log(4))
    assert found.units == 3.0
    found.total.backward()
    assert logits.grad is not None and logits.grad.tolist() == pytest.approx([-0.5, 0.75, 0.0, -0.75])


def test_each_type_reads_its_own_column_and_counts_its_own_segments() -> None:
    assert span_stream("late") == "span:late"
    answer = Answer([5, 6, 7], [0.0, 1.0, 1.0], {"span:late": [-1.0, 1.0, 0.0], "span:rude": [-1.0, -1.0, 1.0]})
    plain = Answer([5, 6], [1.0, 1.0])
    trees = [Tree([1], (answer,)), Tree([1], (plain,))]
    late, rude = span_term("late", 0), span_term("rude", 1)
    assert (late.count(trees), rude.count(trees)) == (2.0, 1.0)
    (stream,) = pack(trees, 100)
    logits = torch.tensor([[0.0, 9.0], [math.log(3), -math.log(3)], [7.0, 7.0], [7.0, 7.0]])
    results = [term.loss(Outputs(errors_SK=logits), stream) for term in (late, rude)]
    assert [result.units for result in results] == [2.0, 1.0]
    assert float(results[0].total) == pytest.approx(math.log(2) + math.log(4))  # 1/2 right, 3/4 where it is not wrong
    assert float(results[1].total) == pytest.approx(math.log(4))
    with pytest.raises(TrainingError, match="was not asked for"):
        late.loss(Outputs(), stream)
