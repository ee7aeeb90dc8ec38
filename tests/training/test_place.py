"""The host's settings: every kind of training in bfloat16, and wrong ones refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from burnish.config import host
from burnish.data.render import Renderer
from burnish.errors import ConfigError, ModelError
from burnish.models.adapters import Lora
from burnish.models.artifacts import load_reward, load_version, save_reward, save_version
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.place import place
from burnish.models.reward import RewardModel
from burnish.objectives import pack
from burnish.progress import Silent
from burnish.store import Work, open_store
from burnish.training import checkpoint
from burnish.training.remembered import Remembered, with_reference
from training import test_preference
from training.kinds import KINDS, UPDATES, Run, rows


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_learns_as_float32_does_and_resumes_with_the_same_bits(
    kind: str, base: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Run(kind, base(), tmp_path / "float32")
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    model = base()
    assert {p.dtype for p in model.module.parameters()} == {torch.bfloat16}
    rounded = Run(kind, model, tmp_path / "bfloat16")
    assert {p.dtype for p in rounded.parameters.values()} == {torch.float32}
    assert rounded.losses != exact.losses
    if kind in ("grpo", "ppo"):  # other answers are drawn: only the first two are of one policy
        assert all(map(math.isfinite, rounded.losses)) and len(rounded.losses) == UPDATES
    else:
        assert rounded.losses == pytest.approx(exact.losses, rel=0.03, abs=0.005)
        assert rounded.losses[-1] < 0.9 * rounded.losses[0]
    Run(kind, base(), tmp_path / "killed", stop=5)
    again = Run(kind, base(), tmp_path / "killed")
    assert all(torch.equal(value, again.tensors[name]) for name, value in rounded.tensors.items())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (host.DTYPE, "float16", 'BURNISH_DTYPE is "float16"\n  float32 or bfloat16'),
        (host.DEVICE, "gpu", 'BURNISH_DEVICE is "gpu"\n  cpu, cuda, or one card by its number: cuda:1'),
        (host.DEVICE, "cuda:x", 'BURNISH_DEVICE is "cuda:x"'),
    ],
)
def test_a_wrong_setting_of_the_host_is_one_message(
    name: str, value: str, said: str, base: Callable[[], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        base()
    assert str(error.value).startswith(said)


def test_a_gpu_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host.DEVICE, "cuda:1")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(ConfigError, match=r"BURNISH_DEVICE is cuda:1, and PyTorch .* is built without CUDA"):
        place()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="BURNISH_DEVICE is cuda:1, and PyTorch sees 1 GPU"):
        place()


def test_what_is_saved_is_float32_and_comes_back_so(
    base: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    for number, how in enumerate((Lora(4), Full(layers=1))):
        model = base().trainable(how)
        with torch.no_grad():
            for parameter in model.parameters().values():
                parameter += 0.001 * torch.arange(parameter.numel()).view_as(parameter) % 0.02
        paths = {name: tmp_path / f"{number}-{name}" for name in model.files()}
        for name, data in model.files().items():
            paths[name].write_bytes(data)
        (tensors,) = (load_file(path) for name, path in paths.items() if name.endswith(".safetensors"))
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        (stream,) = pack(rows(2), 1000)
        back = base().sibling(paths)
        assert torch.equal(back.logp(stream).logp_S, model.logp(stream).logp_S)  # type: ignore[arg-type]
        assert back.files() == model.files()


def test_what_is_said_of_an_answer_is_float32(
    base: Callable[[], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    model = base()
    (stream,) = pack(rows(2), 1000)
    fast, slow = model.logp(stream, 0.7, entropy=True), model.logp_slow(stream, 0.7, entropy=True)
    for a, b in ((fast.logp_S, slow.logp_S), (fast.entropy_S, slow.entropy_S)):
        assert a is not None and b is not None and a.dtype == b.dtype == torch.float32
        assert not torch.equal(a, a.bfloat16().float())  # more than a rounded number was made wide
        torch.testing.assert_close(a, b, rtol=0, atol=0.05)
    scored = RewardModel(model, torch.ones(1, model.head.shape[1])).scores(stream)
    assert scored.dtype == torch.float32 and not torch.equal(scored, scored.bfloat16().float())


def test_what_is_kept_of_a_reference_is_of_its_dtype(
    base: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[float]:
        model = base()
        kept = Remembered.made(tmp_path / "logps", "base", model)
        trees = with_reference(rows(2), model, kept, Silent())
        return [logp for tree in trees for answer in tree.answers for logp in answer.streams["reference_logp"]]

    exact = said()
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    assert said() != exact and said() == pytest.approx(exact, abs=0.1)


def test_a_checkpoint_says_where_and_how_exactly(
    base: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    Run("sft", base(), tmp_path, updates=3)
    found = checkpoint.load(tmp_path / "run")
    assert found is not None
    assert (found.state["conditions"]["device"], found.state["conditions"]["dtype"]) == ("cpu", "bfloat16")


def test_a_version_and_its_reward_model_come_back_in_either_dtype(
    base: Callable[[], LanguageModel], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    store, renderer = open_store(tmp_path / "store"), Renderer.from_folder(tiny_model_folder, "Be kind.")
    model = base().trainable(Lora(4))
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    body = save_version(store, model, renderer, stage="sft", settings={})
    version = store.once(Work("version", "sft", 1, {}, (), 0, "tiny"), lambda: body)
    loaded = load_version(store, version)
    reward = RewardModel.on(loaded.model, Lora(4), layers=1, seed=0)
    for parameter in reward.parameters().values():
        parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(2))
    record = store.once(
        Work("reward", "reward", 1, {}, (), 0, "tiny"), lambda: save_reward(store, reward, loaded, version)
    )
    (stream,) = pack(rows(2), 1000)

    def said() -> tuple[torch.Tensor, torch.Tensor]:
        logp_S = load_version(store, version).model.logp(stream).logp_S
        assert logp_S is not None
        return logp_S, load_reward(store, record).scores(stream)

    rounded = said()
    assert torch.equal(rounded[0], model.logp(stream).logp_S) and torch.equal(rounded[1], reward.scores(stream))  # type: ignore[arg-type]
    monkeypatch.delenv(host.DTYPE)
    for exact, other in zip(said(), rounded, strict=True):
        assert not torch.equal(exact, other)
        torch.testing.assert_close(exact, other, rtol=0.05, atol=0.1)
    wrong = dataclasses.replace(record, body={**record.body, "scores": [s * 1.2 for s in record.body["scores"]]})
    with pytest.raises(ModelError, match="than when it was saved"):
        load_reward(store, wrong)


def test_the_dtype_is_shown_and_does_work_that_is_done_not_again(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.DTYPE, "bfloat16")
    project = test_preference.make(tmp_path, tiny_model_folder, test_preference.shorter(16))
    record = test_preference.run(project, {"epochs": 1})
    assert record.body["probe"]["dtype"] == "bfloat16"
    made_with = project.store.made_with(record.id)["libraries"]
    assert (made_with["device"], made_with["dtype"]) == ("cpu", "bfloat16")
    monkeypatch.delenv(host.DTYPE)
    assert test_preference.run(project, {"epochs": 1}) == record
