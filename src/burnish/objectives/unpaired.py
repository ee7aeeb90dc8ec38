"""Losses of answers that were judged alone: good or bad. Axes: S supervised positions, A answers, R judged rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.objectives import reading
from burnish.objectives.stream import Answer, Stream, Tree
from burnish.objectives.terms import Outputs, Statistic, Term, TermResult


def kto(
    ratio_R: Tensor,
    label_R: Tensor,
    point: float,
    beta: float = 0.1,
    desirable: float = 1.0,
    undesirable: float = 1.0,
    votes_R: Tensor | None = None,
) -> TermResult:
    """KTO: sum of v [p D (1 - s(beta (r - z))) + (1 - p) U (1 - s(beta (z - r)))], s the logistic function. Unit: row.

    r = log pi - log reference of the whole answer (``ratio_R``), p is 1 where it was called good and 0 where bad (or
    the share that called it good), z the reference point, max(0, ``point``), which has no gradient; D and U are
    ``desirable`` and ``undesirable``, v the votes (None: one each). Ethayarajh et al. 2024, arXiv:2402.01306.
    Metrics: "accuracy" (r on the right side of z, a tie counts a half), "margin" = (2 p - 1) r in nats: 0 exactly
    where the policy is the reference, "point" = z.
    """
    votes = torch.ones_like(label_R) if votes_R is None else votes_R
    gain = beta * (ratio_R - max(0.0, point))
    loss = label_R * desirable * torch.sigmoid(-gain) + (1 - label_R) * undesirable * torch.sigmoid(gain)
    with torch.no_grad():
        side = 2 * label_R - 1
        metrics = {
            "accuracy": (votes * (1 + gain.sign() * side.sign()) / 2).sum(),
            "margin": (votes * side * ratio_R).sum(),
            "point": votes.sum() * max(0.0, point),
        }
    return TermResult((votes * loss).sum(), metrics, float(votes.sum()))


def mismatch(trees: Sequence[Tree]) -> list[Tree]:
    """One tree for each of ``trees``: its prompt, with the answer of the next one that has another prompt.

    What KTO's reference point is measured on. The caller adds "reference_logp" to the answers and puts each into its
    row's ``Tree.mismatched``. The answers carry no stream: what they had belongs to their own prompt.

    Raises:
        TrainingError: All prompts are the same.
    """
    found: list[Tree] = []
    for place, tree in enumerate(trees):
        others = (trees[(place + step) % len(trees)] for step in range(1, len(trees)))
        other = next((other for other in others if list(other.prompt) != list(tree.prompt)), None)
        if other is None:
            raise TrainingError(
                "KTO compares each prompt with the answer to another one, and all prompts are the same",
                where=f"row {tree.answers[0].row}",
            )
        answer = other.answers[0]
        found.append(Tree(tree.prompt, (Answer(answer.ids, answer.weights, row=answer.row),)))
    return found


def kto_term(beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0, weight: float = 1.0) -> Term:
    """``kto`` on one-answer trees that carry "label", each answer with "reference_logp". Unit: row.

    The reference point is the mean of log pi - log reference over the ``Tree.mismatched`` answers of the whole window,
    read in one pass without gradient before the first one with it: it does not depend on how the window is cut.

    Raises (from ``count``, before any forward):
        TrainingError: A tree with a label has not one answer, the label is outside [0, 1], the votes are not above 0,
            or the answer or the mismatched one is missing, has no supervised token or no "reference_logp".
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        on = reading.marked(stream, "label")
        ratio_R = _ratios(outputs, stream)[reading.first_answers(stream)[on]]
        labels, votes = (reading.tree_figure(stream, *key)[on] for key in (("label", 0.0), ("votes", 1.0)))
        point = stream.window.get("kto", None if len(on) else 0.0)
        if point is None:
            raise TrainingError("the reference point of KTO was not measured: a term's statistic comes before its loss")
        return kto(ratio_R, labels, point, beta, desirable, undesirable, votes)

    def count(trees: Sequence[Tree]) -> float:
        votes = reading.count_votes(trees, "label", 1)
        reading.require(trees, "label", ("reference_logp",))
        reading.require(_mismatched(trees), "label", ("reference_logp",))
        return votes

    def read(outputs: Outputs, stream: Stream) -> TermResult:
        ratio_A = _ratios(outputs, stream)
        return TermResult(ratio_A.sum(), {}, float(len(ratio_A)))

    return Term("kto", "sequence", weight, count, loss, statistic=Statistic(_mismatched, read))


def _mismatched(trees: Sequence[Tree]) -> list[Tree]:
    """Each judged tree's prompt with its mismatched answer."""
    found: list[Tree] = []
    for tree in trees:
        if "label" in tree.streams:
            if tree.mismatched is None:
                raise TrainingError("a judged answer has no mismatched one", where=f"row {tree.answers[0].row}")
            found.append(Tree(tree.prompt, (tree.mismatched,), {"label": tree.streams["label"]}))
    return found


def _ratios(outputs: Outputs, stream: Stream) -> Tensor:
    """log pi - log reference of each answer that carries "reference_logp" [A]."""
    weights = reading.weights(stream, having="reference_logp")
    ratio_S = reading.given(outputs.logp_S) - reading.figure(stream, "reference_logp", weights)
    return reading.sums(ratio_S, weights, stream)
