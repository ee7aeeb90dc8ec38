"""The flat path against its slow twin on 256 tokens, once per (path, base, versions, processor, dtype)."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path

import torch
import transformers

from burnish.models.language import LanguageModel
from burnish.models.place import FLAT
from burnish.objectives import Answer, Stream, Tree, pack
from burnish.records import Json
from burnish.store.database import explained


def self_check(model: LanguageModel, cache: Path) -> dict[str, Json]:
    """Compare logprobs of the flat and the slow path; where they differ, the model runs slowly and says so.

    Returns path, difference (the largest, in nats), tolerance and passed. The result is kept in ``cache`` and
    reused, so that a resumed run takes the same path.

    Raises:
        StoreError: The result cannot be written.
    """
    tolerance = FLAT[model.dtype]
    if model.path == "slow":
        return {
            "path": "slow",
            "difference": None,
            "tolerance": tolerance,
            "passed": False,
            "why": model.message,
        }
    file = cache / "self_checks.json"
    key = _key(model)
    known = _read(file)
    if key not in known:
        stream = fixed_stream(model.module.config.vocab_size)
        with torch.no_grad():
            flat, slow = model.logp(stream).logp_S, model.logp_slow(stream).logp_S
        assert flat is not None and slow is not None
        difference = float((flat - slow).abs().max())
        result = {
            "path": "flat",
            "difference": difference if math.isfinite(difference) else None,
            "tolerance": tolerance,
            "passed": difference <= tolerance,
        }
        known = _read(file) | {key: result}
        with explained(cache):
            cache.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(known, indent=2, sort_keys=True), encoding="utf-8")
            temporary.replace(file)
    if not known[key]["passed"]:
        model.use_slow(f"its logprobs differ from the plain forward by {known[key]['difference']} nats")
    return known[key]


def fixed_stream(vocabulary: int) -> Stream:
    """256 tokens: a row, a pair and a group under one head, with ids spread over the vocabulary."""
    ids = [(7919 * place + 13) % vocabulary for place in range(256)]

    def answer(start: int, stop: int) -> Answer:
        return Answer(ids[start:stop], [1.0] * (stop - start))

    head = ids[:16]
    trees = (
        Tree([*head, *ids[16:20]], (answer(20, 64),)),
        Tree([*head, *ids[64:84]], (answer(84, 110), answer(110, 128))),
        Tree([*head, *ids[128:160]], tuple(answer(start, start + 24) for start in range(160, 256, 24))),
    )
    return pack(trees, budget=256)[0]


def _key(model: LanguageModel) -> str:
    cpu = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux: the machine's kind must do
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    machine = f"{cpu} {torch.backends.cpu.get_cpu_capability()}"
    if model.device.type == "cuda":
        machine = torch.cuda.get_device_name(model.device)
    return f"flat under a head, {model.base.digest[:16]}, {versions}, {machine}, {model.dtype}"


def _read(file: Path) -> dict[str, dict[str, Json]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
