"""How terms read trees and streams: which answers are theirs, and the figures that those must carry.

Axes: S supervised positions, A answers, N trees, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.objectives.stream import Answer, Stream, Tree

JUDGED = ("preference", "label")  # figures of trees whose answers were judged: no demonstrations
CREDITED = ("advantage", "demonstrated_advantage")  # streams of answers whose reward is learned from: none either


@dataclass(frozen=True)
class Pairs:
    """The judged pairs of a stream: ``a_P`` and ``b_P`` index its answers, ``margin_P`` is 0 where not given."""

    a_P: Tensor
    b_P: Tensor
    preference_P: Tensor
    votes_P: Tensor
    margin_P: Tensor


def given(tensor: Tensor | None) -> Tensor:
    """The output itself. Raises TrainingError where the model was not asked for it."""
    if tensor is None:
        raise TrainingError("a term reads an output that the model was not asked for")
    return tensor


def answers(trees: Sequence[Tree], having: str | None = None) -> list[Answer]:
    """The answers that carry the stream ``having`` (None: all)."""
    return [a for tree in trees for a in tree.answers if having is None or having in a.streams]


def tokens(trees: Sequence[Tree], having: str | None = None) -> float:
    """The summed weights of the answers that carry the stream ``having``."""
    return sum(answer.units for answer in answers(trees, having))


def demonstrations(trees: Sequence[Tree]) -> list[Answer]:
    """Answers to learn as they are: without an advantage, and of no judged tree (no "preference" and no "label")."""
    plain = [tree for tree in trees if not any(name in tree.streams for name in JUDGED)]
    return [answer for answer in answers(plain) if not any(name in answer.streams for name in CREDITED)]


def weights(stream: Stream, having: str) -> Tensor:
    """The stream's weights [S], zero where an answer does not carry ``having``."""
    return torch.where(_carried(stream, having), stream.weights_S, 0.0)


def demonstration_weights(stream: Stream) -> Tensor:
    """The stream's weights [S], zero outside ``demonstrations``."""
    other_S = _carried(stream, CREDITED[0]) | _carried(stream, CREDITED[1])
    for name in JUDGED:
        on_N = _carried_by_tree(stream, name)
        if _of_answers(stream, name):
            on_N = on_N.new_zeros(stream.trees).index_fill(0, stream.tree_A[on_N], True)
        other_S = other_S | on_N[stream.tree_A[stream.answer_S]]
    return torch.where(other_S, 0.0, stream.weights_S)


def figure(stream: Stream, name: str, weights_S: Tensor) -> Tensor:
    """A named figure [S]. Raises TrainingError where a position with a weight does not carry it."""
    missing = ((weights_S != 0) & ~_carried(stream, name)).nonzero()
    if len(missing):
        row = stream.rows_A[int(stream.answer_S[missing[0]])]
        raise TrainingError(f'an answer carries no "{name}"', where=f"row {row}")
    return stream.streams.get(name, torch.zeros_like(weights_S))


def tree_figure(stream: Stream, name: str, default: float) -> Tensor:
    """A named figure of trees [N], ``default`` where a tree does not carry it."""
    on_N = _carried_by_tree(stream, name)
    values_N = stream.figures.get(name, stream.weights_S.new_zeros(stream.trees))
    return torch.where(on_N, values_N, default)


def marked(stream: Stream, name: str) -> Tensor:
    """Indices of the trees that carry the figure ``name``, or of the answers where it is one of answers."""
    return _carried_by_tree(stream, name).nonzero()[:, 0]


def first_answers(stream: Stream) -> Tensor:
    """The index of each tree's first answer [N]."""
    return torch.searchsorted(stream.tree_A, torch.arange(stream.trees, device=stream.tree_A.device))


def pairs(stream: Stream, by: str = "") -> Pairs:
    """The judged pairs: the two answers of a tree that carries "preference"; or, where answers carry it, each of them
    and the next one of its tree. One vote where "votes" is not given. ``by`` ends all three figures' names.
    """
    name = f"preference{by}"
    on = marked(stream, name)
    first = on if _of_answers(stream, name) else first_answers(stream)[on]

    def said(figure: str, default: float) -> Tensor:
        if figure not in stream.present:
            return stream.weights_S.new_full(on.shape, default)
        return torch.where(stream.present[figure], stream.figures[figure], default)[on]

    return Pairs(first, first + 1, said(name, 0.0), said(f"votes{by}", 1.0), said(f"margin{by}", 0.0))


