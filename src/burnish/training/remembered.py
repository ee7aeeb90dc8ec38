"""Figures of fixed rows under a frozen model: computed once, and kept by what they were computed from.

Rows are run in fixed batches, and a batch is kept whole under the hash of all that stands in it. So a number never
depends on what was kept before: a resumed run, a second run and a fresh one read the same bits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from burnish.errors import ConfigError
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.store import Store
from burnish.store.hashing import digest_of

BUDGET = 2048  # tokens of a batch: part of what a number is computed from
FOLDER = "logps"
LIMIT = 20.0  # GB that each folder of the cache may hold, unless BURNISH_CACHE_GB says otherwise

Compute = Callable[[Stream], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Remembered:
    """What one frozen model says about batches.

    Args:
        folder: Where batches are kept; it may be deleted at any time.
        source: All that decides the numbers but for the batch: the weights, the path, the library, where and how
            exactly.
    """

    folder: Path
    source: Json

    @classmethod
    def of(cls, store: Store, version: Record, model: LanguageModel) -> Remembered:
        """What ``version``, loaded as ``model``, says; kept in the store's cache."""
        return cls.made(store.cache / FOLDER, [version.body["base"]["digest"], version.body["adapter"]], model)

    @classmethod
    def made(cls, folder: Path, source: Json, model: LanguageModel) -> Remembered:
        """What ``model`` says where ``source`` names its weights and all that is asked of it."""
        return cls(folder, [source, model.path, torch.__version__, str(model.device), str(model.dtype)])

    def keep(
        self, streams: Sequence[Stream], compute: Compute, progress: Progress, what: str
    ) -> Iterator[tuple[Path | None, Mapping[str, Tensor]]]:
        """The file of each batch and what stands in it; made where it is not there, or not as it was written.

        Where it cannot be written, that is said once, and the path is None from there on.
        """
        failed = ""
        for number, stream in enumerate(streams, 1):
            path = self.folder / f"{self._key(stream)}.safetensors"
            place: Path | None = path
            tensors = _load(path)
            if tensors is None:
                with torch.no_grad():
                    tensors = {name: tensor.cpu().contiguous() for name, tensor in compute(stream).items()}
                if not failed:
                    failed = _save(path, tensors)
                    if failed:
                        progress.say(
                            f"{what}: cannot be kept in {self.folder}, a later run computes it again: {failed}"
                        )
                place = None if failed else path
                progress.update(what, number, len(streams))
            else:
                path.touch()  # used now: the room of others goes first
            yield place, tensors

    def read(
        self, streams: Sequence[Stream], compute: Compute, progress: Progress, what: str
    ) -> list[Mapping[str, Tensor]]:
        """The tensors of each batch; files over the limit of the cache are not kept for the next reading.

        Raises:
            ConfigError: BURNISH_CACHE_GB is not a number of gigabytes.
        """
        most = limit()
        found = [tensors for _, tensors in self.keep(streams, compute, progress, what)]
        make_room(self.folder, 0, most)
        return found

    def _key(self, stream: Stream) -> str:
        whole = hashlib.sha256()
        for tensor in (stream.ids_T, stream.positions_T, stream.take_S, stream.targets_S):
            whole.update(tensor.numpy().tobytes() + b"|")
        spans = [[span.start, span.stop, list(span.parent or ())] for span in stream.spans]
        return digest_of([self.source, spans, whole.hexdigest()])


def with_reference(
    trees: Sequence[Tree], model: LanguageModel, kept: Remembered, progress: Progress, what: str = "reference logprobs"
) -> list[Tree]:
    """The trees with "reference_logp" on every answer, the mismatched ones too: logprobs under the frozen ``model``."""
    apart = [Tree(tree.prompt, (tree.mismatched,)) for tree in trees if tree.mismatched is not None]

    def compute(stream: Stream) -> Mapping[str, Tensor]:
        logp_S = model.logp(stream).logp_S
        assert logp_S is not None
        return {"logp": logp_S}

    batches = kept.read(pack([*trees, *apart], BUDGET, keep_last=False), compute, progress, what)
    logps = iter([value for tensors in batches for value in tensors["logp"].tolist()])
    done = [tuple(_said(answer, logps) for answer in tree.answers) for tree in trees]
    other = iter([_said(tree.answers[0], logps) for tree in apart])
    return [
        Tree(tree.prompt, answers, tree.streams, None if tree.mismatched is None else next(other))
        for tree, answers in zip(trees, done, strict=True)
    ]


def _said(answer: Answer, logps: object) -> Answer:
    """The answer with its logprobs: one for each id with a weight, 0 for the others, which nothing reads."""
    logp = [next(logps) if weight else 0.0 for weight in answer.weights]  # type: ignore[call-overload]
    return Answer(answer.ids, answer.weights, {**answer.streams, "reference_logp": logp}, answer.row)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        whole.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())  # numpy knows no bfloat16
    return whole.hexdigest()


def _load(path: Path) -> dict[str, Tensor] | None:
    """What is kept; None where nothing is, or where it is not what was written."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            written = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError):
        return None
    return tensors if written == _digest(tensors) else None


def limit() -> float:
    """Bytes that each folder of the cache may hold.

    Raises:
        ConfigError: BURNISH_CACHE_GB is not a number of gigabytes.
    """
    given = os.environ.get("BURNISH_CACHE_GB", str(LIMIT))
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not gigabytes >= 0:
        raise ConfigError(f'BURNISH_CACHE_GB is "{given}"', mend=f"a number of gigabytes; without it {LIMIT:g}")
    return 1e9 * gigabytes


def make_room(folder: Path, need: float, most: float) -> bool:
    """Delete the files used longest ago until ``need`` more bytes stay within ``most``; False where they never can."""
    if need > most:
        return False
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    held = sum(path.stat().st_size for path in files)
    for path in files:
        if held + need <= most:
            break
        held -= path.stat().st_size
        path.unlink()
    return True


def _save(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Written beside and renamed: a killed run leaves no half a file under a name that is read.

    Returns why it could not be written, "" where it was: a disk that is full costs time, not the run.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), part, {"digest": _digest(tensors)})
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        return str(error)
    return ""
