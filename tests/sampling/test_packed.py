"""Laid-out weights give the plain layer's numbers, as exactly as they promise, and stay away where they cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from burnish.sampling import packed
from burnish.sampling.kernel import kernel
from burnish.sampling.packed import CompiledLinear, HalfLinear, Int8Linear, PackedLinear, pack_weights, twin


@pytest.fixture(
    autouse=True, params=[pytest.param(CompiledLinear, marks=pytest.mark.compiler), PackedLinear], ids=["gcc", "none"]
)
def exact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[nn.Module]]:
    """The exact layer with a compiler and without; what was found out about this machine is found out anew."""
    if request.param is PackedLinear:
        monkeypatch.setattr(packed, "kernel", lambda: None)
    elif kernel() is None:
        pytest.skip("needs gcc")
    known = packed._agrees, packed._saturates
    for found in known:
        found.cache_clear()
    yield request.param
    for found in known:
        found.cache_clear()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 24, bias=False), nn.Linear(24, 40))


def rounded(linear: nn.Linear) -> Tensor:
    """The weights that 8 bits leave: 127 steps to the largest of each output."""
    step = linear.weight.detach().abs().amax(1, keepdim=True) / 127
    return (linear.weight.detach() / step).round() * step


def close(found: Tensor, wanted: Tensor) -> bool:
    """To 16 bits of each row's own size."""
    return bool(((found - wanted).abs().amax(-1) < 3e-4 * wanted.abs().amax(-1)).all())


@pytest.mark.parametrize("rows", [1, 3, 64, 200])
def test_packed_is_plain(rows: int, exact: type[nn.Module]) -> None:
    x, onto = torch.randn(1, rows, 24), torch.randn(1, rows, 24)
    net = network()
    wanted = net(x)
    assert pack_weights(net) == 3
    assert all(type(layer) is exact for layer in net)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), wanted, atol=1e-5, rtol=1e-5)
        added = net[1](wanted.detach(), onto)
        torch.testing.assert_close(added, net[1](wanted.detach()) + onto, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_sixteen_bits_lose_the_weights_rounding_and_nothing_more(rows: int, bias: bool) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(96, 40, bias=bias)
    x, onto = torch.randn(rows, 96) * 1000, torch.randn(rows, 40)
    made = twin(linear, "half")
    assert isinstance(made, HalfLinear)
    wanted = x @ linear.weight.detach().half().float().T + (linear.bias.detach() if bias else 0.0)
    with torch.inference_mode():
        for found, right in ((made(x), wanted), (made(x, onto.clone()), wanted + onto), (made(x[None])[0], wanted)):
            torch.testing.assert_close(found, right, atol=2e-3, rtol=1e-5)


def test_a_weight_that_sixteen_bits_cannot_hold_stays_exact(exact: type[nn.Module]) -> None:
    linear = nn.Linear(96, 40)
    linear.weight.data[3, 5] = 70000.0
    assert type(twin(linear, "half")) is exact


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_eight_bits_lose_the_weights_rounding_and_hardly_more(rows: int, bias: bool) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(96, 40, bias=bias)
    x, onto = torch.randn(rows, 96), torch.randn(rows, 40)
    x[:, 5] *= 100  # an outlier in every row, and rows of unlike size
    x *= torch.logspace(-3, 3, rows)[:, None]
    made = twin(linear, "int8")
    assert isinstance(made, Int8Linear)
    wanted = x @ rounded(linear).T + (linear.bias.detach() if bias else 0.0)
    with torch.inference_mode():
        for found, right in ((made(x), wanted), (made(x, onto.clone()), wanted + onto), (made(x[None])[0], wanted)):
            assert close(found, right)


def test_a_row_of_eight_bits_does_not_depend_on_its_company() -> None:
    made = Int8Linear(network()[0])
    with torch.inference_mode():
        x = torch.randn(6, 24) * torch.tensor([1.0, 50.0, 0.1, 1.0, 3.0, 1.0])[:, None]
        alone = [made(row[None])[0] for row in x]
        assert close(made(x), torch.stack(alone))
        x[3, 2], x[4, 2] = math.nan, math.inf
        found = made(x)
    assert [bool(row.isfinite().all()) for row in found] == [True, True, True, False, False, True]
    assert close(found[[0, 1, 2, 5]], torch.stack([alone[i] for i in (0, 1, 2, 5)]))


def test_a_row_of_zeros_gives_the_bias() -> None:
    linear = network()[0]
    with torch.inference_mode():
        torch.testing.assert_close(Int8Linear(linear)(torch.zeros(2, 24)), linear.bias.expand(2, -1))


def test_a_cpu_that_overflows_gets_seven_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_saturates", lambda: True)
    torch.manual_seed(1)
    linear = nn.Linear(96, 40, bias=False)
    made, x = Int8Linear(linear), torch.randn(4, 96)
    with torch.inference_mode():
        apart = made(x) - x @ rounded(linear).T
    assert float(apart.abs().max()) < 1e-3
    assert made._narrow


def test_only_plain_float32_layers_are_packed() -> None:
    class Own(nn.Linear):
        pass

    net = nn.Sequential(nn.Linear(8, 8).bfloat16(), Own(8, 8), nn.Embedding(3, 8))
    assert pack_weights(net) == 0
    assert pack_weights(net, "int8") == 0
    assert pack_weights(network(), "plain") == 0


def test_a_shape_that_disagrees_gets_the_next_more_exact_layer(
    exact: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exact.forward

    def wrong_for_wide(self: nn.Module, x: Tensor, onto: Tensor | None = None) -> Tensor:
        return honest(self, x, onto) + (0.01 if self.out_features == 40 else 0.0)

    monkeypatch.setattr(exact, "forward", wrong_for_wide)
    net = network()
    after = nn.Linear if exact is PackedLinear else PackedLinear
    assert pack_weights(net) == (1 if exact is PackedLinear else 3)
    assert [type(layer) for layer in net] == [after, exact, after]


def test_what_eight_bits_get_wrong_is_exact_instead(exact: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Int8Linear.forward

    def wrong_for_wide(self: Int8Linear, x: Tensor, onto: Tensor | None = None) -> Tensor:
        return honest(self, x, onto) * (1.05 if self.out_features == 40 else 1.0)

    monkeypatch.setattr(Int8Linear, "forward", wrong_for_wide)
    net = network()
    assert pack_weights(net, "int8") == 3
    assert [type(layer) for layer in net] == [exact, Int8Linear, exact]


@pytest.mark.parametrize("weights", ["exact", "int8"])
def test_without_the_operators_everything_stays_plain(weights: packed.Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(packed, "kernel", lambda: None)
    monkeypatch.setattr(PackedLinear, "__init__", absent)
    monkeypatch.setattr(packed, "_eight_bits", absent)
    net = network()
    assert pack_weights(net, weights) == 0
    assert all(type(layer) is nn.Linear for layer in net)
