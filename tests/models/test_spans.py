"""A dense reward's heads on the tiny model: what they read, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.spans import SpanModel
from burnish.objectives import Answer, Tree, pack

SIZES = {"late": "sentence", "rude": "clause"}


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def moved(base: LanguageModel) -> SpanModel:
    made = SpanModel.on(base, Lora(4), 1, 3, SIZES, [-1.0, -2.0])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


def told(ids: list[int], ends: list[int]) -> Answer:
    before = [float(len(ids) - 1 - token) for token in range(len(ids))]
    return Answer(ids, [float(token in ends) for token in range(len(ids))], {"before_end": before})


def test_before_it_learned_every_segment_has_the_odds_of_its_type(base: LanguageModel) -> None:
    fresh = SpanModel.on(base, Lora(4), 1, 3, SIZES, [-1.0, -2.0])  # type: ignore[arg-type]
    (stream,) = pack([Tree([1, 2], (told([3, 4, 5], [0, 2]),))], 100)
    assert fresh.logits(stream).tolist() == [[-1.0, -2.0]] * 2


@torch.no_grad()
def test_a_head_reads_the_id_that_ends_the_segment_in_groups_as_alone(moved: SpanModel) -> None:
    prompt, first, second = [1, 2, 9], [3, 4, 5, 6], [7, 8]
    ends = ([0, 2], [0, 1])
    trees = [Tree(prompt, (told(first, ends[0]), told(second, ends[1]))), Tree([4], (told(second, [1]),))]
    (stream,) = pack(trees, 100)
    found = moved.logits(stream)
    alone = []
    for before, ids, places in ((prompt, first, ends[0]), (prompt, second, ends[1]), ([4], second, [1])):
        for place in places:
            # by the plain path: the sequence that ends with this very id
            (cut,) = pack([Tree(before, (Answer(ids[: place + 1], [1.0] * (place + 1)),))], 100)
            hidden_D = moved.trunk.hidden_slow(cut)[-1]
            alone.append(hidden_D @ moved.heads_KD.T + moved.bias_K)
    assert torch.allclose(found, torch.stack(alone), atol=1e-5)
    assert torch.allclose(moved.by_head(stream), torch.stack([*_at_the_end(moved, trees)]), atol=1e-5)


def _at_the_end(model: SpanModel, trees: list[Tree]) -> list[torch.Tensor]:
    whole = [(tree.prompt, answer.ids) for tree in trees for answer in tree.answers]
    cut = [pack([Tree(prompt, (Answer(ids, [1.0] * len(ids)),))], 100)[0] for prompt, ids in whole]
    return [model.trunk.hidden_slow(one)[-1] @ model.heads_KD.T + model.bias_K for one in cut]


def test_a_stream_without_places_or_without_last_tokens_is_refused(moved: SpanModel) -> None:
    plain = [Tree([1], (Answer([2, 3], [1.0, 1.0]),))]
    with pytest.raises(ModelError, match="before_end"):
        moved.logits(pack(plain, 100)[0])
    with pytest.raises(ModelError, match="last token"):
        moved.by_head(pack(plain, 100, keep_last=False)[0])


def _files(model: SpanModel, folder: Path) -> dict[str, Path]:
    for name, data in model.files().items():
        (folder / name).write_bytes(data)
    return {path.name: path for path in folder.iterdir()}


@torch.no_grad()
def test_it_is_kept_with_each_head_under_its_type(moved: SpanModel, base: LanguageModel, tmp_path: Path) -> None:
    files = _files(moved, tmp_path)
    (stream,) = pack([Tree([1, 2], (told([3, 4, 5], [0, 2]),))], 100)
    again = SpanModel.load(base, files)
    assert again.sizes == SIZES and torch.allclose(again.logits(stream), moved.logits(stream), atol=1e-6)
    config = json.loads(files["spans.json"].read_text())
    config["types"] = dict(reversed(config["types"].items()))  # the order is the file's, the heads go by their names
    files["spans.json"].write_text(json.dumps(config))
    turned = SpanModel.load(base, files)
    assert list(turned.sizes) == ["rude", "late"]
    assert torch.allclose(turned.logits(stream), moved.logits(stream)[:, [1, 0]], atol=1e-6)


def test_what_cannot_be_loaded_or_kept_says_so(moved: SpanModel, base: LanguageModel, tmp_path: Path) -> None:
    files = _files(moved, tmp_path)
    for missing in ("spans.json", "span_heads.safetensors"):
        with pytest.raises(ModelError, match=f"has no {missing}"):
            SpanModel.load(base, {name: path for name, path in files.items() if name != missing})
    files["spans.json"].write_text('{"types": {"late": "sentence", "absent": "clause"}}')
    with pytest.raises(ModelError, match="the span heads cannot be read"):
        SpanModel.load(base, files)
    broken = SpanModel(moved.trunk, moved.sizes, moved.heads_KD.data * float("nan"), moved.bias_K.data)
    with pytest.raises(ModelError, match="not finite"):
        broken.files()
