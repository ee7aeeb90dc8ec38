"""DoRA: its formula, its gradient, and that nothing downstream takes it for LoRA."""

from __future__ import annotations

import pytest
import torch

from burnish.models.adapters import Lora, adapted
from burnish.models.dora import DoraLinear
from burnish.models.reward import RewardModel
from burnish.objectives import Answer, Tree, pack

STREAM = pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4), Answer([3, 2], [1.0] * 2)))], 100)[0]


def base(weight: list[list[float]], bias: list[float] | None = None) -> torch.nn.Linear:
    linear = torch.nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        if bias is not None:
            linear.bias.copy_(torch.tensor(bias))
    return linear.requires_grad_(False)


@pytest.fixture
def dora(tiny):
    model = tiny.sibling(lora=Lora(4, method="dora"), trainable=True)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.parameters().items():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
        assert name.rpartition(".")[2] in ("lora_A", "lora_B", "lora_magnitude_vector")
    return model


def test_by_hand():
    linear = base([[3.0, 0.0]], [0.5])
    layer = DoraLinear(linear, torch.tensor([[0.0, 1.0]]), torch.tensor([[8.0]]), 0.5, True, torch.tensor([10.0]))
    x = torch.tensor([[1.0, 2.0]])
    # W + 0.5 B A = [3, 4], of norm 5; 10 / 5 times (3 + 8), and the bias
    assert layer(x).tolist() == [[22.5]]
    assert layer.plain(merge=True).weight.tolist() == [[6.0, 8.0]]
    assert layer.plain(merge=False).weight is linear.weight
    layer(x).sum().backward()
    assert layer.lora_magnitude_vector.grad.tolist() == pytest.approx([11 / 5])
    assert layer.lora_B.grad.tolist() == [[2.0]]  # 10/5 x 0.5 x 2; with the norm's own gradient it would be 0.24
    assert layer.lora_A.grad.tolist() == [[8.0, 16.0]]  # 10/5 x 0.5 x 8 x (1, 2)


def test_a_new_one_changes_nothing():
    layer = DoraLinear(base([[3.0, 4.0], [0.0, 2.0]]), torch.rand(1, 2), torch.zeros(2, 1), 2.0, True)
    assert layer.lora_magnitude_vector.tolist() == [5.0, 2.0]
    x = torch.tensor([[1.0, -1.0]])
    assert layer(x).tolist() == [[-1.0, -2.0]]


def test_gradients_are_those_of_peft(dora, tiny_model_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    for name, data in dora.files().items():
        (tmp_path / name).write_bytes(data)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    theirs = PeftModel.from_pretrained(plain, tmp_path, is_trainable=True).eval()
    row = torch.tensor([[*range(5, 12)]])
    theirs(row).logits[0, 2:6].log_softmax(-1).gather(1, row[0, 3:, None]).square().sum().backward()
    dora.logp(pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4),))], 100)[0]).logp_S.square().sum().backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in dora.parameters().items():
        layer, _, part = name.rpartition(".")
        found = wanted[f"base_model.model.{layer}.{part}.default.weight"].grad
        assert torch.allclose(parameter.grad, found, rtol=1e-3, atol=1e-5), name


def test_flat_is_slow(dora):
    flat, slow = dora.logp(STREAM).logp_S, dora.logp_slow(STREAM).logp_S
    assert torch.allclose(flat, slow, atol=1e-5)
    parameters = list(dora.parameters().values())
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), parameters) for x in (flat, slow)), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_merged_copied_and_continued(dora, tiny, tmp_path):
    with torch.no_grad():
        before = dora.logp(STREAM).logp_S
        assert not torch.allclose(before, tiny.sibling().logp(STREAM).logp_S, atol=1e-2)
        assert torch.allclose(dora.merged().logp(STREAM).logp_S, before, atol=1e-5)
        for name, data in dora.files().items():
            (tmp_path / name).write_bytes(data)
        loaded = tiny.sibling({path.name: path for path in tmp_path.iterdir()})
        assert torch.equal(loaded.logp(STREAM).logp_S, before)
        again = loaded.trainable(Lora(4, method="dora"))
        assert list(again.parameters()) == list(dora.parameters())
        for parameter in again.parameters().values():
            parameter.data *= 1.5
        assert torch.equal(loaded.logp(STREAM).logp_S, before)  # the reference does not follow
        assert not torch.allclose(again.logp(STREAM).logp_S, before, atol=1e-3)


def test_a_reward_stands_on_it_and_may_be_one(dora):
    reward = RewardModel.on(dora, Lora(4, method="dora"), layers=1, seed=0)
    assert all(isinstance(layer, DoraLinear) for layer in adapted(reward.trunk.module).values())
    assert len(adapted(reward.trunk.module)) == 7
    with torch.no_grad():
        assert torch.allclose(reward.trunk.hidden(STREAM), dora.hidden(STREAM), atol=1e-4)
