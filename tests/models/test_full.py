"""Full weights: what is copied, what stays frozen, what is saved, and how it is used afterwards."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.data.render import Renderer
from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.artifacts import load_reward, load_version, save_reward, save_version
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.models.weights import FILE
from burnish.objectives import Answer, Tree, pack
from burnish.sampling import Engine, Params
from burnish.store import Work, open_store

STREAM = pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4), Answer([3, 2], [1.0] * 2)))], 100)[0]


def logp(model) -> torch.Tensor:
    with torch.no_grad():
        return model.logp(STREAM).logp_S


def moved(model: LanguageModel, by: float = 0.05) -> LanguageModel:
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters().values():
        parameter.data += by * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def full(tiny) -> LanguageModel:
    return moved(tiny.sibling().trainable(Full()))


def test_what_is_trained_and_what_is_not(tiny, full):
    names = set(full.parameters())
    assert len(names) == 2 * 9 + 1  # seven linear layers and two norms a layer, and the final norm
    assert not any("embed" in name or "head" in name for name in names)
    assert full.head is tiny.head  # tied to the embeddings, and shared with the base
    assert not full.head.requires_grad
    assert full.first_trained == 0
    last = tiny.sibling().trainable(Full(layers=1))
    assert {name.split(".")[2] for name in last.parameters()} == {"1", "weight"}
    assert last.first_trained == 1
    assert last.boundary(STREAM).shape == (len(STREAM.ids_T), 64)


def test_the_base_the_reference_and_the_sampler_do_not_follow(tiny):
    base = tiny.sibling()
    before = logp(base)
    full = base.trainable(Full())
    assert torch.equal(logp(full), before)
    reference, sampler = full.frozen_copy(), full.merged()
    moved(full)
    assert not torch.allclose(logp(full), before, atol=1e-2)
    for other in (base, reference, sampler):
        assert torch.equal(logp(other), before)
        assert not any(p.requires_grad for p in other.module.parameters())
    assert all(p.requires_grad for p in full.parameters().values())


def test_flat_is_slow(full):
    flat, slow = full.logp(STREAM).logp_S, full.logp_slow(STREAM).logp_S
    assert torch.allclose(flat, slow, atol=1e-5)
    parameters = list(full.parameters().values())
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), parameters) for x in (flat, slow)), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_an_adapter_is_folded_in_first(tiny):
    last = tiny.trainable(Full(layers=1))
    assert torch.allclose(logp(last), logp(tiny), atol=1e-5)
    assert last.lora is None
    # The lower layer is not trained, and it is no longer the base's: it is saved too.
    assert "model.layers.0.mlp.up_proj.weight" in last.changed - set(last.parameters())
    assert "model.layers.0.input_layernorm.weight" not in last.changed


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "project" / ".burnish")


@pytest.fixture
def renderer(tiny_model_folder):
    return Renderer.from_folder(tiny_model_folder, None)


def kept(store, stage, body, kind="version"):
    return store.once(Work(kind, stage, 1, {}, (), 0, "support"), lambda: body)


def test_a_version_goes_into_the_store_and_comes_back(store, tiny, full, renderer):
    record = kept(store, "sft", save_version(store, full, renderer, stage="sft", settings={}))
    assert set(store.blobs.tree(record.body["adapter"])) == {FILE}
    for like in (None, tiny, full, full.merged()):
        again = load_version(store, record, like=like).model
        assert torch.equal(logp(again), logp(full))
        assert again.parameters() == {}
    continued = moved(again.trainable(Full(layers=1)), by=0.1)
    assert torch.equal(logp(again), logp(full))
    second = kept(store, "more", save_version(store, continued, renderer, stage="sft", settings={}))
    assert torch.equal(logp(load_version(store, second, like=tiny).model), logp(continued))
    assert set(load_version(store, record, like=tiny, trainable=True).model.parameters()) == full.changed
    with pytest.raises(ModelError, match="no base tensors to share"):
        again.sibling()


def test_an_adapter_on_full_weights_is_saved_with_them(store, tiny, full, renderer):
    both = moved(full.trainable(Lora(4)), by=0.2)
    assert all(".lora_" in name for name in both.parameters())
    assert full.parameters().keys() == full.changed  # putting an adapter beside them froze nothing of theirs
    record = kept(store, "sft", save_version(store, both, renderer, stage="sft", settings={}))
    assert len(store.blobs.tree(record.body["adapter"])) == 3
    again = load_version(store, record, like=tiny).model
    assert torch.equal(logp(again), logp(both))
    assert torch.allclose(logp(again.merged()), logp(both), atol=1e-5)


def test_the_sampler_draws_from_them(full):
    sample = Engine(full, slots=2).sample([[5, 6, 7]], 1, Params(1.0, 1.0, 4, 0, (0,)))[0][0]
    row = pack([Tree([5, 6, 7], (Answer(list(sample.ids), [1.0] * len(sample.ids)),))], 100)[0]
    assert torch.allclose(full.logp(row).logp_S, torch.tensor(sample.logprobs), atol=1e-4)


@pytest.mark.parametrize("how", [Lora(4), Full()])
def test_a_reward_head_on_full_weights(store, tiny, full, renderer, how):
    version = kept(store, "sft", save_version(store, full, renderer, stage="sft", settings={}))
    loaded = load_version(store, version, like=tiny)
    reward = RewardModel.on(loaded.model, how, layers=1, seed=0)
    for parameter in reward.parameters().values():
        parameter.data += 0.1
    record = kept(store, "reward", save_reward(store, reward, loaded, version), kind="reward")
    again = load_reward(store, record, like=tiny)
    assert torch.allclose(again.scores(STREAM), reward.scores(STREAM), atol=1e-5)
    assert torch.equal(logp(loaded.model), logp(full))
    if isinstance(how, Full):  # only what the reward trained, not the version's weights again
        assert {name.split(".")[2] for name in reward.trunk.changed} == {"1", "weight"}


def test_weights_that_do_not_fit_are_refused(tiny, full, tmp_path):
    path = tmp_path / FILE
    path.write_bytes(full.files()[FILE])
    with pytest.raises(ModelError, match="weights were made for the base"):
        LanguageModel.load(dataclasses.replace(tiny.base, name="another", digest="f" * 64), {FILE: path})
    tensors = load_file(path)
    for name, tensor in (("model.norm.weight", torch.zeros(3)), ("model.embed_tokens.weight", tiny.head.clone())):
        save_file(tensors | {name: tensor}, path)
        with pytest.raises(ModelError, match=f"{name} is .* in the version and"):
            tiny.sibling({FILE: path})
    path.write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        tiny.sibling({FILE: path})
    next(iter(full.parameters().values())).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="is not finite"):
        full.files()
