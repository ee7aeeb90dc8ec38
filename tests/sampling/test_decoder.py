"""The decoder is the model's own forward in fewer operators, and stays away where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from burnish.sampling import MISMATCH_HALF, MISMATCH_INT8, Engine, Params, Weights, decoder, mismatch
from burnish.sampling.decoder import Decoder, Layer
from burnish.sampling.kernel import Kernel, kernel
from burnish.sampling.operators import Compiled, Operators, ways
from sampling.conftest import Build

PARAMS = Params(max_new_tokens=20, seed=3)


def needs_gcc(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.compiler(pytest.mark.skipif(kernel() is None, reason="needs gcc")(test))


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "mlp_bias": True}], ids=["plain", "biases"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_logits_are_those_of_the_models_own_forward(
    kind: str, changes: dict[str, bool], build: Build, prompts: list[list[int]], compiled: bool
) -> None:
    if kind != "llama" and changes:
        changes = {"attention_bias": True}
    twins = [build(kind, **changes) for _ in range(2)]
    for model in twins:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    torch.manual_seed(len(name))
                    parameter.normal_(1.0)
    fast, slow = Engine(twins[0], slots=6), Engine(twins[1], slots=6, weights="plain")
    assert isinstance(fast._decoder, Decoder)
    assert {type(layer.operators) for layer in fast._decoder._layers} == {Compiled if compiled else Operators}
    assert slow._decoder is None
    made, wanted = (engine.sample(prompts, 2, PARAMS) for engine in (fast, slow))
    for ours, theirs in zip(made, wanted, strict=True):
        assert [s.ids for s in ours] == [s.ids for s in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("weights", "least", "most"), [("half", 1.00001, MISMATCH_HALF), ("int8", 1.001, MISMATCH_INT8)]
)
def test_rounded_weights_stay_within_their_budget(
    build: Build, prompts: list[list[int]], weights: Weights, least: float, most: float
) -> None:
    exact, rounded = Engine(build(), slots=16), Engine(build(), slots=16, weights=weights)
    assert (exact.weights, rounded.weights) == ("exact", weights)
    groups = [engine.sample(prompts, 12, Params(max_new_tokens=30, seed=1)) for engine in (exact, rounded)]
    flat = [[s for group in made for s in group] for made in groups]
    # equal seeds draw equal ids until rounding decides: until there the logprobs are of the same tokens
    pairs = []
    for one, other in zip(*flat, strict=True):
        same = next((i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=True)) if a != b), len(one.ids))
        pairs += list(zip(one.logprobs[:same], other.logprobs[:same], strict=True))
    assert len(pairs) > 300
    assert least < mismatch(*zip(*pairs, strict=True)) < most


@pytest.mark.parametrize("weights", ["exact", "int8"])
def test_a_first_layer_that_disagrees_leaves_the_models_own_forward(
    weights: Weights, build: Build, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Layer.__call__

    def wrong(self: Layer, hidden_TD: Tensor, *others: object) -> Tensor:
        return hidden_TD + 1.2 * (honest(self, hidden_TD, *others) - hidden_TD)  # type: ignore[arg-type]

    monkeypatch.setattr(Layer, "__call__", wrong)
    engine = Engine(build(), weights=weights)
    assert engine._decoder is None
    assert engine.weights == "plain"
    if weights == "exact":
        wanted = Engine(build(), weights="plain").sample(prompts, 1, PARAMS)
        assert [s.ids for (s,) in engine.sample(prompts, 1, PARAMS)] == [s.ids for (s,) in wanted]


@needs_gcc
@pytest.mark.parametrize("changes", [{"head_dim": 8}, {"intermediate_size": 40}])
def test_widths_that_the_kernel_cannot_take_are_left_to_torch(
    changes: dict[str, int], build: Build, prompts: list[list[int]]
) -> None:
    assert [type(way) for way in ways(16, 48)] == [Compiled, Operators]
    assert [type(way) for way in ways(*({"head_dim": 16, "intermediate_size": 48} | changes).values())] == [Operators]
    fast, slow = Engine(build(**changes)), Engine(build(**changes), weights="plain")
    assert fast._decoder is not None and type(fast._decoder._layers[0].operators) is Operators
    made, wanted = (engine.sample(prompts, 1, PARAMS) for engine in (fast, slow))
    assert [s.ids for (s,) in made] == [s.ids for (s,) in wanted]


@needs_gcc
@pytest.mark.parametrize("part", ["norm", "gate", "attend"])
def test_a_kernel_that_disagrees_leaves_torchs_operators(
    part: str, build: Build, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = getattr(Compiled, part)
    monkeypatch.setattr(Compiled, part, lambda self, *given: honest(self, *given) * 1.01)
    fast, slow = Engine(build()), Engine(build(), weights="plain")
    assert fast._decoder is not None and {type(layer.operators) for layer in fast._decoder._layers} == {Operators}
    made, wanted = (engine.sample(prompts, 1, PARAMS) for engine in (fast, slow))
    assert [s.ids for (s,) in made] == [s.ids for (s,) in wanted]


@needs_gcc
@pytest.mark.parametrize("what", ["beyond the first keys", "in other slots than the first"])
def test_a_kernel_that_goes_wrong_beyond_the_first_keys_is_seen(
    what: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Kernel.attend

    def wrong(self: Kernel, query: Tensor, keys: Tensor, values: Tensor, scale: float, *where: Tensor) -> Tensor:
        slots, positions = where
        seen = positions.clamp(max=31) if what == "beyond the first keys" else positions
        return honest(self, query, keys, values, scale, slots if "keys" in what else slots * 0, seen)

    monkeypatch.setattr(Kernel, "attend", wrong)
    engine = Engine(build())
    assert engine._decoder is not None and type(engine._decoder._layers[0].operators) is Operators


@pytest.mark.parametrize("part", ["model.embed_tokens", "model.norm", "lm_head"])
def test_a_model_of_two_precisions_is_not_taken_apart(part: str, build: Build) -> None:
    """All weights trained in float32 over a base held in bfloat16 leave its embeddings there."""
    model = build()
    model.get_submodule(part).bfloat16()
    assert Decoder.of(model, "exact") is None


def test_only_models_of_the_form_are_taken_apart(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"hidden_act": "gelu"}, {"attention_dropout": 0.1}):
        assert Engine(build(**changes))._decoder is None
    assert Engine(build().to(torch.bfloat16))._decoder is None
    monkeypatch.setattr(decoder, "twin", lambda linear, weights: linear)
    assert Engine(build())._decoder is None


def test_the_engine_frees_the_weights_that_it_laid_out(build: Build) -> None:
    model = build()
    before = sum(p.numel() for p in model.parameters())
    engine = Engine(model)
    assert math.isclose(sum(p.numel() for p in engine._module.parameters()), 97 * 32 + 32)
    assert before > 97 * 32 + 32


def test_the_bases_pages_are_given_back_layer_by_layer(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the base stays beside the copy that was laid out of it: half as much memory again."""
    done: list[object] = []
    honest = Layer.__init__

    def made(self: Layer, *given: object) -> None:
        honest(self, *given)  # type: ignore[arg-type]
        done.append("laid out")

    monkeypatch.setattr(Layer, "__init__", made)
    monkeypatch.setattr(decoder, "let_go", lambda tensors, areas: done.append(sum(t.numel() for t in tensors)))
    model = build(num_hidden_layers=3)
    layer, head = sum(p.numel() for p in model.model.layers[2].parameters()), model.lm_head.weight.numel()
    assert Engine(model, slots=2)._decoder is not None
    assert done == ["laid out", "laid out", layer, "laid out", layer, head]
