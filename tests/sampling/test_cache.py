"""The slot cache keeps what it holds, and the attention function refuses what it does not implement."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from burnish.errors import SamplingError
from burnish.sampling.cache import LENGTH_BLOCK, Plan, SlotCache, cached_attention


def filled(slots: int, length: int, most: int = 8) -> SlotCache:
    cache = SlotCache(most)
    cache.reserve(slots, length)
    tokens = slots * length
    keys = torch.arange(tokens * 2 * 4, dtype=torch.float32).view(tokens, 2, 4) + 1
    places = torch.arange(tokens)
    for layer in (0, 1):
        cache.write(layer, keys + layer, -keys, places // length, places % length)
    return cache


def test_growing_keeps_every_key_and_value() -> None:
    cache = filled(2, 5)
    before = [tensor[:2, :, :5].clone() for layer in (0, 1) for tensor in cache.read(layer)]
    cache.reserve(3, LENGTH_BLOCK + 1)
    after = [tensor[:2, :, :5] for layer in (0, 1) for tensor in cache.read(layer)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert cache.read(0)[0].shape == (4, 2, 2 * LENGTH_BLOCK, 4)


def test_slots_double_up_to_the_most_and_never_shrink() -> None:
    cache = SlotCache(5)
    seen = []
    for slots in (1, 2, 3, 5, 2):
        cache.reserve(slots, 1)
        seen.append(cache.slots)
    assert seen == [1, 2, 4, 5, 5]
    assert cache.length == LENGTH_BLOCK


def test_copying_takes_the_first_tokens_of_every_layer() -> None:
    cache = filled(3, 5)
    before = cache.read(1)[0].clone()
    cache.copy(0, 2, 3)
    after = cache.read(1)[0]
    assert torch.equal(after[2, :, :3], before[0, :, :3])
    assert torch.equal(after[2, :, 3:], before[2, :, 3:])
    assert torch.equal(after[:2], before[:2])


def test_clearing_forgets_one_slot() -> None:
    cache = filled(3, 5)
    cache.clear(1)
    keys, values = cache.read(0)
    assert not keys[1].any()
    assert not values[1].any()
    assert keys[0, :, :5].all()
    assert keys[2, :, :5].all()


def attend(plan: Plan | None, mask: torch.Tensor | None = None, **others: object) -> None:
    layer = nn.Identity()
    layer.layer_idx = 0  # type: ignore[assignment]
    q = torch.randn(1, 4, 1, 8)
    cached_attention(layer, q, q[:, :2], q[:, :2], mask, plan=plan, **others)


def plan_of(longest: int) -> Plan:
    cache = SlotCache(1)
    cache.reserve(1, 1)
    plan = Plan(cache, longest)
    plan.add(0, 0, [3])
    plan.seal(torch.device("cpu"), torch.float32)
    return plan


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_attention_that_is_not_implemented_is_refused_by_name(name: str) -> None:
    attend(plan_of(16), **{name: None})
    with pytest.raises(SamplingError, match=name):
        attend(plan_of(16), **{name: torch.tensor(30.0)})


def test_a_window_shorter_than_the_longest_request_is_refused() -> None:
    attend(plan_of(16), sliding_window=16)
    with pytest.raises(SamplingError, match="window of 15 tokens"):
        attend(plan_of(16), sliding_window=15)


def test_a_model_that_an_engine_owns_cannot_be_run_otherwise() -> None:
    with pytest.raises(SamplingError, match="owns"):
        attend(None)
    with pytest.raises(SamplingError, match="owns"):
        attend(plan_of(16), mask=torch.zeros(1, 1, 1, 1))
