"""A preference loss of the user's: by hand, its shares of votes, its options, and what it must not do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, tensor

from burnish.errors import PartError, TrainingError
from burnish.objectives import METHODS, Answer, Outputs, Tree, pack
from burnish.objectives.own import (
    PairLogps,
    own_contract,
    own_method,
    own_preference,
    own_token_contract,
    own_token_term,
    own_tokens,
)
from burnish.parts import Part


def part(function: Callable[..., Any]) -> Part:
    return Part("mine:loss", function, "mine.py 00ff", ())


def dpo(pairs: PairLogps, beta: float = 0.1) -> Tensor:
    lead = pairs.chosen - pairs.reference_chosen - pairs.rejected + pairs.reference_rejected
    return -F.logsigmoid(beta * lead)


def per_token(pairs: PairLogps, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    lead = pairs.chosen / pairs.chosen_tokens - pairs.rejected / pairs.rejected_tokens
    return -F.logsigmoid(beta * lead - gamma)


def tree(preference: float, votes: float = 1.0) -> Tree:
    """Reference -3 and -1 a token; the first answer has one token, the second two and one without weight."""
    first = Answer([2], [1.0], {"reference_logp": [-3.0]}, 1)
    second = Answer([2, 3, 4], [1.0, 0.0, 1.0], {"reference_logp": [-1.0] * 3}, 1)
    return Tree([1], (first, second), {"preference": preference, "votes": votes})


def test_by_hand() -> None:
    logps = PairLogps(*(tensor([value]) for value in (-1.0, -5.0, -3.0, -1.0, 1.0, 1.0)))
    logps.chosen.requires_grad_()
    result = own_preference(part(dpo), logps, tensor([1.0]), tensor([1.0]), {"beta": 0.1})
    assert result.total.item() == pytest.approx(0.437488, abs=1e-6)  # margin 6
    result.total.backward()
    assert logps.chosen.grad.tolist() == pytest.approx([-0.035434], abs=1e-6)
    assert (result.metrics["accuracy"].item(), result.metrics["margin"].item()) == (1.0, 6.0)
    # a share of 2 / 3 of three votes: 2 log(1 + e^-0.6) + 1 log(1 + e^0.6)
    result = own_preference(part(dpo), logps, tensor([2 / 3]), tensor([3.0]), {"beta": 0.1})
    assert result.total.item() == pytest.approx(2 * 0.437488 + 1.037488, abs=1e-5)
    assert result.units == 3.0


def test_what_the_function_sees() -> None:
    seen: list[PairLogps] = []

    def loss(pairs: PairLogps) -> Tensor:
        seen.append(pairs)
        return pairs.rejected - pairs.chosen

    terms = own_method(part(loss)).terms({})
    result = terms[0].loss(Outputs(tensor([-0.5, -4.0, -2.0])), pack([tree(0.0)], 100)[0])
    assert result.total.item() == 5.5  # the second won: -0.5 - (-6)
    (pairs,) = seen  # the way round that no vote went is not asked for
    values = [field.tolist() for field in vars(pairs).values()]
    assert values == [[-6.0], [-0.5], [-2.0], [-3.0], [2.0], [1.0]]


def test_written_as_ours_it_is_ours() -> None:
    trees = [tree(1.0), tree(0.0, 2.0), tree(0.5, 2.0), tree(2 / 3, 3.0)]
    logp_S = -torch.rand(12, generator=torch.Generator().manual_seed(0))
    for name, function, smoothing in (("dpo", dpo, 0.2), ("simpo", per_token, 0.0)):  # SimPO's leaves its gamma alone
        for given in ({}, {"beta": 0.7, "label_smoothing": smoothing, "sft": 0.5}):
            totals = []
            for method in (METHODS[name], own_method(part(function))):
                terms = method.terms(given)
                outputs, stream = Outputs(logp_S), pack(trees, 100)[0]
                totals.append([(t.count(trees), t.weight * t.loss(outputs, stream).total.item()) for t in terms])
            assert totals[0] == [(count, pytest.approx(total, rel=1e-5)) for count, total in totals[1]]


def test_its_options_are_those_of_the_function() -> None:
    method = own_method(part(per_token))
    assert method.settings({}) == {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.0, "sft": 0.0}
    assert (method.rows, method.reference, method.zero_margin) == ("pairs", True, "preference/margin")
    with pytest.raises(TrainingError, match="mine:loss reads no gamma"):
        own_method(part(dpo)).terms({"gamma": 1.0})


def free(pairs: PairLogps) -> Tensor:
    return -F.logsigmoid(pairs.chosen - pairs.rejected)


free.reads_reference = False  # type: ignore[attr-defined]


def test_a_loss_that_reads_no_reference_needs_none() -> None:
    method = own_method(part(free))
    assert (method.reference, method.zero_margin) == (False, None)
    assert len(own_contract(part(free), {})) == 5
    (term,) = method.terms({})
    pair = Tree([1], (Answer([2], [1.0]), Answer([3, 4], [1.0, 0.0])), {"preference": 1.0})
    assert term.count([pair]) == 1.0
    result = term.loss(Outputs(tensor([-1.0, -3.0, -9.0])[:2]), pack([pair], 100)[0])
    assert result.total.item() == pytest.approx(math.log(1 + math.exp(-2.0)))
    assert result.metrics["margin"].item() == 2.0  # of log pi alone


def test_a_loss_that_reads_a_reference_and_says_it_does_not() -> None:
    def loss(pairs: PairLogps) -> Tensor:
        return pairs.rejected - pairs.chosen + pairs.reference_chosen

    loss.reads_reference = False  # type: ignore[attr-defined]
    with pytest.raises(PartError, match=r"mine:loss.*raised.*NoneType"):
        own_contract(part(loss), {})


def none_at_all() -> Tensor:
    return torch.zeros(1)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (none_at_all, "its parameters cannot be read"),
        (lambda pairs, temperature=1.0: pairs.chosen, "it takes pairs, temperature"),
        (lambda pairs, beta: pairs.chosen, "it takes pairs, beta"),
        (lambda chosen, rejected: chosen, "it takes chosen, rejected"),
        (lambda pairs, *, beta="low": pairs.chosen, "it takes pairs, beta"),
    ],
)
def test_a_function_that_is_no_preference_loss(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(PartError, match=says):
        own_method(part(function))


def averages(pairs: PairLogps) -> Tensor:
    return dpo(pairs).mean()


def averages_in_shape(pairs: PairLogps) -> Tensor:
    return dpo(pairs) / len(pairs.chosen)


def centred(pairs: PairLogps) -> Tensor:
    lead = pairs.chosen - pairs.rejected
    return -F.logsigmoid(lead - lead.mean().detach())


def random(pairs: PairLogps) -> Tensor:
    return dpo(pairs) * torch.rand(())


def detached(pairs: PairLogps) -> Tensor:
    return dpo(pairs) * (pairs.chosen - pairs.rejected).sigmoid().detach()


def not_finite(pairs: PairLogps) -> Tensor:
    return (pairs.chosen - pairs.rejected).log()


def not_finite_at_first(pairs: PairLogps) -> Tensor:
    return (pairs.chosen - pairs.reference_chosen).abs().log()


def no_tensor(pairs: PairLogps) -> float:
    return float(dpo(pairs).detach().sum())


def fails(pairs: PairLogps) -> Tensor:
    return pairs.margin


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (averages, r"one loss for each pair\": a tensor of shape \(\), and there are 3 pairs"),
        (averages_in_shape, "micro-batch invariance"),
        (centred, "(micro-batch invariance|finite differences)"),
        (random, "determinism"),
        (detached, "finite differences"),
        (not_finite, 'contract "finite"'),
        (not_finite_at_first, 'contract "finite": where the policy is the reference the loss is -inf'),
        (no_tensor, 'one loss for each pair": a float'),
        (fails, "raised AttributeError"),
    ],
)
def test_a_loss_that_breaks_a_contract(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(PartError, match=says):
        own_contract(part(function), {})


def test_a_good_one_keeps_them_all() -> None:
    for function in (dpo, per_token):
        assert len(own_contract(part(function), {"sft": 0.1})) == 5


def test_a_gradient_that_stops_on_purpose_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "stops_gradient", True, raising=False)
    kept = own_contract(part(detached), {})
    assert "gradient against finite differences" not in kept and "on purpose" in kept[-1]


def focal(logp: Tensor) -> Tensor:
    return -(1 - logp.exp()).square() * logp


def test_a_loss_of_tokens_by_hand() -> None:
    logp_S = tensor([-1.0, math.nan, -2.0], requires_grad=True)
    result = own_tokens(part(focal), logp_S, tensor([1.0, 0.0, 0.5]))
    first, last = (1 - math.exp(-1)) ** 2, 2 * (1 - math.exp(-2)) ** 2
    assert result.total.item() == pytest.approx(first + last / 2, abs=1e-6)
    assert result.units == 1.5
    result.total.backward()
    # -(1 - p)^2 + 2 (1 - p) p logp, at log p = -1; nothing where no weight is
    slope = -((1 - math.exp(-1)) ** 2) - 2 * (1 - math.exp(-1)) * math.exp(-1)
    assert logp_S.grad.tolist()[:2] == pytest.approx([slope, 0.0], abs=1e-6)
    assert own_tokens(part(focal), tensor([-1.0]), tensor([0.0])).total.item() == 0.0


def test_a_loss_of_tokens_is_a_term_of_demonstrations() -> None:
    written = Tree([1], (Answer([2, 3], [1.0, 0.5]),))
    term = own_token_term(part(lambda logp: -2 * logp), 0.25)
    stream = pack([written, tree(1.0)], 100)[0]
    result = term.loss(Outputs(-torch.ones(5)), stream)
    assert (term.name, term.weight, term.count([written, tree(1.0)]), result.total.item()) == (
        "objective",
        0.25,
        1.5,
        3.0,
    )
    assert len(own_token_contract(part(focal))) == 5


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: 0, "no loss of tokens"),
        (lambda logp, weights: -logp, "no loss of tokens: missing a required argument: 'weights'"),
        (lambda logp: -logp.mean(), r"one loss for each token\": a tensor of shape \(\), and there are 7 tokens"),
        (lambda logp: -logp / len(logp), "micro-batch invariance"),
        (lambda logp: -logp.detach() * logp, "finite differences"),
        (lambda logp: (-1 - logp).sqrt(), 'contract "finite"'),
    ],
)
def test_a_loss_of_tokens_that_breaks_a_contract(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(PartError, match=says):
        own_token_contract(part(function))


def test_a_row_without_reference_or_token_is_named() -> None:
    terms = own_method(part(dpo)).terms({})
    bare = Tree([1], (Answer([2], [1.0], {}, 7), Answer([3], [1.0], {}, 7)), {"preference": 1.0})
    with pytest.raises(TrainingError, match='row 7: an answer carries no "reference_logp"'):
        terms[0].count([bare])


def test_what_the_docs_say_of_a_tie() -> None:
    """A tie is half of each way round: at margin 0 log 2, whoever stands first."""
    logps = PairLogps(*(tensor([value]) for value in (-2.0, -2.0, -2.0, -2.0, 1.0, 1.0)))
    result = own_preference(part(dpo), logps, tensor([0.5]), tensor([2.0]), {})
    assert result.total.item() == pytest.approx(2 * math.log(2), abs=1e-6)
