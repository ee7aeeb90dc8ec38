"""LoRA: what it computes, what it shares, and PEFT's layout both ways."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.errors import ModelError
from burnish.models.adapters import Lora, LoraLinear, adapted
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.peft_layout import CONFIG, WEIGHTS
from burnish.objectives import Answer, Tree, pack

STREAM = pack([Tree([5, 6, 7], (Answer([8, 9, 10, 11], [1.0] * 4),))], 100)[0]


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.logp(STREAM).logp_S


def written(model: LanguageModel, folder) -> dict:
    folder.mkdir(exist_ok=True)
    for name, data in model.files().items():
        (folder / name).write_bytes(data)
    return {path.name: path for path in folder.iterdir()}


def test_by_hand():
    base = torch.nn.Linear(2, 1, bias=True)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 2.0]]))
        base.bias.fill_(0.5)
    layer = LoraLinear(base, torch.tensor([[3.0, 0.0]]), torch.tensor([[10.0]]), scale=0.1, trainable=True)
    x = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    assert layer(x).flatten().tolist() == [6.5, 2.5]  # 1 + 2 + 0.5 + 0.1 x 10 x 3; 2 + 0.5
    assert layer.plain(merge=True).weight.tolist() == [[4.0, 2.0]]
    assert layer.plain(merge=False).weight is base.weight


def test_a_new_adapter_changes_nothing_until_it_is_trained(tiny_model_folder, tmp_path):
    base = resolve_base(str(tiny_model_folder), tmp_path)
    plain, fresh = LanguageModel.load(base), LanguageModel.load(base, lora=Lora(4), trainable=True)
    assert torch.equal(logits(plain), logits(fresh))
    assert plain.parameters() == {}
    names = list(fresh.parameters())
    assert names == sorted(names)
    assert len(names) == 2 * 7 * 2
    assert all(".lora_" in name for name in names)


def test_the_start_is_drawn_from_the_seed(tiny):
    def start(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in tiny.sibling(lora=Lora(4), seed=seed).module.parameters()])

    torch.manual_seed(0)
    first = start(1)
    torch.manual_seed(99)
    assert torch.equal(first, start(1))
    assert not torch.equal(first, start(2))


def test_only_the_last_layers(tiny):
    last = tiny.sibling(lora=Lora(4, layers=1), trainable=True)
    assert {name.split(".")[2] for name in last.parameters()} == {"1"}
    assert last.first_trained == 1
    with pytest.raises(ModelError, match="cannot train the last 3 layers: 2 can be"):
        tiny.sibling(lora=Lora(4, layers=3))


def test_scale_is_alpha_over_rank():
    assert Lora(8).scale == 2.0
    assert Lora(8, alpha=4.0).scale == 0.5
    assert Lora(16, method="rslora").scale == 8.0
    assert Lora(4, alpha=3.0, method="rslora").scale == 1.5
    assert Lora(4, alpha=3.0, method="dora").scale == 0.75


def test_a_rank_larger_than_a_layer_is_refused(tiny):
    with pytest.raises(ModelError, match=r"rank 33 is larger than model.layers.0.self_attn.k_proj, which is 32 x 64"):
        tiny.sibling(lora=Lora(33))


def test_an_adapter_for_another_base_is_refused(tiny, tmp_path):
    files = written(tiny, tmp_path)
    other = dataclasses.replace(tiny.base, name="another", digest="f" * 64)
    with pytest.raises(ModelError, match=rf"made for the base .*{tiny.base.digest[:12]}.* is another \(ffffffffffff\)"):
        LanguageModel.load(other, files)


def test_siblings_share_the_base_and_not_the_adapter(tiny):
    plain, copy = tiny.sibling(), tiny.frozen_copy()
    before = logits(tiny)
    for twin in (plain, copy, tiny.merged()):
        assert twin.module.get_input_embeddings().weight is tiny.module.get_input_embeddings().weight
        assert twin.parameters() == {}
    weights = [twin.module.get_submodule("model.layers.0.self_attn.q_proj").weight for twin in (tiny, plain, copy)]
    assert weights[0] is weights[1] is weights[2]
    assert torch.equal(logits(copy), before)
    assert not torch.allclose(logits(plain), before, atol=1e-3)
    for parameter in tiny.parameters().values():
        parameter.data.zero_()
    assert torch.equal(logits(copy), before)  # the reference does not follow the policy
    assert torch.equal(logits(tiny), logits(plain))


def test_merging_folds_the_adapter_in(tiny):
    merged = tiny.merged()
    assert adapted(merged.module) == {}
    assert len(adapted(tiny.module)) == 14
    assert torch.allclose(logits(merged), logits(tiny), atol=1e-5)
    assert merged.folded
    assert not tiny.sibling().merged().folded
    with pytest.raises(ModelError, match="folded"):
        merged.sibling()


def test_saved_and_loaded_is_the_same(tiny, tmp_path):
    files = written(tiny, tmp_path / "adapter")
    again = tiny.sibling(files, trainable=True)
    assert torch.equal(logits(again), logits(tiny))
    assert list(again.parameters()) == list(tiny.parameters())
    assert again.files() == tiny.files()
    assert tiny.sibling(files).parameters() == {}


@pytest.mark.parametrize(
    "lora",
    [
        Lora(4, alpha=6.0),
        Lora(4, alpha=6.0, layers=1),
        Lora(3, alpha=5.0, method="rslora", targets=("q_proj", "mlp.*")),
        Lora(4, alpha=6.0, method="dora"),
        Lora(2, method="dora", freeze=("layers.0.mlp", "v_proj")),
    ],
)
def test_peft_loads_ours(tiny, tiny_model_folder, tmp_path, lora):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = tiny.sibling(lora=lora, trainable=True)
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.1)
    written(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder), tmp_path / "adapter"
    ).eval()
    row = torch.tensor([[*range(5, 12)]])
    with torch.no_grad():
        logp = theirs(row).logits[0, 2:6].log_softmax(-1).gather(1, torch.tensor([[8], [9], [10], [11]]))[:, 0]
    assert torch.allclose(logp, logits(model), atol=1e-5)
    assert not torch.allclose(logp, logits(tiny.sibling()), atol=1e-3)
    assert sum("lora_A" in name for name, _ in theirs.named_parameters()) == len(adapted(model.module))
    config = theirs.peft_config["default"]
    assert (config.use_rslora, config.use_dora) == (lora.method == "rslora", lora.method == "dora")


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
        {"r": 2, "target_modules": r".*\.self_attn\.[qv]_proj", "lora_dropout": 0.1},
        {"r": 2, "target_modules": ["v_proj"], "layers_to_transform": [1]},
        {"r": 2, "lora_alpha": 4, "target_modules": ["v_proj", "up_proj"], "rank_pattern": {"up_proj": 5}},
        {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "use_dora": True},
        {"r": 3, "lora_alpha": 5, "target_modules": ["o_proj"], "use_dora": True, "use_rslora": True},
    ],
)
def test_we_load_peft(tiny, tiny_model_folder, tmp_path, settings):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_folder), config).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    theirs.save_pretrained(tmp_path)
    mine = tiny.sibling({path.name: path for path in tmp_path.iterdir()})
    with torch.no_grad():
        logp = theirs(torch.tensor([[*range(5, 12)]])).logits[0, 2:6].log_softmax(-1)
    logp = logp.gather(1, torch.tensor([[8], [9], [10], [11]]))[:, 0]
    assert torch.allclose(logp, logits(mine), atol=1e-5)
    assert not torch.allclose(logp, logits(tiny.sibling()), atol=1e-3)
    if "rank_pattern" not in settings:  # what was read is what is written
        assert torch.equal(logits(tiny.sibling(written(mine, tmp_path / "ours"))), logits(mine))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_dora": True}, "has only lora_A.weight, lora_B.weight of"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"invented_next_year": True}, "invented_next_year = True"),
        ({"bias": "lora_only"}, "bias = 'lora_only'"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4'"),
        ({"peft_type": "IA3"}, "an adapter of type IA3"),
        ({"lora_alpha": None}, "of type LORA"),
    ],
)
def test_what_an_adapter_asks_for_and_is_not_built_is_refused(tiny, tmp_path, changes, says):
    files = written(tiny, tmp_path)
    files[CONFIG].write_text(json.dumps(json.loads(files[CONFIG].read_text()) | changes))
    with pytest.raises(ModelError, match=says):
        tiny.sibling(files)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 5)}), "in the adapter and"),
        (lambda t: t.update({f"{Q}.lora_B.weight": torch.zeros(64, 3)}), "in the adapter and"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.full((4, 64), float("nan"))}), "not finite"),
        (lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.zeros(4)}), "no LoRA of a layer"),
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)}), "no LoRA of a layer"),
        (lambda t: t.pop(f"{Q}.lora_B.weight"), "has only lora_A.weight of"),
        (lambda t: t.update({k.replace("layers.0", "layers.7"): v.clone() for k, v in t.items()}), "not in the base"),
        (lambda t: t.clear(), "empty"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tiny, tmp_path, change, says):
    files = written(tiny, tmp_path)
    tensors = load_file(files[WEIGHTS])
    change(tensors)
    save_file(tensors, files[WEIGHTS])
    with pytest.raises(ModelError, match=says):
        tiny.sibling(files)


def test_files_that_are_missing_or_broken_are_refused(tiny, tmp_path):
    files = written(tiny, tmp_path)
    with pytest.raises(ModelError, match=f"no {WEIGHTS}\n  pickled weights are never read"):
        tiny.sibling({CONFIG: files[CONFIG], "adapter_model.bin": tmp_path / "adapter_model.bin"})
    files[WEIGHTS].write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        tiny.sibling(files)


def test_what_is_not_finite_is_not_saved(tiny):
    next(iter(tiny.parameters().values())).data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="is not finite"):
        tiny.files()


def test_one_adapter_at_a_time(tiny, tmp_path):
    with pytest.raises(ModelError, match="has one adapter"):
        tiny.sibling(written(tiny, tmp_path), lora=Lora(4))


def test_the_base_has_no_files_of_its_own(tiny):
    assert tiny.sibling().files() == {}
