"""Tiny random models of several architectures, and logprobs computed without the flat stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.base import Base, resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives import Tree

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
    "initializer_range": 0.1,
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def build() -> Callable[..., LanguageModel]:
    """build("qwen3", checkpointing=True, sliding_window=8): a random model with a random, trainable adapter."""

    def make(kind: str = "llama", checkpointing: bool = False, layers: int | str = "all", **extra) -> LanguageModel:
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(1)
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE | extra))
        model = LanguageModel(module, Base(kind, Path("nowhere"), "0" * 64, 0), checkpointing)
        return randomised(model._adapt(None, Lora(4, layers=layers), True, 0))

    return make


def randomised(model: LanguageModel) -> LanguageModel:
    """The same model with an adapter that does something: B starts at zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.1, generator=generator)
    return model


@pytest.fixture
def plain_logp() -> Callable[[LanguageModel, Sequence[Tree]], torch.Tensor]:
    """Logprobs of all answer ids by transformers' plain forward over each whole row, in order."""

    def run(model: LanguageModel, trees: Sequence[Tree]) -> torch.Tensor:
        implementation = model.module.config._attn_implementation
        model.module.set_attn_implementation("eager")
        found = []
        for tree in trees:
            for answer in tree.answers:
                row = torch.tensor([[*tree.prompt, *answer.ids]])
                logp = model.module(input_ids=row).logits[0].log_softmax(-1)
                places = range(len(tree.prompt) - 1, row.shape[1] - 1)
                found += [logp[p, i] for p, i, w in zip(places, answer.ids, answer.weights, strict=True) if w]
        model.module.set_attn_implementation(implementation)
        return torch.stack(found)

    return run


@pytest.fixture
def tiny(tiny_model_folder: Path, tmp_path: Path) -> LanguageModel:
    """The shared tiny base with a random adapter."""
    base = resolve_base(str(tiny_model_folder), tmp_path / "cache")
    return randomised(LanguageModel.load(base, lora=Lora(4), trainable=True))