def sums(values_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    """Each answer's weighted sum over its supervised positions [A]; a position without weight has no effect."""
    on = weights_S != 0
    part = weights_S[on] * values_S[on]
    return part.new_zeros(len(stream.tree_A)).index_add(0, stream.answer_S[on], part)


def means(values_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    """Each answer's weighted mean over its supervised positions [A]; 0 where an answer has no weight."""
    whole_A = sums(torch.ones_like(weights_S), weights_S, stream)
    return torch.where(whole_A > 0, sums(values_S, weights_S, stream) / whole_A.clamp(min=1e-30), 0.0)


def count_votes(trees: Sequence[Tree], name: str, size: int, by: str = "") -> float:
    """The votes on trees that carry the figure ``name``, a share from 0 to 1. ``by`` ends the figures' names.

    Raises:
        TrainingError: Such a tree has not ``size`` answers, its share is outside [0, 1], it has no votes, or its
            margin is negative.
    """
    total = 0.0
    for tree in trees:
        if name + by not in tree.streams:
            continue
        keys = ((name + by,), (f"votes{by}", 1.0), (f"margin{by}", 0.0))
        share, votes, margin = (tree.streams.get(*key) for key in keys)
        where = f"row {tree.answers[0].row}"
        if len(tree.answers) != size or not isinstance(share, float | int) or not 0 <= share <= 1:
            what = f"a {name} of {share} on {len(tree.answers)} {'answer' if len(tree.answers) == 1 else 'answers'}"
            mend = "it is 0 to 1, on " + ("one answer" if size == 1 else f"{size} answers")
            raise TrainingError(what, where=where, mend=mend)
        if not isinstance(votes, float | int) or not 0 < votes < float("inf"):
            raise TrainingError(f"{votes} votes", where=where, mend="a judged row counts with a number above 0")
        if not isinstance(margin, float | int) or not 0 <= margin < float("inf"):
            raise TrainingError(f"a margin of {margin}", where=where, mend="by how much one is better: 0 or more")
        total += float(votes)
    return total


def count_compared(trees: Sequence[Tree], by: str = "") -> float:
    """The votes on the pairs that `pairs` finds in trees.

    Raises:
        TrainingError: As ``count_votes`` of "preference" on two answers: the last answer of a tree has no next one.
    """
    return count_votes([pair for tree in trees for pair in _apart(tree, by)], "preference", 2, by)


def require(trees: Sequence[Tree], name: str, streams: Sequence[str]) -> None:
    """Every answer of a tree that carries the figure ``name`` is trained, and carries ``streams``.

    Raises:
        TrainingError: An answer has no supervised token, which would leave its logprob at zero without a word, or
            lacks a stream.
    """
    for tree in trees:
        for answer in tree.answers if name in tree.streams else ():
            if answer.units == 0:
                raise TrainingError(f"an answer with a {name} has no supervised token", where=f"row {answer.row}")
            missing = next((stream for stream in streams if stream not in answer.streams), None)
            if missing is not None:
                raise TrainingError(f'an answer carries no "{missing}"', where=f"row {answer.row}")


def _apart(tree: Tree, by: str) -> list[Tree]:
    """The pairs of a tree whose answers carry "preference", each by itself; any other tree as it is."""
    shares = tree.streams.get(f"preference{by}")
    if not isinstance(shares, Sequence):
        return [tree]
    found = []
    for place in (place for place, share in enumerate(shares) if share is not None):
        figures = {k: v[place] if isinstance(v, Sequence) else v for k, v in tree.streams.items()}
        own = {name: value for name, value in figures.items() if value is not None}
        found.append(Tree(tree.prompt, tree.answers[place : place + 2], own))
    return found


def _of_answers(stream: Stream, name: str) -> bool:
    """Whether the figure ``name`` is one of answers, not of trees."""
    return stream.trees != len(stream.tree_A) == len(stream.present.get(name, ()))


def _carried(stream: Stream, name: str) -> Tensor:
    return stream.present.get(name, torch.zeros_like(stream.weights_S, dtype=torch.bool))


def _carried_by_tree(stream: Stream, name: str) -> Tensor:
    return stream.present.get(name, stream.weights_S.new_zeros(stream.trees, dtype=torch.bool))
