"""Hidden states at the freezing boundary: kept once, read in every pass, the same whatever they are packed with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.errors import ConfigError
from burnish.models import language
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.layer import decoder_layer
from burnish.objectives.stream import Answer, Tree, pack
from burnish.progress import Silent
from burnish.training.boundaries import keep_boundaries


def tree(prompt: list[int], *answers: list[int]) -> Tree:
    return Tree(prompt, tuple(Answer(ids, [1.0] * len(ids)) for ids in answers))


TREES = [
    tree([5, 9, 11], [7, 8, 2]),
    tree([6, 4], [1, 12, 2], [3, 2]),
    tree([3] * 9, [9, 2]),
    tree([7], [7, 2], [8, 2]),
]


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    return LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))


def top_layer(base: LanguageModel) -> LanguageModel:
    return base.sibling(lora=Lora(4, layers=1), trainable=True, seed=3)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers that are run."""
    found: list[int] = []

    def watched(layer, hidden, **where):
        found.append(layer.self_attn.layer_idx)
        return decoder_layer(layer, hidden, **where)

    monkeypatch.setattr(language, "decoder_layer", watched)
    return found


HEAD = [*range(20, 32)]
HEADED = [Tree([*HEAD, *t.prompt], t.answers) for t in TREES]


@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("budget", [1, 12, 1000])
@pytest.mark.parametrize("trees", [TREES, HEADED], ids=["apart", "under a head"])
def test_kept_states_give_the_same_logprobs_however_packed(base, tmp_path, ran, trees, keep_last, budget) -> None:
    plain, spared = top_layer(base), top_layer(base)
    assert keep_boundaries(spared, trees, 2, tmp_path, "weights", Silent(), "reading", keep_last)
    for stream in pack(trees[::-1], budget, keep_last=keep_last):
        ran.clear()
        found = spared.logp(stream).logp_S
        assert min(ran) == spared.first_trained > 0
        torch.testing.assert_close(found, plain.logp(stream).logp_S, rtol=1e-5, atol=1e-5)


def test_kept_states_serve_rows_that_share_more_or_less_of_their_beginning(base, tmp_path) -> None:
    """A window's rows may begin alike where the whole set's do not, and the other way round."""
    deep = [Tree([*HEAD, 8, *HEAD, *t.prompt], t.answers) for t in TREES]
    plain, spared = top_layer(base), top_layer(base)
    keep_boundaries(spared, [*HEADED, *deep], 2, tmp_path, "weights", Silent(), "reading")
    for window in (deep, [HEADED[0], deep[1]], [HEADED[2]]):
        for stream in pack(window, 1000, keep_last=False):
            assert spared.kept is not None and spared.kept(stream) is not None
            torch.testing.assert_close(spared.logp(stream).logp_S, plain.logp(stream).logp_S, rtol=1e-5, atol=1e-5)


def test_what_is_kept_is_not_computed_again_and_other_weights_are(base, tmp_path, ran) -> None:
    model = top_layer(base)
    for source, runs in (("weights", True), ("weights", False), ("other weights", True)):
        ran.clear()
        keep_boundaries(model, TREES, 2, tmp_path, source, Silent(), "reading")
        assert bool(ran) == runs


def test_rows_that_are_not_kept_run_whole(base, tmp_path, ran) -> None:
    model = top_layer(base)
    keep_boundaries(model, TREES[:2], 2, tmp_path, "weights", Silent(), "reading")
    ran.clear()
    model.logp(pack(TREES, 1000)[0])
    assert ran[0] == 0


def test_a_prompt_with_other_answers_is_another_row(base, tmp_path) -> None:
    """Equal ids on the axis, cut in other places, have other positions and another mask."""
    one, other = tree([5, 9], [7, 8], [7, 8, 2]), tree([5, 9], [7, 8, 7], [8, 2])
    model = top_layer(base)
    keep_boundaries(model, [one], 2, tmp_path, "weights", Silent(), "reading", keep_last=True)
    assert model.kept is not None
    assert model.kept(pack([one], 100)[0]) is not None
    assert model.kept(pack([other], 100)[0]) is None


def test_nothing_is_kept_for_one_pass_or_a_trained_first_layer_or_on_a_small_disk(base, tmp_path, monkeypatch) -> None:
    whole = base.sibling(lora=Lora(4), trainable=True)
    assert not keep_boundaries(whole, TREES, 2, tmp_path, "weights", Silent(), "reading")
    model = top_layer(base)
    assert not keep_boundaries(model, TREES, 1, tmp_path, "weights", Silent(), "reading")
    monkeypatch.setenv("BURNISH_CACHE_GB", "0")
    assert not keep_boundaries(model, TREES, 2, tmp_path, "weights", Silent(), "reading")
    assert model.kept is None and not list(tmp_path.rglob("*.safetensors"))
    monkeypatch.setenv("BURNISH_CACHE_GB", "much")
    with pytest.raises(ConfigError, match='BURNISH_CACHE_GB is "much"'):
        keep_boundaries(model, TREES, 2, tmp_path, "weights", Silent(), "reading")


def test_rows_that_the_slow_path_runs_are_not_kept(base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(LanguageModel, "window", property(lambda _: 5))
    model = top_layer(base)
    assert keep_boundaries(model, TREES, 2, tmp_path, "weights", Silent(), "reading", keep_last=True)
    assert model.kept is not None
    kept = [model.kept(stream) is not None for stream in pack(TREES, 1)]
    assert kept == [False, True, False, True]  # 6, 5, 11 and 3 tokens to the end of the longest answer
    assert not keep_boundaries(top_layer(base), TREES[:1], 2, tmp_path, "weights", Silent(), "reading", keep_last=True)


def test_the_states_used_longest_ago_make_room(base, tmp_path, monkeypatch) -> None:
    model = top_layer(base)
    width = int(model.head.shape[1])
    need = 4 * width * sum(t.tokens(keep_last=False) for t in TREES)
    monkeypatch.setenv("BURNISH_CACHE_GB", str(2.5 * need / 1e9))
    for source in ("first", "second", "third"):
        assert keep_boundaries(model, TREES, 2, tmp_path, source, Silent(), "reading")
    held = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert need < held <= 2.5 * need
