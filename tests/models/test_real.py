"""The packaged 135M model: converted to plain fp32, and the flat path on it."""

from __future__ import annotations

import json

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.language import LanguageModel
from burnish.models.selfcheck import self_check
from burnish.objectives import Answer, Tree, pack

pytestmark = pytest.mark.real_model


def test_the_packaged_model_is_converted_and_knows_its_language(real_base, tmp_path):
    from tokenizers import Tokenizer

    assert real_base.parameters == 134_515_008
    assert "quantization_config" not in json.loads((real_base.folder / "config.json").read_text())
    assert (real_base.folder / "chat_template.jinja").is_file()
    model = LanguageModel.load(real_base, lora=Lora(16), trainable=True)
    assert self_check(model, tmp_path)["passed"]
    tokenizer = Tokenizer.from_file(str(real_base.folder / "tokenizer.json"))
    prompt = tokenizer.encode("The capital of France is").ids
    answers = [tokenizer.encode(word, add_special_tokens=False).ids[:1] for word in (" Paris", " seven")]
    stream = pack([Tree(prompt, tuple(Answer(ids, [1.0]) for ids in answers))], 100)[0]
    logp_S = model.logp(stream).logp_S
    assert logp_S[0] > -2 > -8 > logp_S[1]
    flat = torch.autograd.grad(logp_S.sum(), list(model.parameters().values()))
    slow = torch.autograd.grad(model.logp_slow(stream).logp_S.sum(), list(model.parameters().values()))
    flat, slow = (torch.cat([g.flatten() for g in grads]) for grads in (flat, slow))
    assert (flat - slow).norm() < 1e-3 * slow.norm()  # fp32 through 30 layers
