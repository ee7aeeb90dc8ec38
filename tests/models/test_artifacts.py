"""Versions and reward models in a real store: saved, loaded again, probed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from burnish.data.render import Renderer
from burnish.errors import ModelError, StoreError
from burnish.models.adapters import Lora
from burnish.models.artifacts import (
    adopt_version,
    base_version,
    import_adapter,
    load_reward,
    load_version,
    probe,
    save_reward,
    save_version,
)
from burnish.models.reward import RewardModel
from burnish.objectives import Answer, Tree, pack
from burnish.store import Work, open_store

STREAM = pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4),))], 100)[0]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "project" / ".burnish")


@pytest.fixture
def renderer(tiny_model_folder):
    return Renderer.from_folder(tiny_model_folder, "Be kind.")


def kept(store, stage, body, kind="version"):
    return store.once(Work(kind, stage, 1, {}, (), 0, "support"), lambda: body)


def same(one, other) -> bool:
    return torch.equal(one.logp(STREAM).logp_S, other.logp(STREAM).logp_S)


def test_a_version_goes_into_the_store_and_comes_back(store, tiny, renderer):
    body = save_version(store, tiny, renderer, stage="sft", settings={"rank": 4}, figures={"updates": 3})
    record = kept(store, "sft", body)
    assert (body["stage"], body["settings"], body["figures"]) == ("sft", {"rank": 4}, {"updates": 3})
    assert body["base"] == {"name": tiny.base.name, "digest": tiny.base.digest}
    for like in (None, tiny, tiny.merged()):
        loaded = load_version(store, record, like=like)
        assert same(loaded.model, tiny)
        assert loaded.renderer.fingerprint == renderer.fingerprint
        assert loaded.base.digest == tiny.base.digest
        assert loaded.model.parameters() == {}
    shared = load_version(store, record, like=tiny, trainable=True).model
    assert list(shared.parameters()) == list(tiny.parameters())
    assert shared.head is tiny.head


def test_the_base_is_a_version_without_an_adapter(store, tiny, renderer):
    record = base_version(store, "support", tiny.base, renderer)
    assert (record.name, record.body["adapter"]) == ("support@0", None)
    assert base_version(store, "support", tiny.base, renderer) == record
    assert same(load_version(store, record).model, tiny.sibling())


def test_a_version_of_another_project_is_adopted(store, tiny, renderer, tiny_model_folder):
    own = kept(store, "sft", save_version(store, tiny, renderer, stage="sft", settings={}))
    ours = Renderer.from_folder(tiny_model_folder, "Be brief.")
    record = adopt_version(store, "other", own, ours, store.cache)
    assert (record.name, record.parents) == ("other@0", (own.id,))
    loaded = load_version(store, record, like=tiny)
    assert same(loaded.model, tiny)
    assert loaded.renderer.system == "Be brief."


def test_saving_compares_what_was_read_back(store, tiny, renderer, monkeypatch):
    other = tiny.sibling(lora=Lora(4))  # what a save that loses the training would write
    monkeypatch.setattr(tiny, "files", other.files)
    with pytest.raises(ModelError, match="answers otherwise than when it was saved"):
        save_version(store, tiny, renderer, stage="sft", settings={})


def test_a_changed_byte_of_the_adapter_is_found(store, tiny, renderer):
    record = kept(store, "sft", save_version(store, tiny, renderer, stage="sft", settings={}))
    path = store.blobs.tree(record.body["adapter"])["adapter_model.safetensors"]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="changed"):
        load_version(store, record, like=tiny)


def test_another_base_is_refused(store, tiny, renderer, tiny_model_folder):
    body = save_version(store, tiny, renderer, stage="sft", settings={})
    body["base"] = {"name": str(tiny_model_folder), "digest": "f" * 64}
    with pytest.raises(ModelError, match="was trained on ffffffffffff"):
        load_version(store, kept(store, "sft", body))


@pytest.mark.parametrize("part", ["ids", "logp"])
def test_a_version_that_answers_otherwise_is_refused(store, tiny, renderer, part):
    body = save_version(store, tiny, renderer, stage="sft", settings={})
    if part == "ids":
        body["probe"]["ids"][0][1][0] += 1
    else:
        body["probe"]["logp"][0][0] -= 0.01
    with pytest.raises(ModelError, match="than when it was saved"):
        load_version(store, kept(store, "sft", body), like=tiny)


def test_a_probe_is_not_passed_by_nan(store, tiny, renderer):
    body = save_version(store, tiny, renderer, stage="sft", settings={})
    body["probe"]["logp"][0][0] = float("nan")
    with pytest.raises(ModelError, match="than when it was saved"):
        load_version(store, kept(store, "sft", body), like=tiny)


def test_the_probe_holds_ids_and_logprobs_of_answers(tiny, renderer):
    found = probe(tiny, renderer)
    for (prompt, said), logps in zip(found["ids"], found["logp"], strict=True):
        assert said[-1] == renderer.stop_ids[0]
        assert len(logps) == len(said)
        row = torch.tensor([[*prompt, *said]])
        with torch.no_grad():
            module = tiny.merged().module
            module.set_attn_implementation("eager")
            logp = module(row).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert torch.allclose(logp.gather(1, torch.tensor(said)[:, None])[:, 0], torch.tensor(logps), atol=1e-4)


def test_nothing_folded_or_broken_is_saved(store, tiny, renderer):
    with pytest.raises(ModelError, match="folded"):
        save_version(store, tiny.merged(), renderer, stage="sft", settings={})
    next(iter(tiny.parameters().values())).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        save_version(store, tiny, renderer, stage="sft", settings={})


def test_an_adapter_of_another_tool_becomes_a_version(store, tiny, renderer, tiny_model_folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    theirs = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    parent = base_version(store, "support", tiny.base, renderer)
    record = import_adapter(store, "support", tmp_path / "theirs", tiny.base, renderer, parent)
    assert (record.name, record.body["stage"], record.parents) == ("support@1", "import", (parent.id,))
    with torch.no_grad():
        logp = theirs(torch.tensor([[*range(5, 12)]])).logits[0, 2:6].log_softmax(-1)
    wanted = logp.gather(1, torch.tensor([[8], [9], [10], [11]]))[:, 0]
    assert torch.allclose(load_version(store, record, like=tiny).model.logp(STREAM).logp_S, wanted, atol=1e-5)
    assert import_adapter(store, "support", tmp_path / "theirs", tiny.base, renderer, parent) == record
    with pytest.raises(ModelError, match="there is no folder"):
        import_adapter(store, "support", tmp_path / "nowhere", tiny.base, renderer, parent)


def test_a_reward_model_scores_the_same_when_it_comes_back(store, tiny, renderer):
    version = kept(store, "sft", save_version(store, tiny, renderer, stage="sft", settings={}))
    loaded = load_version(store, version, like=tiny)
    reward = RewardModel.on(loaded.model, Lora(4), layers=1, seed=0)
    for parameter in reward.parameters().values():
        parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    body = save_reward(store, reward, loaded, version)
    assert body["version"] == version.id
    record = kept(store, "reward", body, kind="reward")
    for like in (None, tiny):
        again = load_reward(store, record, like=like)
        assert torch.allclose(again.scores(STREAM), reward.scores(STREAM), atol=1e-6)
    wrong = dataclasses.replace(record, body={**body, "scores": [score + 0.1 for score in body["scores"]]})
    with pytest.raises(ModelError, match="than when it was saved"):
        load_reward(store, wrong, like=tiny)


def test_a_reward_model_saved_under_another_version_is_refused(store, tiny, renderer):
    version = kept(store, "sft", save_version(store, tiny, renderer, stage="sft", settings={}))
    loaded = load_version(store, version, like=tiny)
    reward = RewardModel.on(loaded.model.sibling(), Lora(4), layers=1, seed=0)  # on the base: the adapter is lost
    reward.heads_HD.data.fill_(0.1)
    with pytest.raises(ModelError, match="than when it was saved"):
        save_reward(store, reward, loaded, version)


def test_every_head_of_a_reward_model_is_checked_when_it_comes_back(store, tiny, renderer):
    version = kept(store, "sft", save_version(store, tiny, renderer, stage="sft", settings={}))
    loaded = load_version(store, version, like=tiny)
    reward = RewardModel.on(loaded.model, Lora(4), 1, 0, ["overall", "house style"])
    reward.heads_HD.data[1] = 0.1  # the overall head says nothing, the other one does
    body = save_reward(store, reward, loaded, version)
    record = kept(store, "reward", body, kind="reward")
    assert torch.allclose(load_reward(store, record, like=tiny).by_head(STREAM), reward.by_head(STREAM), atol=1e-6)
    silent = [score if place % 2 == 0 else 0.0 for place, score in enumerate(body["scores"])]
    with pytest.raises(ModelError, match="than when it was saved"):
        load_reward(store, dataclasses.replace(record, body={**body, "scores": silent}), like=tiny)
    with pytest.raises(ModelError, match="its heads are overall, house style, and were house style, overall"):
        load_reward(store, dataclasses.replace(record, body={**body, "heads": body["heads"][::-1]}), like=tiny)
