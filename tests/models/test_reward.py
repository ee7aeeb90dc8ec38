"""The reward model: scores, the freezing boundary, and files that score the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from burnish.errors import ModelError
from burnish.models import language
from burnish.models.adapters import Lora
from burnish.models.layer import decoder_layer
from burnish.models.reward import HEAD, RewardModel
from burnish.objectives import Answer, Tree, pack

TREES = [
    Tree([1, 2, 3], (Answer([4, 5], [0.0] * 2), Answer([6, 7, 8], [0.0] * 3))),
    Tree([9, 10], (Answer([11], [0.0]), Answer([12, 13, 14], [0.0] * 3))),
]


@pytest.fixture
def reward(tiny) -> RewardModel:
    model = RewardModel.on(tiny, Lora(4), layers=1, seed=0)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.2, generator=generator)
    return model


def test_every_score_starts_at_zero(tiny):
    model = RewardModel.on(tiny, Lora(4), layers=1, seed=0)
    assert model.scores(pack(TREES, 100)[0]).tolist() == [0.0] * 4
    assert next(iter(model.parameters())) == "head"
    assert {name.split(".")[2] for name in list(model.parameters())[1:]} == {"1"}


def test_a_score_is_the_head_on_the_last_tokens_hidden_state(reward):
    scores = reward.scores(pack(TREES, 100)[0])
    module = reward.trunk.module
    module.set_attn_implementation("eager")
    rows = [[*tree.prompt, *answer.ids] for tree in TREES for answer in tree.answers]
    wanted = [module.model(torch.tensor([row])).last_hidden_state[0, -1] @ reward.head_D for row in rows]
    assert torch.allclose(scores, torch.stack(wanted), atol=1e-5)


def test_it_stands_on_the_version_not_on_the_base(tiny, reward):
    stream = pack(TREES, 100)[0]
    plain = RewardModel.on(tiny.sibling(), Lora(4), layers=1, seed=0)
    assert torch.allclose(plain.trunk.hidden(stream), tiny.sibling().hidden(stream), atol=1e-5)
    fresh = RewardModel.on(tiny, Lora(4), layers=1, seed=0)
    assert torch.allclose(fresh.trunk.hidden(stream), tiny.hidden(stream), atol=1e-5)
    assert not torch.allclose(tiny.hidden(stream), tiny.sibling().hidden(stream), atol=1e-2)


def test_what_is_kept_spares_the_lower_layers_and_changes_nothing(reward, monkeypatch):
    stream = pack(TREES, 100)[0]
    whole = reward.scores(stream)
    wanted = torch.autograd.grad(whole.square().sum(), list(reward.parameters().values()))
    boundary = reward.trunk.boundary(stream)
    assert (boundary.shape, boundary.requires_grad) == ((len(stream.ids_T), 64), False)
    ran = []

    def counted(layer, hidden, **where):
        ran.append(layer.self_attn.layer_idx)
        return decoder_layer(layer, hidden, **where)

    monkeypatch.setattr(language, "decoder_layer", counted)
    reward.trunk.kept = lambda _: (boundary, 1)
    tail = reward.scores(stream)
    assert ran == [1]
    assert torch.equal(tail, whole)
    found = torch.autograd.grad(tail.square().sum(), list(reward.parameters().values()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    ran.clear()
    reward.trunk.kept = lambda _: None
    assert torch.equal(reward.scores(stream), whole)
    assert ran == [0, 1]


def test_a_rows_boundary_does_not_depend_on_its_company(reward):
    together = reward.trunk.boundary(pack(TREES, 100)[0])
    apart = torch.cat([reward.trunk.boundary(stream) for stream in pack(TREES, 1)])
    assert torch.allclose(together, apart, atol=1e-6)


def test_a_copy_keeps_nothing(tiny):
    tiny.kept = lambda _: None
    assert tiny.sibling().kept is None and tiny.frozen_copy().kept is None and tiny.merged().kept is None


def test_the_last_token_must_be_there(reward):
    with pytest.raises(ModelError, match="last token"):
        reward.scores(pack(TREES, 100, keep_last=False)[0])


def test_saved_and_loaded_scores_the_same(tiny, reward, tmp_path):
    for name, data in reward.files().items():
        (tmp_path / name).write_bytes(data)
    files = {path.name: path for path in tmp_path.iterdir()}
    again = RewardModel.load(tiny, files)
    assert torch.allclose(again.scores(pack(TREES, 100)[0]), reward.scores(pack(TREES, 100)[0]), atol=1e-6)
    assert again.parameters() == {}
    with pytest.raises(ModelError, match=f"no {HEAD}"):
        RewardModel.load(tiny, {k: v for k, v in files.items() if k != HEAD})
    save_file({"head": torch.zeros(3)}, files[HEAD])
    with pytest.raises(ModelError, match="the reward head is"):
        RewardModel.load(tiny, files)


def test_a_head_that_is_not_finite_is_not_saved(reward):
    reward.head_D.data[0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        reward.files()
