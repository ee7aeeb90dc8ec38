"""Tiny random models whose distributions are far from flat, so that a wrong number shows."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedModel, Qwen3Config

from burnish.sampling import operators, packed
from burnish.sampling.kernel import kernel

torch.set_num_threads(1)

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 160,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CONFIGS = {"llama": LlamaConfig, "qwen3": Qwen3Config, "mistral": MistralConfig}
Build = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session")
def build() -> Build:
    """Makes the same model each time: one for the engine to own, one to compare with."""

    def build(kind: str = "llama", **changes: object) -> PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = AutoModelForCausalLM.from_config(CONFIGS[kind](**(SHAPE | changes)), attn_implementation="eager")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)
        return model.eval()

    return build


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.compiler), False], ids=["compiled", "torch"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine with a compiler, and one without."""
    if not request.param:
        for user in (packed, operators):
            monkeypatch.setattr(user, "kernel", lambda: None)
        monkeypatch.setattr(packed, "_agrees", functools.cache(packed._agrees.__wrapped__))
    elif kernel() is None:
        pytest.skip("needs gcc")
    return request.param


@pytest.fixture(scope="session")
def plain(build: Build) -> PreTrainedModel:
    return build()


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Of 1 to 40 tokens; the third to the fifth share a beginning of 12."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(0, VOCABULARY, (n,), generator=generator).tolist() for n in (1, 7, 40, 9, 3, 20)]
    drawn[3], drawn[4] = drawn[2][:12] + drawn[3], drawn[2][:12] + drawn[4]
    return drawn
