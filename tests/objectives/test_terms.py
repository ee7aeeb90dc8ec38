"""Loss terms against numbers computed by hand."""

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
    entropy,
    entropy_term,
    kl,
    kl_term,
    likelihood,
    likelihood_term,
    pack,
    pairwise_term,
    policy,
    policy_term,
    truncated_importance,
)

NAN = float("nan")


def leaf(*values: float) -> torch.Tensor:
    return tensor(values, requires_grad=True)


def test_likelihood():
    logp_S = leaf(-1.0, NAN, -3.0)
    result = likelihood(logp_S, tensor([1.0, 0.0, 0.5]))
    assert result.total.item() == 2.5
    assert result.units == 1.5
    result.total.backward()
    assert logp_S.grad.tolist() == [-1.0, 0.0, -0.5]  # the masked nan leaks nowhere


def test_policy():
    ratios = tensor([1.5, 0.5, 1.5, 1.0])
    old = tensor([-1.0, -2.0, -3.0, -4.0])
    logp_S = (old + ratios.log()).requires_grad_()
    result = policy(logp_S, old, tensor([2.0, -1.0, -1.0, 2.0]), torch.ones(4), clip=(0.2, 0.28))
    # -min(3, 2.56), -min(-0.5, -0.8), -min(-1.5, -1.28), -min(2, 2)
    assert result.total.item() == pytest.approx(-2.56 + 0.8 + 1.5 - 2.0, abs=1e-6)
    assert result.metrics["clip_share"].item() == 2.0
    assert result.metrics["ratio"].item() == pytest.approx(4.5, abs=1e-6)
    assert result.units == 4.0
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([0.0, 0.0, 1.5, -2.0], abs=1e-6)


def test_policy_ignores_masked_positions():
    logp_S = leaf(-1.0, NAN, 500.0)
    result = policy(logp_S, tensor([-1.0, NAN, -500.0]), tensor([3.0, NAN, 1.0]), tensor([1.0, 0.0, 0.0]))
    assert result.total.item() == -3.0
    result.total.backward()
    assert logp_S.grad.tolist() == [-3.0, 0.0, 0.0]


def test_truncated_importance():
    old, drawn = leaf(-1.0, -1.0, -2.0, -1.0), tensor([-1.0, -1.5, -1.0, -3.0])
    found = truncated_importance(old, drawn, 2.0)
    assert found.tolist() == pytest.approx([1.0, math.exp(0.5), math.exp(-1.0), 2.0], abs=1e-6)  # e^2 is held down to 2
    assert not found.requires_grad


def test_policy_weighs_another_samplers_tokens_and_counts_them_once():
    logp_S = leaf(-1.0, -2.0, NAN)
    importance = tensor([0.5, 2.0, NAN])
    weights = tensor([1.0, 1.0, 0.0])
    result = policy(logp_S, tensor([-1.0, -2.0, 0.0]), tensor([3.0, -1.0, 0.0]), weights, importance_S=importance)
    assert result.total.item() == -0.5 * 3.0 + 2.0 * 1.0
    assert result.units == 2.0
    result.total.backward()
    assert logp_S.grad.tolist() == [-1.5, 2.0, 0.0]


def test_kl_under_another_samplers_tokens_is_that_of_the_policy():
    """One token per outcome, weighed with its probability in the sampler: importance makes the expectation exact."""
    logits = tensor([0.3, -1.2, 0.8], dtype=torch.float64, requires_grad=True)
    logp, reference = logits.log_softmax(0), tensor([0.5, 0.2, -0.7], dtype=torch.float64).log_softmax(0)
    exact = (logp.exp() * (logp - reference)).sum()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    old, drawn = logp.detach(), tensor([0.1, 0.0, 0.4], dtype=torch.float64).log_softmax(0)
    importance = truncated_importance(old, drawn, 100.0)
    result = kl(logp, reference, drawn.exp(), old, "k3", importance)
    (found,) = torch.autograd.grad(result.total, logits)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert result.metrics["kl"].item() == pytest.approx(exact.item(), abs=1e-12)


