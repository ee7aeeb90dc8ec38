"""The loss of a dense reward's heads: whether each segment of an answer has an error. Axes: S segments' last tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.objectives import reading
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult

NOWHERE = -1.0  # in the stream of a type: no segment that it is told of ends with this token


def span_stream(kind: str) -> str:
    """The name of the figure that says where a type's segments end, and whether they are wrong: -1, 0 or 1."""
    return f"span:{kind}"


def spans(logits_S: Tensor, wrong_S: Tensor) -> TermResult:
    """Cross-entropy of each segment: sum of -y log p - (1 - y) log(1 - p), p = sigmoid(logit), y = 1 where it is wrong.

    The classifier of Wu et al. 2023 (arXiv:2306.01693, section 3.2), one for each type of error. Where ``wrong_S`` is
    -1 no segment ends, and nothing counts. Unit: token, a segment's last one.
    """
    on = wrong_S >= 0
    logits, wrong = logits_S[on], wrong_S[on]
    total = torch.nn.functional.binary_cross_entropy_with_logits(logits, wrong, reduction="sum")
    return TermResult(total, {}, float(on.sum()))


def span_term(kind: str, head: int) -> Term:
    """``spans`` of one type on the answers that carry its stream; ``head`` is its column in the model's logits.

    Its count is the type's segments, so that each type weighs alike however many segments it is told of.
    """
    name = span_stream(kind)

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights_S = reading.weights(stream, having=name)
        wrong_S = torch.where(weights_S != 0, reading.figure(stream, name, weights_S), NOWHERE)
        return spans(reading.given(outputs.errors_SK)[:, head], wrong_S)

    def count(trees: Sequence[Tree]) -> float:
        return float(
            sum(
                weight != 0 and wrong >= 0
                for answer in reading.answers(trees, having=name)
                for weight, wrong in zip(answer.weights, answer.streams[name], strict=True)
            )
        )

    return Term(name, "token", 1.0, count, loss)
