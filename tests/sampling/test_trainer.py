"""What the engine stores is what the trainer computes for the same model, and the trainer's model is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Tree, pack
from burnish.sampling import MISMATCH_LIMIT, Engine, Params, Sample, mismatch

pytestmark = pytest.mark.usefixtures("compiled")
PROMPTS = [[7, 30, 12, 5], [7, 30, 12, 5, 9, 1, 44, 80], [250] * 30]


@pytest.fixture(params=["lora", "dora"])
def adapted(tiny_model_folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> LanguageModel:
    """A model with an adapter that changes its answers."""
    lora = Lora(rank=4, method=request.param)
    model = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path), lora=lora, trainable=True)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters().values():
        parameter.data.normal_(std=0.15, generator=generator)
    return model


def trained(model: LanguageModel, groups: list[list[Sample]], temperature: float) -> list[float]:
    trees = [
        Tree(prompt, tuple(Answer(s.ids, [1.0] * len(s.ids)) for s in group))
        for prompt, group in zip(PROMPTS, groups, strict=True)
    ]
    found: list[float] = []
    with torch.no_grad():
        for stream in pack(trees, 1024, keep_last=False):
            logp = model.logp(stream, temperature).logp_S
            assert logp is not None
            found += logp.tolist()
    return found


def test_the_trainer_computes_what_the_engine_stored(adapted: LanguageModel) -> None:
    engine = Engine(adapted, slots=8)
    assert engine.weights == "exact"  # laid out, whatever the adapter
    groups = engine.sample(PROMPTS, 18, Params(temperature=0.8, max_new_tokens=40))
    sampled = [x for group in groups for s in group for x in s.logprobs]
    assert len(sampled) >= 2000
    assert mismatch(sampled, trained(adapted, groups, 0.8)) < 1.0001
    # and the limit sees what the field got wrong: another temperature, an adapter left out
    assert mismatch(sampled, trained(adapted, groups, 1.0)) > MISMATCH_LIMIT
    assert mismatch(sampled, trained(adapted.sibling(), groups, 0.8)) > MISMATCH_LIMIT


def test_an_engine_does_not_touch_the_model_that_it_was_made_of(adapted: LanguageModel) -> None:
    groups = [[Sample((4, 8, 15, 16), (0.0,) * 4, "length")] for _ in PROMPTS]
    before = trained(adapted, groups, 1.0)
    engine = Engine(adapted)
    engine.sample(PROMPTS, 2, Params(max_new_tokens=4))
    assert trained(adapted, groups, 1.0) == before
    assert all(parameter.requires_grad for parameter in adapted.parameters().values())
