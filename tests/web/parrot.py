"""A real base that always says the same text: a page can be tested with any answer, and every part is real.

Each token's embedding is a direction of its own, the layer adds nothing, and the head maps a token to the one that
follows it. The text's pieces are tokens; the first follows the line break that ends the prompt.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from burnish.records import Json
from burnish.store import Store


def build(folder: Path, tiny: Path, pieces: Sequence[str]) -> Path:
    """Write the base into ``folder``, with the tokenizer and template of the ``tiny`` one; ``pieces`` must differ."""
    import torch
    from tokenizers import AddedToken, Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in pieces])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, folder / name)
    entries = tokenizer.get_vocab_size()
    width = -(-entries // 8) * 8
    stop = tokenizer.token_to_id("<|im_end|>")
    config = LlamaConfig(
        vocab_size=entries,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.token_to_id("<|im_start|>"),
        eos_token_id=stop,
        pad_token_id=stop,
    )
    model = LlamaForCausalLM(config)
    chain = [tokenizer.encode("\n").ids[0], *(tokenizer.token_to_id(piece) for piece in pieces), stop]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.get_input_embeddings().weight[:, :entries] = torch.eye(entries)
        model.get_output_embeddings().weight[stop, :entries] = 1.0
        for token, following in itertools.pairwise(chain):
            model.get_output_embeddings().weight[:, token] = 0.0
            model.get_output_embeddings().weight[following, token] = 4.0
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}))
    return folder


def weights(store: Store, base: Path) -> Mapping[str, Json]:
    """Keep the base as a version's artifact; returns what the record holds."""
    from burnish.data import Renderer
    from burnish.models.artifacts import save_version
    from burnish.models.base import resolve_base
    from burnish.models.language import LanguageModel

    found = resolve_base(str(base), store.cache)
    renderer = Renderer.from_folder(found.folder, "You help.")
    return save_version(store, LanguageModel.load(found), renderer, stage="base", settings={})
