"""The reward model: scores, the freezing boundary, and files that score the same."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.errors import ModelError
from burnish.models import language
from burnish.models.adapters import Lora
from burnish.models.layer import decoder_layer
from burnish.models.reward import CONFIG, HEAD, RewardModel
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
    assert next(iter(model.parameters())) == "heads"
    assert {name.split(".")[2] for name in list(model.parameters())[1:]} == {"1"}


def test_a_score_is_the_head_on_the_last_tokens_hidden_state(reward):
    scores = reward.scores(pack(TREES, 100)[0])
    module = reward.trunk.module
    module.set_attn_implementation("eager")
    rows = [[*tree.prompt, *answer.ids] for tree in TREES for answer in tree.answers]
    wanted = [module.model(torch.tensor([row])).last_hidden_state[0, -1] @ reward.heads_HD[0] for row in rows]
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
    save_file({"overall": torch.zeros(3)}, files[HEAD])
    with pytest.raises(ModelError, match="the reward head is"):
        RewardModel.load(tiny, files)


def test_a_head_that_is_not_finite_is_not_saved(reward):
    reward.heads_HD.data[0, 0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        reward.files()


@pytest.fixture
def three(tiny) -> RewardModel:
    """A model with three heads, none of which says what another says, in an order that is not the alphabet's."""
    model = RewardModel.on(tiny, Lora(4), 1, 0, ["overall", "solves it", "house style"])
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.2, generator=generator)
    return model


def written(model: RewardModel, folder) -> dict:
    for name, data in model.files().items():
        (folder / name).write_bytes(data)
    return {path.name: path for path in folder.iterdir()}


def test_each_head_reads_the_same_trunk(three):
    stream = pack(TREES, 100)[0]
    hidden_AD = three.trunk.hidden(stream, stream.last_A)
    for place in range(3):
        assert torch.allclose(three.by_head(stream)[:, place], hidden_AD @ three.heads_HD[place], atol=1e-5)
    assert torch.allclose(three.scores(stream), three.by_head(stream)[:, 0])  # overall alone, unless it is weighed


def test_weights_choose_without_new_parameters(three):
    stream = pack(TREES, 100)[0]
    weighed = three.weighed({"solves it": 0.25, "house style": 0.75})
    overall, solves, style = three.by_head(stream).unbind(1)
    assert torch.allclose(weighed.scores(stream), 0.25 * solves + 0.75 * style, atol=1e-6)
    assert weighed.heads_HD.data_ptr() == three.heads_HD.data_ptr() and weighed.trunk is three.trunk
    assert torch.allclose(three.weighed({}).scores(stream), overall)
    with pytest.raises(ModelError, match='no head "tone", only overall, solves it, house style'):
        three.weighed({"tone": 1.0})


def test_heads_come_back_under_their_own_names(tiny, three, tmp_path):
    again = RewardModel.load(tiny, written(three, tmp_path))
    assert again.names == three.names
    stream = pack(TREES, 100)[0]
    assert torch.allclose(again.by_head(stream), three.by_head(stream), atol=1e-6)


def test_a_lost_or_misnamed_head_is_an_error(tiny, three, tmp_path):
    files = written(three, tmp_path)
    heads = load_file(files[HEAD])
    save_file({name: head for name, head in heads.items() if name != "solves it"}, files[HEAD])
    with pytest.raises(ModelError, match="overall, solves it, house style, and has house style, overall"):
        RewardModel.load(tiny, files)
    save_file({name.replace("solves", "solved"): head for name, head in heads.items()}, files[HEAD])
    with pytest.raises(ModelError, match="and has house style, overall, solved it"):
        RewardModel.load(tiny, files)
    files[CONFIG].write_text(json.dumps({"kind": "scalar heads on the last token"}))
    with pytest.raises(ModelError, match="cannot be read"):
        RewardModel.load(tiny, files)
    with pytest.raises(ModelError, match=f"no {CONFIG}"):
        RewardModel.load(tiny, {name: path for name, path in files.items() if name != CONFIG})
