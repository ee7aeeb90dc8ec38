"""A policy on a server: its adapter goes there under the name of its content, and is taken away after the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import SamplingError
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.sampling import Params, Served
from sampling.test_remote import Server, choices, serving

PARAMS = Params(max_new_tokens=3, stop_ids=(0,))


class Loading(Server):
    """Knows adapters, and answers only as one that it has."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.adapters, self.reply = folder, dict[str, bytes](), self.answered

    def answered(self, body: dict[str, Any], path: str) -> tuple[int, Any]:
        if path.endswith("/unload_lora_adapter"):
            del self.adapters[body["lora_name"]]
            return 200, "removed"
        if path.endswith("/load_lora_adapter"):
            if body["lora_name"] in self.adapters:
                return 400, f"The lora adapter '{body['lora_name']}' has already been loaded."
            place = Path(body["lora_path"])
            assert json.loads((place / "adapter_config.json").read_text())["r"] == 4
            self.adapters[body["lora_name"]] = (place / "adapter_model.safetensors").read_bytes()
            return 200, "added"
        return (200, choices(body)) if body["model"] in self.adapters else (404, "no such model")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Loading]:
    with serving(Loading(tmp_path)) as server:
        yield server


@pytest.fixture
def policy(tiny_model_folder: Path, tmp_path: Path) -> LanguageModel:
    return LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path), lora=Lora(rank=4), trainable=True)


def moved(policy: LanguageModel) -> None:
    for parameter in policy.parameters().values():
        parameter.data += 0.1


def test_each_policy_is_drawn_from_under_a_name_of_its_own(
    server: Loading, policy: LanguageModel, tmp_path: Path
) -> None:
    served = Served(tmp_path / "adapters", server.url, key="secret")
    first, again = served.sampler(policy), served.sampler(policy)
    assert first == again and len(server.asked) == 1  # what the server has is not sent again
    assert [[s.ids for s in group] for group in first.sample([[7]], 2, PARAMS)] == [[(7, 0, 0), (7, 1, 0)]]
    moved(policy)
    second = served.sampler(policy)
    assert second.model != first.model and list(server.adapters) == [second.model]
    assert server.adapters[second.model] == policy.files()["adapter_model.safetensors"]
    assert [place.name for place in (tmp_path / "adapters").iterdir()] == [second.model]
    with pytest.raises(SamplingError, match="404"):  # the old policy does not answer for the new one
        first.sample([[7]], 1, PARAMS)
    assert set(server.keys) == {"Bearer secret"} and "secret" not in repr(served)


def test_a_run_that_was_killed_finds_its_adapter_there(server: Loading, policy: LanguageModel, tmp_path: Path) -> None:
    name = Served(tmp_path / "adapters", server.url).sampler(policy).model
    assert Served(tmp_path / "adapters", server.url).sampler(policy).model == name


def test_a_server_that_takes_no_adapters_is_told_how(server: Loading, policy: LanguageModel, tmp_path: Path) -> None:
    server.reply = lambda body, path: (404, "Not Found")
    with pytest.raises(SamplingError, match="answered 404") as error:
        Served(tmp_path, server.url).sampler(policy)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in str(error.value)
    server.reply = lambda body, path: (503, "starting")
    with pytest.raises(SamplingError, match="answered 503"):
        Served(tmp_path, server.url, wait=0.0).sampler(policy)


def test_what_a_server_cannot_take_is_refused(policy: LanguageModel, tmp_path: Path) -> None:
    for other in (policy.sibling(), policy.sibling(lora=Lora(rank=4, method="dora"), trainable=True)):
        with pytest.raises(SamplingError, match="takes LoRA adapters of its base"):
            Served(tmp_path, "http://127.0.0.1:1/v1").sampler(other)


@pytest.mark.parametrize("url", ["", "localhost:8000", "file:///etc"])
def test_the_host_names_the_server(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_SAMPLER_URL", url)
    with pytest.raises(SamplingError, match="needs BURNISH_SAMPLER_URL"):
        Served.of_host(tmp_path)
    monkeypatch.setenv("BURNISH_SAMPLER_URL", "http://host:8000/v1/")
    assert Served.of_host(tmp_path) == Served(tmp_path, "http://host:8000/v1", None)
