"""The contracts of terms: every term of ours keeps them, and a broken loss is told which, with the numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from burnish.errors import PartError
from burnish.objectives import (
    METHODS,
    Outputs,
    Stream,
    Term,
    TermResult,
    distillation_term,
    entropy_term,
    kl_term,
    likelihood_term,
    pairwise_term,
    policy_term,
)
from burnish.objectives.contract import Kind, example_trees, parameters, term_contract

ALL = [
    "finite",
    "determinism",
    "gradient against finite differences",
    "micro-batch invariance",
    "masked tokens without effect",
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("settings", [{}, {"sft": 0.5}], ids=["plain", "with-sft"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_keeps_every_contract(name: str, settings: dict[str, float]) -> None:
    method = METHODS[name]
    assert term_contract(name, method.terms(settings), method.rows) == ALL


@pytest.mark.parametrize(
    ("term", "kind"),
    [
        (likelihood_term(), "demonstrations"),
        (distillation_term(), "demonstrations"),
        (pairwise_term(), "pairs"),
        (policy_term(), "groups"),
        (policy_term(unit="sequence"), "groups"),
        (policy_term(unit="sequence", ratio="sequence", clip=(2.0, 2.0)), "groups"),
        (policy_term(longest=10), "groups"),
        (policy_term(cap=1.5), "groups"),
        (policy_term(unit="sequence", cap=1.5), "groups"),
        (entropy_term(1.0), "groups"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_term_keeps_every_contract(term: Term, kind: Kind) -> None:
    assert term_contract(term.name, [term], kind) == ALL


def test_kl_keeps_all_but_finite_differences() -> None:
    """Its gradient is that of the KL, not that of the estimate: tested against the closed form elsewhere. Under the
    ratio to the sampling policy the value of k3 has just that gradient."""
    for estimator in ("k1", "k2"):
        kept = term_contract("kl", [kl_term(1.0, estimator)], "groups", differentiable=False)
        assert kept == [contract for contract in ALL if "differences" not in contract]
        with pytest.raises(PartError, match="finite differences"):
            term_contract("kl", [kl_term(1.0, estimator)], "groups")
    assert term_contract("kl", [kl_term(1.0, "k3")], "groups") == ALL
    assert term_contract("kl", [kl_term(1.0, "k3", cap=1.5)], "groups") == ALL


def test_the_made_up_rows_reach_what_a_term_must_look_at() -> None:
    pairs = example_trees("pairs")
    assert {tree.streams["preference"] for tree in pairs} == {1.0, 0.0, 0.5, 2 / 3}
    for kind in ("pairs", "labels", "groups", "demonstrations"):
        trees = example_trees(kind)
        weights = [w for tree in trees for answer in tree.answers for w in answer.weights]
        assert {0.0, 1.0} == set(weights)
        assert len(parameters(trees)) == 3 * len(weights) + sum(len(tree.answers) for tree in trees)


Loss = Callable[[Tensor, Tensor, Stream], Tensor]


def written(loss: Loss, units: Callable[[Tensor], float] = lambda w: float(w.sum())) -> Term:
    """A term of supervised tokens with this sum."""

    def total(outputs: Outputs, stream: Stream) -> TermResult:
        weights = torch.where(stream.present.get("reference_logp", stream.weights_S < 0), 0.0, stream.weights_S)
        return TermResult(loss(outputs.logp_S, weights, stream), {}, units(weights))

    def count(trees) -> float:
        return sum(a.units for t in trees for a in t.answers if "reference_logp" not in a.streams)

    return Term("mine", "token", 1.0, count, total)


def good(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return -(torch.where(weights_S != 0, logp_S, 0.0) * weights_S).sum()


def averages(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good(logp_S, weights_S, stream) / max(float(weights_S.sum()), 1.0)


def centres(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    on = logp_S[weights_S != 0]
    return (on - on.mean()).square().sum() if len(on) else logp_S[:0].sum()


def ignores_the_mask(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return -logp_S.sum()


def multiplies(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return -(logp_S * weights_S).sum()


def leaks_gradient(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good(logp_S, weights_S, stream) + (logp_S.nan_to_num() - logp_S.nan_to_num().detach()).sum()


def draws(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good(logp_S * (1 + 0.01 * torch.rand(())), weights_S, stream)


def detaches(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    probability = torch.where(weights_S != 0, logp_S, 0.0).exp().detach()
    return good((1 - probability) * logp_S, weights_S, stream)


def detaches_in_fp32(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return detaches(logp_S.float(), weights_S, stream)


def no_gradient(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good(logp_S.detach(), weights_S, stream) + 0 * logp_S.nan_to_num().sum()


def not_a_number(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good((-1.0 - logp_S).sqrt(), weights_S, stream)


def infinite_at_the_start(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return good((logp_S + 1).square().log(), weights_S, stream)


def a_vector(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
    return logp_S


def test_a_good_loss_keeps_every_contract() -> None:
    assert term_contract("mine:loss", [written(good)], "demonstrations") == ALL
    in_fp32 = written(lambda logp, weights, stream: good(logp.float(), weights, stream))
    assert term_contract("mine:loss", [in_fp32], "demonstrations") == ALL


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (averages, 'contract "micro-batch invariance": 1.66244 as one batch, 5.55783 as 7'),
        (centres, 'contract "micro-batch invariance"'),
        (ignores_the_mask, 'contract "(micro-batch invariance|masked tokens without effect)"'),
        (multiplies, 'contract "masked tokens without effect": the loss was .* is nan'),
        (leaks_gradient, 'contract "(gradient against finite differences|masked tokens without effect)": .*by logprob'),
        (draws, 'contract "determinism": the same rows gave .*, then'),
        (detaches, 'contract "gradient against finite differences": by logprob 0 it is -0.[0-9]+, and finite'),
        (detaches_in_fp32, 'contract "gradient against finite differences"'),
        (no_gradient, 'contract "gradient against finite differences": by logprob 0 it is 0, and .* say -1'),
        (not_a_number, 'contract "finite": .*nan'),
        (infinite_at_the_start, 'contract "finite": where the policy is the reference the loss is .*inf'),
        (a_vector, "a sum of shape"),
    ],
)
def test_a_broken_loss_is_told_which_contract(loss: Loss, says: str) -> None:
    with pytest.raises(PartError, match=says):
        term_contract("mine:loss", [written(loss)], "demonstrations")


def test_the_mask_is_tried_where_nothing_else_would_see_it() -> None:
    """Reads a neighbour that has no weight: right for every cut, finite, differentiable."""

    def neighbour(logp_S: Tensor, weights_S: Tensor, stream: Stream) -> Tensor:
        same = (stream.answer_S[1:] == stream.answer_S[:-1]).to(logp_S.dtype) * weights_S[1:]
        return good(logp_S, weights_S, stream) + (same * logp_S[:-1].square()).sum()

    with pytest.raises(PartError, match="masked tokens without effect"):
        term_contract("mine:loss", [written(neighbour)], "demonstrations")


def test_a_count_that_is_not_what_was_used_is_told() -> None:
    with pytest.raises(PartError, match='contract "count": it declared 7 tokens and used 9'):
        term_contract("mine:loss", [written(good, units=lambda w: float(len(w[w != 0]) and 9.0))], "demonstrations")


def test_a_gradient_that_stops_on_purpose_is_not_compared() -> None:
    kept = term_contract("mine:loss", [written(detaches)], "demonstrations", differentiable=False)
    assert kept == [contract for contract in ALL if "differences" not in contract]
