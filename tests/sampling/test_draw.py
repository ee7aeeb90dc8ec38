"""Drawing: the distribution, its edges, and the logprob that is stored."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from burnish.sampling.draw import Columns, draw


def doubles(value: float | list[float], rows: int) -> Tensor:
    return torch.tensor(value if isinstance(value, list) else [value] * rows, dtype=torch.float64)


def drawn(
    logits: Tensor,
    uniform: float | list[float] | Tensor,
    temperature: float | list[float] = 1.0,
    top_p: float = 1.0,
    top_k: float = 0,
    min_p: float = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = len(logits)
    uniforms = uniform if isinstance(uniform, Tensor) else doubles(uniform, rows)
    return draw(logits, Columns(*(doubles(x, rows) for x in (temperature, top_k, top_p, min_p)), uniforms))


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_ids_follow_the_distribution(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ids, _, _ = drawn(logits.expand(20_000, 5), uniforms, temperature)
    counts = torch.bincount(ids, minlength=5).double()
    # 4 degrees of freedom: 99.9 % of such values are below 18.5
    assert chi_square(counts, (logits.double() / temperature).softmax(0)) < 18.5


def test_a_large_vocabulary_is_inverted_across_its_blocks() -> None:
    logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)) * 2
    cumulative = logits[0].double().softmax(0).cumsum(0)
    uniforms = torch.linspace(0, 0.9999, 700, dtype=torch.float64)
    ids, _, _ = drawn(logits.expand(700, -1), uniforms)
    wanted = torch.searchsorted(cumulative, uniforms, right=True)
    # rounding may move a uniform over an edge, never further
    assert float((ids == wanted).double().mean()) > 0.995
    assert (cumulative[ids] > uniforms - 1e-6).all()
    assert (cumulative[ids] - logits[0].double().softmax(0)[ids] < uniforms + 1e-6).all()


@pytest.mark.parametrize("uniform", [0.0, 1e-300, 0.25, 0.5, 0.75, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("size", [4, 256, 257, 1000])
def test_a_token_without_probability_is_never_drawn(uniform: float, size: int) -> None:
    logits = torch.full((1, size), -math.inf)
    logits[0, 1], logits[0, size - 2] = 0.0, 0.0
    ids, logp, finite = drawn(logits, uniform)
    assert ids.item() in (1, size - 2)
    assert finite.item()
    assert logp.item() == pytest.approx(math.log(0.5))


def test_tokens_that_underflow_are_never_drawn_by_rounding() -> None:
    logits = torch.full((1, 600), -200.0)
    logits[0, 300:303] = torch.tensor([1.0, 2.0, 3.0])
    for uniform in (0.0, 0.999999999, 1 - 2**-53):
        ids, _, _ = drawn(logits, uniform)
        assert ids.item() in (300, 301, 302)


def test_the_logprob_is_that_of_the_tempered_distribution_before_truncation() -> None:
    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(2)) * 3
    temperature = [0.5, 0.7, 1.0, 1.3, 2.0, 0.0]
    ids, logp, _ = drawn(logits, 0.3, temperature, top_p=0.6)
    divisor = torch.tensor([t or 1.0 for t in temperature], dtype=torch.float64)[:, None]
    wanted = (logits.double() / divisor).log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(logp.double(), wanted, atol=1e-5, rtol=0)


def test_greedy_takes_the_largest_whatever_the_uniform() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(4))
    ids, _, _ = drawn(logits, [0.0, 0.3, 0.9, 0.99], temperature=0.0)
    assert ids.tolist() == logits.argmax(-1).tolist()


def test_top_p_draws_from_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()
    uniforms = torch.linspace(0, 0.9999, 200, dtype=torch.float64)

    def kept(top_p: float) -> set[int]:
        return set(drawn(logits.expand(200, -1), uniforms, top_p=top_p)[0].tolist())

    assert kept(0.4) == {1}
    assert kept(0.7) == {1, 2}
    assert len(kept(0.85)) == 3
    assert kept(1.0) == {0, 1, 2, 3}
    ids, _, _ = drawn(logits.expand(200, -1), uniforms, top_p=0.7)
    # inside the set the proportions stay: 0.5 of 0.8
    assert float((ids == 1).double().mean()) == pytest.approx(0.625, abs=0.01)


def test_top_p_of_a_flat_distribution_keeps_more_than_the_first_ids_it_looks_at() -> None:
    uniforms = torch.linspace(0, 0.9999, 300, dtype=torch.float64)
    ids, _, _ = drawn(torch.zeros(300, 3000), uniforms, top_p=0.9)
    assert len(set(ids.tolist())) > 256


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_told_per_row(poison: float) -> None:
    logits = torch.zeros(3, 300)
    logits[1, 7] = poison
    for temperature in (0.0, 0.7, 1.0):
        for top_p in (0.5, 1.0):
            assert drawn(logits, 0.5, temperature, top_p)[2].tolist() == [True, False, True]
    assert drawn(torch.full((1, 5), -math.inf), 0.5)[2].tolist() == [False]


def test_top_k_draws_from_the_most_likely_and_min_p_from_the_likely_enough() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.15, 0.05]]).log()
    uniforms = torch.linspace(0, 0.9999, 400, dtype=torch.float64)

    def kept(**limits: float) -> set[int]:
        return set(drawn(logits.expand(400, -1), uniforms, **limits)[0].tolist())

    assert kept(top_k=1) == {1}
    assert kept(top_k=3) == {1, 2, 3}
    assert kept(top_k=9) == {0, 1, 2, 3, 4}
    assert kept(min_p=0.7) == {1, 2}
    assert kept(min_p=0.2) == {0, 1, 2, 3}
    # of 0.4, 0.3 and 0.15 the first is 0.47 of their mass: top_p is of what top_k keeps
    assert kept(top_k=3, top_p=0.46) == {1}
    assert kept(top_k=3, top_p=0.46, min_p=0.2) == {1}
    assert kept(top_p=0.8, min_p=0.5) == {1, 2}


LIMITS = [{"top_k": 40}, {"top_p": 0.8}, {"min_p": 0.05}, {"top_k": 60, "top_p": 0.9, "min_p": 0.02}, {"min_p": 1e-4}]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_truncated_draws_follow_the_distribution_of_what_is_kept(limits: dict[str, float], temperature: float) -> None:
    logits = torch.randn(1, 700, generator=torch.Generator().manual_seed(8)) * 2
    probs = (logits[0].double() / temperature).softmax(0)
    order = probs.argsort(descending=True)
    kept = order[: int(limits.get("top_k", 700))]
    before = (probs[kept] / probs[kept].sum()).cumsum(0).roll(1)
    before[0] = 0.0
    kept = kept[before < limits.get("top_p", 1.0)]
    kept = kept[probs[kept] >= limits.get("min_p", 0.0) * probs[kept[0]]]
    wanted = probs[kept] / probs[kept].sum()
    uniforms = torch.rand(4000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ids, _, _ = drawn(logits.expand(4000, -1), uniforms, temperature, **limits)
    counts = torch.bincount(ids, minlength=700).double()
    assert counts[kept].sum() == 4000  # nothing else is ever drawn
    often = wanted * 4000 >= 5
    seen = torch.cat([counts[kept][often], counts[kept][~often].sum()[None]])
    share = torch.cat([wanted[often], wanted[~often].sum()[None]])
    seen, share = seen[share > 0], share[share > 0]
    freedom = len(share) - 1
    assert freedom >= 5
    # within 3.1 standard deviations: 99.8 % of such values for many degrees of freedom
    assert chi_square(seen, share) < freedom + 3.1 * math.sqrt(2 * freedom) + 3


def test_greedy_ignores_what_is_kept() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(4))
    ids, _, _ = drawn(logits, 0.9, temperature=0.0, top_k=5, top_p=0.5, min_p=0.1)
    assert ids.tolist() == logits.argmax(-1).tolist()
