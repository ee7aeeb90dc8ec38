"""Packed weights give the plain layer's numbers, and stay away where they cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from burnish.sampling import packed
from burnish.sampling.packed import PackedLinear, pack_weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 24, bias=False), nn.Linear(24, 40))


@pytest.mark.parametrize("rows", [1, 3, 64, 200])
def test_packed_is_plain(rows: int) -> None:
    x = torch.randn(1, rows, 24)
    net = network()
    wanted = net(x)
    assert pack_weights(net) == 3
    with torch.inference_mode():
        torch.testing.assert_close(net(x), wanted, atol=1e-5, rtol=1e-5)


def test_only_plain_float32_layers_are_packed() -> None:
    class Own(nn.Linear):
        pass

    net = nn.Sequential(nn.Linear(8, 8).bfloat16(), Own(8, 8), nn.Embedding(3, 8))
    assert pack_weights(net) == 0


def test_a_shape_that_disagrees_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PackedLinear.forward

    def wrong_for_wide(self: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        return honest(self, x) + (0.01 if self.out_features == 40 else 0.0)

    monkeypatch.setattr(PackedLinear, "forward", wrong_for_wide)
    net = network()
    assert pack_weights(net) == 1
    assert [type(layer) for layer in net] == [nn.Linear, PackedLinear, nn.Linear]


def test_without_the_operators_everything_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed.torch.backends.mkldnn, "is_available", lambda: False)
    net = network()
    assert pack_weights(net) == 0
    assert all(type(layer) is nn.Linear for layer in net)
