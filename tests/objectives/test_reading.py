"""How terms read trees and streams: whose answers they are, and what those carry."""

from __future__ import annotations

import math

import pytest
from torch import tensor

from burnish.errors import TrainingError
from burnish.objectives import Answer, Tree, pack, reading

SAMPLED = Tree([1], (Answer([2, 3], [1.0, 0.5], {"advantage": [2.0, 4.0]}, 1),))
WRITTEN = Tree([4], (Answer([5], [1.0], row=2),))
JUDGED = Tree([6], (Answer([7], [1.0], row=3), Answer([8, 9], [1.0, 1.0], row=4)), {"preference": 0.25, "votes": 4.0})
THUMB = Tree([6], (Answer([7], [1.0], row=5),), {"label": 1.0})
TREES = [SAMPLED, WRITTEN, JUDGED, THUMB]
STREAM = pack(TREES, 100)[0]


def test_answers_and_tokens():
    assert [a.row for a in reading.answers(TREES)] == [1, 2, 3, 4, 5]
    assert [a.row for a in reading.answers(TREES, having="advantage")] == [1]
    assert reading.tokens(TREES, having="advantage") == 1.5
    assert reading.tokens(TREES) == 6.5


def test_demonstrations_were_neither_sampled_nor_judged():
    assert [a.row for a in reading.demonstrations(TREES)] == [2]
    assert reading.demonstration_weights(STREAM).tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_weights_and_figure():
    weights_S = reading.weights(STREAM, having="advantage")
    assert weights_S.tolist() == [1.0, 0.5, 0, 0, 0, 0, 0]
    assert reading.weights(STREAM, having="reference_logp").sum() == 0
    assert reading.figure(STREAM, "advantage", weights_S).tolist() == [2.0, 4.0, 0, 0, 0, 0, 0]
    with pytest.raises(TrainingError, match='row 2: an answer carries no "advantage"'):
        reading.figure(STREAM, "advantage", STREAM.weights_S)


def test_figures_of_trees():
    assert reading.tree_figure(STREAM, "votes", 1.0).tolist() == [1.0, 1.0, 4.0, 1.0]
    assert reading.tree_figure(STREAM, "margin", 0.0).tolist() == [0.0] * 4
    assert reading.marked(STREAM, "preference").tolist() == [2]
    assert reading.marked(STREAM, "margin").tolist() == []
    assert reading.first_answers(STREAM).tolist() == [0, 1, 2, 4]


def test_pairs():
    found = reading.pairs(STREAM)
    assert (found.a_P.tolist(), found.b_P.tolist()) == ([2], [3])
    assert (found.preference_P.tolist(), found.votes_P.tolist(), found.margin_P.tolist()) == ([0.25], [4.0], [0.0])
    assert len(reading.pairs(pack([WRITTEN], 10)[0]).a_P) == 0


def test_pairs_of_a_chain():
    chain = Tree([6], tuple(Answer([n], [1.0]) for n in (7, 8, 9)), {"preference": [None, 0.25, None]})
    stream = pack([WRITTEN, chain, WRITTEN], 100)[0]
    found = reading.pairs(stream)
    assert (found.a_P.tolist(), found.b_P.tolist()) == ([2], [3])
    assert (found.preference_P.tolist(), found.votes_P.tolist(), found.margin_P.tolist()) == ([0.25], [1.0], [0.0])
    assert reading.count_compared([WRITTEN, chain]) == reading.count_compared([chain]) == 1.0
    assert reading.demonstration_weights(stream).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]  # none of them is shown


def test_sums():
    values_S = tensor([1.0, 2.0, math.nan, 4.0, 5.0, 6.0, 7.0])
    weights_S = tensor([1.0, 0.5, 0.0, 1.0, 1.0, 2.0, 1.0])
    assert reading.sums(values_S, weights_S, STREAM).tolist() == [2.0, 0.0, 4.0, 17.0, 7.0]


def test_means():
    values_S = tensor([1.0, 2.0, math.nan, 4.0, 5.0, 6.0, 7.0])
    weights_S = tensor([1.0, 0.5, 0.0, 1.0, 1.0, 2.0, 1.0])
    wanted = [2.0 / 1.5, 0.0, 4.0, 17.0 / 3, 7.0]
    assert reading.means(values_S, weights_S, STREAM).tolist() == pytest.approx(wanted)


def test_count_votes_and_require():
    assert reading.count_votes(TREES, "preference", 2) == 4.0
    assert reading.count_votes(TREES, "label", 1) == 1.0
    reading.require(TREES, "preference", ())
    with pytest.raises(TrainingError, match='row 3: an answer carries no "reference_logp"'):
        reading.require(TREES, "preference", ("reference_logp",))


def test_given():
    assert reading.given(tensor(2.0)).item() == 2.0
    with pytest.raises(TrainingError, match="not asked for"):
        reading.given(None)
