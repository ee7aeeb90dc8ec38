"""Logprobs that are kept: what decides a number decides its key, and what is damaged is computed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.progress import Silent
from burnish.training.remembered import Remembered, with_reference


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    return base.sibling(lora=Lora(4), seed=1)


def trees() -> list[Tree]:
    return [
        Tree([5, 9], (Answer([7, 8, 2], [1.0] * 3, row=1), Answer([4, 2], [1.0, 1.0], row=1)), {"preference": 1.0}),
        Tree([6], (Answer([3, 2], [1.0, 1.0], row=2),), {"label": 0.0}, Answer([9, 9, 2], [1.0, 0.0, 1.0], row=3)),
    ]


def test_each_id_has_its_own_logprob_the_mismatched_ones_too(model: LanguageModel, tmp_path: Path) -> None:
    found = with_reference(trees(), model, Remembered(tmp_path, "a"), Silent())
    assert [t.streams for t in found] == [t.streams for t in trees()]
    for tree in found:
        for answer in (*tree.answers, *([tree.mismatched] if tree.mismatched else [])):
            (alone,) = pack([Tree(tree.prompt, (Answer(answer.ids, [1.0] * len(answer.ids)),))], 1, keep_last=False)
            want = model.logp_slow(alone).logp_S
            assert want is not None
            got = answer.streams["reference_logp"]
            assert got == pytest.approx(
                [float(x) if w else 0.0 for x, w in zip(want, answer.weights, strict=True)], abs=1e-5
            )


def test_a_second_reading_computes_nothing_and_another_version_everything(tmp_path: Path) -> None:
    ran: list[int] = []

    def compute(stream: Stream) -> Mapping[str, Tensor]:
        ran.append(len(stream.ids_T))
        return {"logp": torch.arange(len(stream.take_S), dtype=torch.float32)}

    streams = pack(trees(), 4, keep_last=False)
    first = Remembered(tmp_path, "a").read(streams, compute, Silent(), "x")
    assert len(ran) == len(streams) == 2
    again = Remembered(tmp_path, "a").read(streams, compute, Silent(), "x")
    assert len(ran) == 2 and all(torch.equal(a["logp"], b["logp"]) for a, b in zip(first, again, strict=True))
    Remembered(tmp_path, "b").read(streams, compute, Silent(), "x")
    assert len(ran) == 4
    changed = [*trees()[:1], Tree([6], (Answer([3, 5], [1.0, 1.0]),))]
    Remembered(tmp_path, "a").read(pack(changed, 4, keep_last=False), compute, Silent(), "x")
    assert len(ran) == 5  # the batch that changed, alone


def test_a_flipped_byte_is_computed_again(tmp_path: Path) -> None:
    streams = pack(trees(), 100, keep_last=False)

    def compute(stream: Stream) -> Mapping[str, Tensor]:
        return {"logp": torch.ones(len(stream.take_S))}

    kept = Remembered(tmp_path, "a")
    kept.read(streams, compute, Silent(), "x")
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-2] ^= 0xFF
    path.write_bytes(bytes(data))
    (found,) = kept.read(streams, compute, Silent(), "x")
    assert bool((found["logp"] == 1).all())
    path.write_bytes(b"torn")
    (found,) = kept.read(streams, compute, Silent(), "x")
    assert bool((found["logp"] == 1).all()) and [p.name for p in tmp_path.iterdir()] == [path.name]


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_full_disk_is_said_once_and_costs_time_alone(
    model: LanguageModel, tmp_path: Path, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    wanted, heard = with_reference(trees(), model, Remembered(tmp_path / "other", "a"), Silent()), Heard()
    streams = pack(trees(), 4, keep_last=False)

    def compute(stream: Stream) -> Mapping[str, Tensor]:
        return {"logp": torch.ones(len(stream.take_S))}

    with small_files(50):
        assert with_reference(trees(), model, Remembered(tmp_path, "a"), heard) == wanted
        found = list(Remembered(tmp_path, "b").keep(streams, compute, heard, "rows"))
    assert [path for path, _ in found] == [None, None] and all(bool((t["logp"] == 1).all()) for _, t in found)
    assert [line.partition(" in ")[0] for line in heard.lines] == [
        "reference logprobs: cannot be kept", "rows: cannot be kept",
    ]  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if path.is_file()]  # no half a file either


def test_logprobs_have_a_limit_and_those_used_longest_ago_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = pack(trees(), 4, keep_last=False)

    def read(source: str) -> list[Mapping[str, Tensor]]:
        def compute(stream: Stream) -> Mapping[str, Tensor]:
            return {"logp": torch.ones(len(stream.take_S))}

        return Remembered(tmp_path, source).read(streams, compute, Silent(), "x")

    wanted = read("a")
    once = sum(path.stat().st_size for path in tmp_path.iterdir())
    first = {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setenv("BURNISH_CACHE_GB", str(1.2 * once / 1e9))
    read("b")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == len(first) and not left & first
    monkeypatch.setenv("BURNISH_CACHE_GB", "0")
    assert all(torch.equal(a["logp"], b["logp"]) for a, b in zip(read("a"), wanted, strict=True))
    assert not list(tmp_path.iterdir())
