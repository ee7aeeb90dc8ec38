"""What may change: patterns, counts, layer-wise rates, gradual unfreezing."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.freezing import Full, matches, rates, unfreezing
from burnish.models.reward import RewardModel
from burnish.objectives import Answer, Tree, pack

STREAM = pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4),))], 100)[0]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("layers.1", "model.layers.1.mlp.up_proj", True),
        ("layers.1", "model.layers.10.mlp.up_proj", False),
        ("q_proj", "model.layers.0.self_attn.q_proj.lora_A", True),
        ("proj", "model.layers.0.self_attn.q_proj", False),
        ("layers.*.mlp", "model.layers.7.mlp.up_proj", True),
        ("layers.*.up_proj", "model.layers.7.mlp.up_proj", False),
        ("*_proj", "model.layers.7.mlp.up_proj", True),
        ("norm", "model.norm.weight", True),
        ("norm", "model.layers.0.input_layernorm.weight", False),
    ],
)
def test_a_pattern_is_a_run_of_whole_parts(pattern, name, fits):
    assert matches(pattern, name) is fits


def modules(model) -> set[str]:
    return {name.rpartition(".")[0].removeprefix("model.layers.") for name in model.parameters()}


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"targets": ("q_proj", "layers.1.mlp")},
         {"0.self_attn.q_proj", "1.self_attn.q_proj", "1.mlp.up_proj", "1.mlp.gate_proj", "1.mlp.down_proj"}),
        ({"freeze": 1, "targets": ("self_attn",), "layers": 2},
         {f"1.self_attn.{name}_proj" for name in "qkvo"}),
        ({"freeze": ("layers.0", "mlp", "*_proj"), "targets": ("mlp",)}, None),
        ({"freeze": ("mlp", "layers.1"), "layers": 2}, {f"0.self_attn.{name}_proj" for name in "qkvo"}),
        ({"freeze": 1, "layers": 2, "targets": ("layers.0",)}, None),
        ({"layers": 1, "freeze": ("layers.1",)}, None),
    ],
)  # fmt: skip
def test_where_an_adapter_goes(tiny, where, wanted):
    if wanted is None:
        for how in (Lora(4, **where), Full(**where)):
            with pytest.raises(ModelError, match="everything is frozen"):
                tiny.sibling().trainable(how)
        return
    new = tiny.sibling().trainable(Lora(4, **where))
    assert modules(new) == wanted
    # Of an adapter that is everywhere the same part is trained, and the rest is kept.
    continued = tiny.trainable(Lora(4, **where))
    assert modules(continued) == wanted
    assert torch.equal(continued.logp(STREAM).logp_S, tiny.logp(STREAM).logp_S)
    assert continued.first_trained == min(int(name[0]) for name in wanted)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"freeze": 2}, r"cannot freeze the lowest 2 layers: the model has 2\n  at most 1"),
        ({"layers": 3}, r"adapt.layers: cannot train the last 3 layers: 2 can be\n  lower layers: at most 2"),
        ({"targets": ("q_prj",)}, r'no module that can be trained is called "q_prj"\n  known are down_proj, .*v_proj'),
        ({"targets": ("lm_head",)}, "lm_head is not trained"),
        ({"targets": ("q_proj", "model.embed_tokens")}, "model.embed_tokens is not trained"),
        ({"freeze": ("layers.2",)}, r'no module is called "layers.2"\n  known are layers.0 to layers.1, .*q_proj'),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(tiny, where, says):
    for model in (tiny, tiny.sibling()):
        with pytest.raises(ModelError, match=says):
            model.trainable(Lora(4, **where))
    with pytest.raises(ModelError, match=says.replace("v_proj", "v_proj")):
        tiny.sibling().trainable(Full(**where))


def test_frozen_names_may_be_of_what_is_frozen_anyway(tiny):
    assert len(tiny.sibling().trainable(Lora(4, freeze=("embed_tokens", "norm"))).parameters()) == 28


def test_an_adapter_that_covers_less_than_asked_is_refused(tiny):
    last = tiny.sibling(lora=Lora(4, layers=1))
    assert len(last.trainable(Lora(4, layers=1)).parameters()) == 14
    assert len(last.trainable(Lora(4)).parameters()) == 14
    with pytest.raises(ModelError, match="cannot train the last 2 layers: 1 can be"):
        last.trainable(Lora(4, layers=2))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Lora(8), "adapt.rank: adapt.rank is 8, .* rank 4\n  write rank = 4"),
        (Lora(4, alpha=4.0), "alpha 8.0"),
        (Lora(4, alpha=8.0, method="rslora"), 'write method = "lora"'),
    ],
)
def test_another_adapter_than_the_one_that_is_continued_is_refused(tiny, asked, says):
    with pytest.raises(ModelError, match=says):
        tiny.trainable(asked)


NAMES = [*(f"model.layers.{layer}.mlp.up_proj.lora_{part}" for layer in range(5) for part in "AB"), "head"]


def test_rates_fall_by_layer():
    found = rates(NAMES, 0.5)
    assert [found[f"model.layers.{layer}.mlp.up_proj.lora_A"] for layer in range(5)] == [0.0625, 0.125, 0.25, 0.5, 1.0]
    assert found["head"] == 1.0
    assert rates(NAMES[:6], 0.5)[NAMES[4]] == 1.0  # the top layer that is trained, whatever lies above it
    assert set(rates(NAMES, 1.0).values()) == {1.0}


def test_layers_thaw_from_the_top():
    trained = unfreezing(NAMES, 0.5, 20)

    def lowest(step: int) -> int:
        names = trained(step)
        assert "head" in names
        layers = {int(name.split(".")[2]) for name in names - {"head"}}
        assert layers == set(range(min(layers), 5))
        assert len(names) == 2 * len(layers) + 1
        return min(layers)

    assert [lowest(step) for step in range(12)] == [4, 4, 4, 3, 3, 2, 2, 2, 1, 1, 0, 0]
    assert lowest(19) == 0
    assert unfreezing(NAMES, 0.9, 1)(0) == set(NAMES)  # a run of one update trains everything


def test_the_kept_boundary_is_that_of_the_lowest_layer_ever_trained(tiny):
    reward = RewardModel.on(tiny, Lora(4), layers=2, seed=0)
    names = unfreezing(reward.parameters(), 0.9, 10)(0)
    for name, parameter in reward.parameters().items():
        parameter.requires_grad_(name in names)
    assert reward.trunk.first_trained == 0
    assert len(reward.trunk.parameters()) == 28
    copy = reward.trunk.frozen_copy()
    for parameter in reward.trunk.parameters().values():
        parameter.data.fill_(0.3)
    assert not torch.allclose(copy.hidden(STREAM), reward.trunk.hidden(STREAM), atol=1e-2)
