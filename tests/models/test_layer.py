"""The decoder layer with few passes against transformers' own: output and every gradient."""

from __future__ import annotations

import pytest
import torch

from burnish.models import layer as fast
from burnish.models.layer import decoder_layer, fits
from burnish.objectives import Span

SPANS = (Span(0, 6), Span(6, 10, (0, 6)), Span(10, 11, (0, 6)), Span(11, 16))
POSITIONS = torch.tensor([[*range(6), *range(6, 10), 6, *range(5)]])


def both(model, monkeypatch):
    """(output, gradients by name) of the first layer, by the fast function and by the layer itself."""
    found = []
    layer = model.trunk.layers[0]
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(16, 64, generator=generator)
    upstream = torch.randn(16, 64, generator=generator)
    for plain in (False, True):
        monkeypatch.setattr(fast, "fits", (lambda _: False) if plain else fits)
        hidden = start.clone().requires_grad_()
        cos, sin = model.trunk.rotary_emb(hidden[None], position_ids=POSITIONS)
        output = decoder_layer(layer, hidden, cos[0], sin[0], SPANS)
        names = {"hidden": hidden} | {n: p for n, p in layer.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad((output * upstream).sum(), list(names.values()))
        found.append((output, dict(zip(names, gradients, strict=True))))
    return found


def require_same(fast_one, plain_one, count: int):
    torch.testing.assert_close(fast_one[0], plain_one[0], rtol=1e-5, atol=1e-5)
    assert len(fast_one[1]) == count
    for name, gradient in plain_one[1].items():
        assert float(gradient.norm()) > 0, name
        torch.testing.assert_close(fast_one[1][name], gradient, rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_output_and_adapter_gradients(build, monkeypatch, kind):
    model = build(kind)
    assert fits(model.trunk.layers[0])
    require_same(*both(model, monkeypatch), count=1 + 2 * 7)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_gradients_of_weights_biases_and_norms(build, monkeypatch, kind):
    model = build(kind)
    for name, parameter in model.trunk.layers[0].named_parameters():
        parameter.requires_grad_()
        if name.endswith("bias"):  # they start at zero
            parameter.data.normal_(generator=torch.Generator().manual_seed(7))
    tensors = {"llama": 2 + 7 * 3, "qwen2": 2 + 7 * 3 + 3, "qwen3": 4 + 7 * 3}
    require_same(*both(model, monkeypatch), count=1 + tensors[kind])


def test_a_layer_without_adapter_passes_the_gradient_on(build, monkeypatch):
    model = build("llama", layers=1)  # the first of two layers has none
    require_same(*both(model, monkeypatch), count=1)


@pytest.mark.parametrize("change", ["type", "dtype", "activation"])
def test_a_layer_of_another_form_runs_as_it_is(build, change):
    model = build("llama")
    layer = model.trunk.layers[0]
    if change == "type":
        layer.mlp.up_proj = torch.nn.Sequential(layer.mlp.up_proj)
    elif change == "dtype":
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight.data.double()
    else:
        layer.self_attn.config.hidden_act = "gelu"
    assert not fits(layer)
