"""Losses of pairs against numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from burnish.errors import TrainingError
from burnish.objectives import (
    Answer,
    Outputs,
    Tree,
    chosen_term,
    orpo,
    orpo_term,
    pack,
    pairwise,
    pairwise_term,
    preference_margin,
    preference_term,
    simpo,
    simpo_term,
    smoothed,
)

NAN = float("nan")
LOG2 = math.log(2)


def leaf(*values: float) -> torch.Tensor:
    return tensor(values, requires_grad=True)


def test_pairwise():
    a_P = leaf(1.0, 1.0, 1.0)
    result = pairwise(a_P, torch.zeros(3), tensor([1.0, 0.0, 0.5]))
    won, lost = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert result.total.item() == pytest.approx(won + lost + (won + lost) / 2, abs=1e-6)
    assert result.metrics["accuracy"].item() == 1.5
    assert result.metrics["margin"].item() == 3.0
    result.total.backward()
    assert a_P.grad.tolist() == pytest.approx([-0.268941, 0.731059, 0.231059], abs=1e-6)


def test_pairwise_with_several_votes_is_the_sum_of_single_ones():
    several = pairwise(tensor([0.7]), tensor([0.2]), tensor([2 / 3]), tensor([3.0]))
    single = pairwise(tensor([0.7] * 3), tensor([0.2] * 3), tensor([1.0, 1.0, 0.0]))
    assert several.total.item() == pytest.approx(single.total.item(), abs=1e-6)
    assert several.units == single.units == 3.0


@pytest.mark.parametrize(
    ("preference", "loss", "gradient"),
    [(1.0, LOG2, -0.5), (0.0, 2.126928, 0.880797), (0.5, 0.813262, 0.231059), (2 / 3, LOG2, -1 / 6)],
)
def test_pairwise_margin_is_what_the_winner_must_lead_by(preference, loss, gradient):
    a_P = leaf(1.0)  # a leads by 1, and the margin is 1: d is 0 where a won, 2 where b won, 1 in a tie
    result = pairwise(a_P, tensor([0.0]), tensor([preference]), margin_P=tensor([1.0]))
    assert result.total.item() == pytest.approx(loss, abs=1e-6)
    result.total.backward()
    assert a_P.grad.item() == pytest.approx(gradient, abs=1e-6)
    assert result.metrics["margin"].item() == 1.0  # the figure is the lead itself


def test_smoothed():
    share_P = tensor([1.0, 0.0, 0.5, 0.75])
    assert smoothed(share_P, 0.1).tolist() == pytest.approx([0.9, 0.1, 0.5, 0.7])
    assert smoothed(share_P, 0.1, "robust").tolist() == pytest.approx([1.125, -0.125, 0.5, 0.8125])
    for smoothing in ("conservative", "robust"):
        assert smoothed(share_P, 0.0, smoothing).tolist() == share_P.tolist()
        with pytest.raises(TrainingError, match=r"label_smoothing is 0\.5"):
            smoothed(share_P, 0.5, smoothing)


def test_the_robust_loss_is_the_clean_one_in_expectation():
    """A quarter of the votes flipped at random: their mean loss under "robust" is that of the true votes."""
    margin_P = tensor([1.0, -2.0])
    true = preference_margin(margin_P, "sigmoid", 1.0).total
    kept, flipped = (
        preference_margin(margin_P, "sigmoid", 1.0, tensor([p, p]), None, 0.25, "robust").total for p in (1.0, 0.0)
    )
    assert (0.75 * kept + 0.25 * flipped).item() == pytest.approx(true.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "loss", "gradient"), [("sigmoid", 0.437488, -0.035434), ("hinge", 0.4, -0.1), ("ipo", 1.0, 2.0)]
)
def test_preference_margin(kind, loss, gradient):
    margin_P = leaf(6.0)
    result = preference_margin(margin_P, kind, beta=0.1)
    assert result.total.item() == pytest.approx(loss, abs=1e-6)
    result.total.backward()
    assert margin_P.grad.item() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize(
    ("preference", "kind", "loss", "gradient"),
    [
        (0.0, "sigmoid", 1.037488, 0.064566),
        (0.5, "sigmoid", 0.737488, 0.014566),
        (2 / 3, "sigmoid", 0.637488, -0.002101),
        (0.0, "hinge", 1.6, 0.1),
        (0.5, "hinge", 1.0, 0.0),
        (0.0, "ipo", 121.0, 22.0),
        (0.5, "ipo", 61.0, 12.0),
        (2 / 3, "ipo", 41.0, 26 / 3),
    ],
)
def test_preference_margin_of_lost_tied_and_shared_votes(preference, kind, loss, gradient):
    margin_P = leaf(6.0)
    result = preference_margin(margin_P, kind, 0.1, tensor([preference]), tensor([3.0]))
    assert result.total.item() == pytest.approx(3 * loss, rel=1e-5)
    assert result.units == 3.0
    result.total.backward()
    assert margin_P.grad.item() == pytest.approx(3 * gradient, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "smoothing", "loss", "gradient"),
    [
        ("sigmoid", "conservative", 0.497488, -0.025434),
        ("sigmoid", "robust", 0.362488, -0.047934),
        ("hinge", "conservative", 0.52, -0.08),
        ("ipo", "conservative", 13.0, 4.0),
    ],
)
def test_preference_margin_with_a_tenth_of_the_votes_wrong(kind, smoothing, loss, gradient):
    margin_P = leaf(6.0)
    result = preference_margin(margin_P, kind, 0.1, label_smoothing=0.1, smoothing=smoothing)
    assert result.total.item() == pytest.approx(loss, rel=1e-5)
    result.total.backward()
    assert margin_P.grad.item() == pytest.approx(gradient, abs=1e-5)


def test_preference_margin_metrics():
    result = preference_margin(
        tensor([2.0, 3.0, -4.0, 0.0]), "sigmoid", 0.1, tensor([1.0, 0.0, 0.5, 1.0]), tensor([1.0, 1.0, 2.0, 1.0])
    )
    assert result.metrics["accuracy"].item() == 1.0 + 0.0 + 2 * 0.5 + 0.5
    assert result.metrics["margin"].item() == 2.0 - 3.0 + 0.0 + 0.0


@pytest.mark.parametrize(
    ("beta", "gamma", "preference", "loss", "gradient"),
    [(2.0, 1.0, 1.0, LOG2, -1.0), (2.0, 0.0, 1.0, 0.313262, -0.537883), (2.0, 1.0, 0.0, 2.126928, 1.761594)],
)
def test_simpo(beta, gamma, preference, loss, gradient):
    a_P, b_P = leaf(-1.0), leaf(-1.5)
    result = simpo(a_P, b_P, beta, gamma, tensor([preference]))
    assert result.total.item() == pytest.approx(loss, abs=1e-6)
    result.total.backward()
    assert (a_P.grad.item(), b_P.grad.item()) == pytest.approx((gradient, -gradient), abs=1e-6)


def test_simpo_with_label_smoothing():
    a_P = leaf(-1.0)
    result = simpo(a_P, tensor([-1.5]), 2.0, 0.5, label_smoothing=0.25)  # the lead is 1/2 beyond what is asked
    assert result.total.item() == pytest.approx(0.75 * 0.474077 + 0.25 * 0.974077, abs=1e-6)
    result.total.backward()
    assert a_P.grad.item() == pytest.approx(2 * (-0.377541 + 0.25), abs=1e-6)


@pytest.mark.parametrize(
    ("preference", "loss", "gradients"),
    [(1.0, math.log(1.25), (-0.4, 0.25)), (0.0, math.log(5), (1.6, -1.0)), (0.5, math.log(2.5), (0.6, -0.375))],
)
def test_orpo(preference, loss, gradients):
    a_P, b_P = leaf(math.log(0.5)), leaf(math.log(0.2))  # odds 1 and 1/4
    result = orpo(a_P, b_P, tensor([preference]))
    assert result.total.item() == pytest.approx(loss, abs=1e-6)
    result.total.backward()
    assert (a_P.grad.item(), b_P.grad.item()) == pytest.approx(gradients, abs=1e-6)


def pair(preference: float, a: int, b: int, row: int = 0, reference: float = -2.0, **figures: float) -> Tree:
    """A pair whose answers have ``a`` and ``b`` trained tokens and one that is not trained."""

    def answer(length: int, row: int) -> Answer:
        streams = {"reference_logp": [NAN, *[reference] * length]}
        return Answer([9, *range(length)], [0.0, *[1.0] * length], streams, row)

    return Tree([1, 2], (answer(a, row), answer(b, row + 1)), {"preference": preference, **figures})


def written(*ids: int) -> Tree:
    return Tree([1], (Answer(ids, [1.0] * len(ids)),))


TREES = [written(3), pair(1.0, 2, 1, row=1), written(4, 5), pair(0.0, 1, 3, row=3, votes=2.0), pair(0.5, 1, 1, row=5)]
LOGP = [-1.0] + [-1.0, -1.0, -4.0] + [-1.0] * 2 + [-3.0, -1.5, -1.5, -1.0] + [-1.0, -2.0]


def test_preference_term():
    logp_S = leaf(*LOGP)
    term = preference_term("hinge", beta=0.5)
    result = term.loss(Outputs(logp_S), pack(TREES, 100)[0])
    # ratios to -2 a token: 2 and -2; -1 and 2 (two votes for b); 1 and 0 (a tie)
    assert term.count(TREES) == result.units == 4.0
    assert result.total.item() == pytest.approx(0.0 + 2 * 0.0 + (0.5 + 1.5) / 2)
    assert result.metrics["margin"].item() == pytest.approx(4.0 + 2 * 3.0)
    assert result.metrics["accuracy"].item() == 1 + 2 + 0.5
    assert result.metrics["chosen_reward"].item() == pytest.approx(0.5 * (2 + 2 * 2 + 0.5))
    assert result.metrics["rejected_reward"].item() == pytest.approx(0.5 * (-2 + 2 * -1 + 0.5))
    sloped = preference_term("ipo", beta=0.5).loss(Outputs(logp_S), pack(TREES, 100)[0])
    # means: 1 and -2; -1 and 2/3 (two votes for b); 1 and 0 (a tie): 2 (m - 1), over the tokens of an answer
    sloped.total.backward()
    assert sloped.total.item() == pytest.approx((3 - 1) ** 2 + 2 * (5 / 3 - 1) ** 2 + (0 + 4) / 2)
    wanted = [0, 2, 2, -4, 0, 0, *[-8 / 3], *[8 / 9] * 3, 2, -2]
    assert logp_S.grad.tolist() == pytest.approx(wanted)


def test_simpo_term_takes_the_mean_of_an_answers_tokens():
    logp_S = leaf(*LOGP)
    term = simpo_term(beta=2.0, gamma=1.0)
    result = term.loss(Outputs(logp_S), pack(TREES, 100)[0])
    m = [-1.0 + 4.0, -4 / 3 + 3.0, 1.0]  # the winner's lead
    loss = [math.log(1 + math.exp(1 - 2 * x)) for x in (m[0], m[1], m[2], -m[2])]
    assert term.count(TREES) == result.units == 4.0
    assert result.total.item() == pytest.approx(loss[0] + 2 * loss[1] + (loss[2] + loss[3]) / 2, abs=1e-6)
    assert result.metrics["chosen_reward"].item() == pytest.approx(2 * (-1 + 2 * -4 / 3 - 1.5), rel=1e-6)
    result.total.backward()
    slope = 2 / (1 + math.exp(2 * m[0] - 1))
    assert logp_S.grad[1:4].tolist() == pytest.approx([-slope / 2, -slope / 2, slope], abs=1e-6)


def test_orpo_term_takes_the_mean_of_an_answers_tokens():
    half, fifth = math.log(0.5), math.log(0.2)
    logp_S = leaf(2 * half, 0.0, fifth)
    result = orpo_term().loss(Outputs(logp_S), pack([pair(1.0, 2, 1)], 100)[0])
    assert result.total.item() == pytest.approx(math.log(1.25), abs=1e-6)
    assert result.metrics["chosen_reward"].item() == pytest.approx(half, abs=1e-6)
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([-0.2, -0.2, 0.25], abs=1e-6)


def test_chosen_term_trains_the_better_answer_alone():
    logp_S = leaf(*LOGP, -1.0, -2.0)
    thumbs = [Tree([1], (Answer([2], [1.0]),), {"label": label}) for label in (1.0, 0.0)]
    trees, term = [*TREES, *thumbs], chosen_term()
    result = term.loss(Outputs(logp_S), pack(trees, 100)[0])
    assert term.count(trees) == result.units == 6.0
    assert result.total.item() == pytest.approx(2.0 + 4.0 + 1.0)
    result.total.backward()
    assert logp_S.grad.tolist() == [0, -1, -1, 0, 0, 0, 0, -1, -1, -1, 0, 0, -1, 0]


def test_pairwise_term_reads_scores_of_marked_pairs():
    judged = Tree([1], (Answer([2], [0.0]), Answer([3], [0.0])), {"preference": 0.0, "votes": 2.0})
    trees = [written(1, 2), judged, written(3, 4)]
    term = pairwise_term()
    scores_A = leaf(9.0, 1.0, 0.0, 9.0)
    result = term.loss(Outputs(scores_A=scores_A), pack(trees, 100)[0])
    assert term.count(trees) == result.units == 2.0
    assert result.total.item() == pytest.approx(2 * math.log(1 + math.e), abs=1e-6)
    result.total.backward()
    assert scores_A.grad.tolist() == pytest.approx([0.0, 1.462117, -1.462117, 0.0], abs=1e-6)
    alone = [written(1, 2)]
    assert term.loss(Outputs(scores_A=leaf(1.0)), pack(alone, 100)[0]).total.item() == term.count(alone) == 0.0


def test_a_chain_is_its_pairs_and_its_answers_are_laid_out_once():
    """Three answers, each compared with the next, beside the same two comparisons as trees of their own."""
    first, second, third = (Answer([n], [1.0]) for n in (2, 3, 4))
    chain = Tree([1], (first, second, third), {"preference": [1.0, 0.25, None], "votes": [2.0, 3.0, None]})
    apart = [
        Tree([1], (first, second), {"preference": 1.0, "votes": 2.0}),
        Tree([1], (second, third), {"preference": 0.25, "votes": 3.0}),
    ]
    term, one, two = pairwise_term(), leaf(0.5, -1.0, 2.0), leaf(0.5, -1.0, -1.0, 2.0)
    assert term.count([chain]) == term.count(apart) == 5.0
    together = term.loss(Outputs(scores_A=one), pack([chain], 100)[0])
    separate = term.loss(Outputs(scores_A=two), pack(apart, 100)[0])
    assert together.total.item() == pytest.approx(separate.total.item()) and together.units == separate.units == 5.0
    assert {name: m.item() for name, m in together.metrics.items()} == pytest.approx(
        {name: m.item() for name, m in separate.metrics.items()}
    )
    together.total.backward(), separate.total.backward()
    a, b, c, d = two.grad.tolist()
    assert one.grad.tolist() == pytest.approx([a, b + c, d])


def test_a_chain_whose_last_answer_was_compared_is_refused():
    answers = tuple(Answer([n], [1.0], row=7) for n in (2, 3))
    for last in (0.0, 1.0):
        with pytest.raises(TrainingError, match=f"row 7: a preference of {last} on 1 answer"):
            pairwise_term().count([Tree([1], answers, {"preference": [1.0, last], "votes": [1.0, 1.0]})])
    with pytest.raises(TrainingError, match=r"row 7: a preference of 1\.5"):
        pairwise_term().count([Tree([1], answers, {"preference": [1.5, None]})])


def test_pairwise_term_reads_margins():
    wide = Tree([1], (Answer([2], [0.0]), Answer([3], [0.0])), {"preference": 1.0, "margin": 1.0})
    plain = Tree([1], (Answer([2], [0.0]), Answer([3], [0.0])), {"preference": 1.0})
    result = pairwise_term().loss(Outputs(scores_A=tensor([1.0, 0.0, 1.0, 0.0])), pack([wide, plain], 100)[0])
    assert result.total.item() == pytest.approx(LOG2 + 0.313262, abs=1e-6)


@pytest.mark.parametrize("term", [preference_term("sigmoid"), simpo_term(), orpo_term(), chosen_term()])
def test_without_judged_trees_a_pair_term_is_zero_and_keeps_a_gradient(term):
    logp_S = leaf(-1.0)
    result = term.loss(Outputs(logp_S), pack([written(3)], 100)[0])
    assert term.count([written(3)]) == result.units == result.total.item() == 0.0
    result.total.backward()
    assert logp_S.grad.tolist() == [0.0]


TWO = (Answer([2], [1.0], row=7), Answer([3], [1.0], {"reference_logp": [-1.0]}, 8))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (Tree([1], TWO[:1], {"preference": 1.0}), "row 7: a preference of 1.0 on 1 answer"),
        (Tree([1], TWO, {"preference": 1.5}), "row 7: a preference of 1.5 on 2 answers"),
        (Tree([1], TWO, {"preference": [1.0, 0.0]}), "row 7: a preference of"),
        (Tree([1], TWO, {"preference": 1.0, "votes": 0.0}), "row 7: 0.0 votes"),
        (Tree([1], TWO, {"preference": 1.0, "margin": -1.0}), "row 7: a margin of -1.0"),
        (Tree([1], TWO, {"preference": 1.0}), 'row 7: an answer carries no "reference_logp"'),
        (Tree([1], (TWO[1], Answer([2], [0.0], row=7)), {"preference": 1.0}), "row 7: .* no supervised token"),
    ],
)
def test_what_is_no_pair_is_refused_before_any_forward(tree, says):
    with pytest.raises(TrainingError, match=says):
        preference_term("sigmoid").count([tree])


def test_pairwise_term_of_a_criterion_reads_its_own_scores_and_votes_alone():
    """The first pair led by 1 and won two votes of two, the second is not spoken about, the third ties at 0."""
    said = [("preference:tone", 1.0), ("votes:tone", 2.0)], [], [("preference:tone", 0.5)]
    trees = [
        Tree([1], (Answer([2], [1.0]), Answer([3], [1.0])), {"preference": 0.0, "votes": 5.0, **dict(figures)})
        for figures in said
    ]
    tone = leaf(1.0, 0.0, NAN, NAN, 3.0, 3.0)
    outputs = Outputs(scores_A=torch.full((6,), NAN), by_criterion_A={"tone": tone, "style": torch.full((6,), NAN)})
    term = pairwise_term(0.5, "tone")
    assert (term.name, term.weight, term.count(trees)) == ("pairwise:tone", 0.5, 3.0)
    result = term.loss(outputs, pack(trees, 100)[0])
    assert result.units == 3.0
    assert result.total.item() == pytest.approx(2 * math.log(1 + math.exp(-1)) + LOG2, abs=1e-6)
    assert result.metrics["accuracy"].item() == 2.5
    result.total.backward()
    assert tone.grad.tolist() == pytest.approx([-0.537883, 0.537883, 0.0, 0.0, 0.0, 0.0], abs=1e-6)


def test_a_criterion_s_votes_are_checked_as_all_are():
    tree = Tree([1], (Answer([2], [1.0]), Answer([3], [1.0])), {"preference": 1.0, "preference:tone": 1.5})
    with pytest.raises(TrainingError, match=r"a preference of 1\.5"):
        pairwise_term(criterion="tone").count([tree])