@pytest.mark.parametrize(("estimator", "value"), [("k1", 1.0), ("k2", 0.5), ("k3", math.exp(-1))])
def test_kl_values(estimator, value):
    logp_S = leaf(-1.0, NAN)
    weights = tensor([1.0, 0.0])
    result = kl(logp_S, tensor([-2.0, NAN]), weights, estimator=estimator)
    assert result.total.item() == pytest.approx(value, abs=1e-6)
    assert result.metrics["kl"].item() == pytest.approx(value, abs=1e-6)
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)  # d of the one token
    older = kl(leaf(-1.0, 0.0), tensor([-2.0, NAN]), weights, tensor([-1.5, NAN]), estimator)
    assert older.total.item() == pytest.approx(math.exp(0.5) * value, abs=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("off_policy", [False, True])
def test_kl_gradient_is_that_of_the_closed_form(estimator, off_policy):
    logits = tensor([0.3, -1.2, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    reference = tensor([-0.5, 0.4, 0.2, 0.9], dtype=torch.float64).log_softmax(0)
    logp = logits.log_softmax(0)
    exact = (logp.exp() * (logp - reference)).sum()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    # One token per outcome, weighted with its probability under what sampled it: the expectation itself.
    sampled = tensor([0.9, 0.2, -0.3, 0.4], dtype=torch.float64).log_softmax(0) if off_policy else logp.detach()
    result = kl(logp, reference, sampled.exp(), sampled, estimator)
    (found,) = torch.autograd.grad(result.total, logits)
    assert torch.allclose(found, wanted, atol=1e-12)
    if estimator != "k2":  # the one whose value is biased
        assert result.metrics["kl"].item() == pytest.approx(exact.item(), abs=1e-12)


def test_entropy():
    entropy_S = leaf(0.5, 1.0, NAN)
    result = entropy(entropy_S, tensor([1.0, 2.0, 0.0]))
    assert result.total.item() == -2.5
    assert result.metrics["entropy"].item() == 2.5
    result.total.backward()
    assert entropy_S.grad.tolist() == [-1.0, -2.0, 0.0]


def written(prompt: int, *ids: int, row: int = 0) -> Tree:
    return Tree([prompt], (Answer(ids, [1.0] * len(ids), {}, row),))


def sampled(prompt: int, advantages: list[float], length: int) -> Tree:
    def answer(advantage: float) -> Answer:
        streams = {"advantage": [advantage] * length, "old_logp": [-1.0] * length, "reference_logp": [-2.0] * length}
        streams["sampled_logp"] = [-1.0 - 0.3 * place for place in range(length)]
        return Answer(range(length), [1.0] * length, streams)

    return Tree([prompt], tuple(answer(a) for a in advantages))


def test_each_term_counts_its_own_rows():
    judged = Tree([6], (Answer([2], [1.0]), Answer([3], [1.0])), {"preference": 1.0})  # no demonstration
    trees = [written(1, 2, 3), sampled(4, [1.0, -1.0], 3), sampled(5, [2.0], 1), judged]
    stream = pack(trees, 100)[0]
    outputs = Outputs(torch.full((11,), -1.0), torch.full((11,), 0.25))
    wanted = {  # name: (count, total)
        "likelihood": (2.0, 2.0),
        "policy": (7.0, -2.0),  # 3 x 1 - 3 x 1 + 1 x 2, ratios 1
        "kl": (7.0, 7 * math.exp(-1)),
        "entropy": (7.0, -1.75),
    }
    for term in (likelihood_term(), policy_term(), kl_term(0.1), entropy_term()):
        result = term.loss(outputs, stream)
        assert (term.count(trees), result.total.item()) == pytest.approx(wanted[term.name], abs=1e-6)
        assert result.units == pytest.approx(term.count(trees))


def test_sequence_policy_takes_each_answers_mean():
    trees = [sampled(1, [1.0], 4), sampled(2, [3.0], 2)]
    term = policy_term(unit="sequence")
    result = term.loss(Outputs(torch.full((6,), -1.0)), pack(trees, 100)[0])
    assert term.count(trees) == 2.0
    assert result.total.item() == pytest.approx(-4.0, abs=1e-6)
    assert result.units == pytest.approx(2.0)


def test_policy_with_one_ratio_for_an_answer():
    """Log ratios 0.3 and 0.1 of one answer: both tokens have exp(0.2), and half of the answer's gradient each."""
    trees = [sampled(1, [1.0], 2), sampled(2, [-2.0], 1)]
    logp_S = leaf(-0.7, -0.9, -1.1)
    term = policy_term(unit="sequence", ratio="sequence", clip=(0.3, 0.3))
    result = term.loss(Outputs(logp_S), pack(trees, 100)[0])
    assert result.total.item() == pytest.approx(-math.exp(0.2) + 2 * math.exp(-0.1), rel=1e-5)
    assert term.count(trees) == result.units == pytest.approx(2.0)
    result.total.backward()
    assert logp_S.grad.tolist() == pytest.approx([-math.exp(0.2) / 2] * 2 + [2 * math.exp(-0.1)], rel=1e-5)
    clipped = policy_term(unit="sequence", ratio="sequence", clip=(0.3, 0.15)).loss(Outputs(logp_S), pack(trees, 9)[0])
    assert clipped.metrics["clip_share"].item() == pytest.approx(1.0)  # of two answers, the one that went too far


def test_a_capped_term_reads_what_the_sampler_said():
    """Trainer -1, sampler -1.5 and -3: weights sqrt(e) and, of e^2, the cap of 2."""
    streams = {"advantage": [1.0, 1.0], "old_logp": [-1.0, -1.0], "reference_logp": [-1.0, -1.0]}
    trees = [Tree([1], (Answer([2, 3], [1.0, 1.0], {**streams, "sampled_logp": [-1.5, -3.0]}),))]
    outputs, stream = Outputs(leaf(-1.0, -1.0)), pack(trees, 100)[0]
    result = policy_term(cap=2.0).loss(outputs, stream)
    assert result.total.item() == pytest.approx(-math.exp(0.5) - 2.0, rel=1e-6)
    assert result.metrics["importance"].item() == pytest.approx(math.exp(0.5) + 2.0, rel=1e-6)
    assert (result.metrics["truncated_share"].item(), result.units) == (1.0, 2.0)
    moved = Outputs(leaf(-0.5, -0.5))  # k1: 0.5 for each token, under the ratio to the trainer and that to the sampler
    wanted = math.exp(0.5) * 0.5 * (math.exp(0.5) + 2.0)
    assert kl_term(1.0, "k1", cap=2.0).loss(moved, stream).total.item() == pytest.approx(wanted, rel=1e-6)
    lame = [Tree([1], (Answer([2, 3], [1.0, 1.0], streams),))]
    for term in (policy_term(cap=2.0), kl_term(1.0, cap=2.0)):
        with pytest.raises(TrainingError, match='carries no "sampled_logp"'):
            term.loss(outputs, pack(lame, 100)[0])


def test_policy_divided_by_a_constant_says_so():
    """A token of a short answer weighs as much as one of a long: count 6 tokens, divisor 2 answers of up to 10."""
    trees = [sampled(1, [1.0], 4), sampled(2, [1.0], 2)]
    term = policy_term(longest=10)
    assert term.count(trees) == 6.0 and term.divided_by(trees) == 20.0
    assert policy_term().divided_by(trees) == 6.0


def test_terms_without_a_unit_are_zero_and_keep_a_gradient():
    logp_S = leaf(-1.0, -2.0)
    stream = pack([written(1, 2, 3)], 100)[0]
    for term in (policy_term(), kl_term(0.1)):
        result = term.loss(Outputs(logp_S), stream)
        assert term.count([written(1, 2, 3)]) == result.units == result.total.item() == 0.0
        result.total.backward()
    assert logp_S.grad.tolist() == [0.0, 0.0]


def outputs_for(stream) -> Outputs:
    """Made-up outputs that depend on the token and the row alone, not on the packing."""
    return Outputs(-(stream.targets_S + 1.0).sqrt(), scores_A=tensor([float(row) for row in stream.rows_A]))


@pytest.mark.parametrize("budget", [1, 8, 14])
def test_sums_and_counts_do_not_depend_on_how_the_batch_is_cut(budget):
    pair = Tree([1], (Answer([2, 3], [1.0, 1.0], row=1), Answer([3], [0.0], row=3)), {"preference": 1.0})
    trees = [written(1, 2, 3, 4), sampled(4, [1.0, -1.0], 3), pair, sampled(5, [2.0], 1), written(6, 7)]
    terms = (policy_term(), policy_term(unit="sequence"), policy_term(cap=1.5), kl_term(1.0), kl_term(1.0, cap=1.5))
    for term in (likelihood_term(), *terms, pairwise_term()):
        whole = pack(trees, 1000)[0]
        parts = [term.loss(outputs_for(stream), stream) for stream in pack(trees, budget)]
        assert sum(part.units for part in parts) == pytest.approx(term.count(trees))
        total = term.loss(outputs_for(whole), whole).total.item()
        assert sum(part.total.item() for part in parts) == pytest.approx(total, rel=1e-5)


def test_what_a_term_reads_must_be_there():
    stream = pack([written(1, 2)], 10)[0]
    with pytest.raises(TrainingError, match="not asked for"):
        likelihood_term().loss(Outputs(), stream)
    lame = Tree([1], (Answer([2], [1.0], {"advantage": [1.0]}, 5),))
    with pytest.raises(TrainingError, match='row 5: an answer carries no "old_logp"'):
        policy_term().loss(Outputs(tensor([-1.0])), pack([lame], 10)[0])
