"""The decoder layer with few passes against transformers' own: output and every gradient."""

from __future__ import annotations

import pytest
import torch

from burnish.models import language
from burnish.models.layer import Products, decoder_layer, fits, plain_layer
from burnish.objectives import Answer, Span, Tree, pack

SPANS = (Span(0, 6), Span(6, 10, (0, 6)), Span(10, 11, (0, 6)), Span(11, 16))
POSITIONS = torch.tensor([[*range(6), *range(6, 10), 6, *range(5)]])


def both(model, take=None):
    """(output, gradients by name) of the first layer, by the fast function and by the layer itself."""
    found = []
    layer = model.trunk.layers[0]
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(16, 64, generator=generator)
    upstream = torch.randn(16 if take is None else len(take), 64, generator=generator)
    for run in (decoder_layer, plain_layer):
        hidden = start.clone().requires_grad_()
        cos, sin = model.trunk.rotary_emb(hidden[None], position_ids=POSITIONS)
        output = run(layer, hidden, cos[0], sin[0], SPANS, take)
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
def test_output_and_adapter_gradients(build, kind):
    model = build(kind)
    assert fits(model.trunk.layers[0])
    require_same(*both(model), count=1 + 2 * 7)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_gradients_of_weights_biases_and_norms(build, kind):
    model = build(kind)
    for name, parameter in model.trunk.layers[0].named_parameters():
        parameter.requires_grad_()
        if name.endswith("bias"):  # they start at zero
            parameter.data.normal_(generator=torch.Generator().manual_seed(7))
    tensors = {"llama": 2 + 7 * 3, "qwen2": 2 + 7 * 3 + 3, "qwen3": 4 + 7 * 3}
    require_same(*both(model), count=1 + tensors[kind])


def test_positions_that_nothing_reads_are_left_out(build):
    take = torch.tensor([5, 5, 7, 10, 15])  # one twice: both answers begin at their prompt's last token
    taken, plain = both(build("llama"), take)
    assert taken[0].shape == (5, 64)
    require_same(taken, plain, count=1 + 2 * 7)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_hidden_states_of_some_positions_are_those_of_all(build, first):
    """Wherever the run begins: at the embeddings, at the last layer, or above it."""
    model = build("llama")
    stream = pack([Tree([5, 9, 11], (Answer([7, 8, 2], [1.0] * 3),)), Tree([6], (Answer([1, 2], [1.0] * 2),) * 2)], 99)[
        0
    ]
    if first:
        below = model._run(stream, last=first).detach()
        model.kept = lambda _: (below, first)
    torch.testing.assert_close(model.hidden(stream, stream.take_S), model.hidden(stream)[stream.take_S])


def test_nothing_is_computed_for_an_adapter_that_is_frozen(build):
    flat = [torch.ones(3, 2), None, torch.ones(1, 2), torch.ones(3, 1)]
    for A, B in ((True, True), (True, False), (False, True), (False, False)):
        _, own = Products(flat, [1.0]).backward(
            [torch.ones(4, 3)], torch.ones(4, 2), torch.ones(4, 1), False, [False, False, A, B]
        )
        assert [gradient is not None for gradient in own] == [False, False, A, B]


def test_a_layer_without_adapter_passes_the_gradient_on(build):
    model = build("llama", layers=1)  # the first of two layers has none
    require_same(*both(model), count=1)


def test_each_layer_of_a_model_runs_as_its_form_asks(build, monkeypatch):
    model, ran = build("llama"), []
    model.trunk.layers[1].mlp.up_proj = torch.nn.Sequential(model.trunk.layers[1].mlp.up_proj)
    for run in (decoder_layer, plain_layer):
        monkeypatch.setattr(language, run.__name__, lambda *a, run=run, **b: ran.append(run) or run(*a, **b))
    stream = pack([Tree([5, 9, 11], (Answer([7, 8, 2], [1.0] * 3),))], 99)[0]
    asked = []
    monkeypatch.setattr(language, "fits", lambda layer: asked.append(layer) or fits(layer))
    for _ in range(2):
        ran.clear()
        model.logp(stream)
        assert ran == [decoder_layer, plain_layer]
    assert len(asked) == 2
    model.frozen_copy().logp(stream)  # another model asks for itself: its layers may have another form
    assert len(asked) == 4


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
