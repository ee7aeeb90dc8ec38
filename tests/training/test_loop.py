"""The step loop: one gradient however a window is cut, declared counts, and stops before a bad step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.errors import TrainingError
from burnish.models import language
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.layer import decoder_layer
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term, TermResult, likelihood_term
from burnish.progress import Silent
from burnish.training.loop import Loop, Settings, Stop
from burnish.training.supervised import Epochs


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    return LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))


def model_on(base: LanguageModel) -> LanguageModel:
    model = base.sibling(lora=Lora(4), trainable=True, seed=3)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters().values():  # B starts at zero: move it, so that every gradient is alive
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def trees() -> list[Tree]:
    rows = [
        ([5, 9, 11], [7, 8, 2], [1.0, 1.0, 1.0]),
        ([6, 4], [1, 12, 13, 14, 2], [1.0] * 5),
        ([3] * 17, [9], [1.0]),
        ([8, 8, 1], [4, 4, 4, 2], [0.0, 1.0, 0.5, 1.0]),
        ([7], [7, 2], [0.0, 0.0]),
    ]
    return [Tree(p, (Answer(a, w, row=i + 1),)) for i, (p, a, w) in enumerate(rows)]


class Fixed:
    """The same window at every step."""

    state: dict[str, Any]

    def __init__(self, trees: Sequence[Tree], stop_at: int | None = None) -> None:
        self.trees, self.stop_at, self.state = trees, stop_at, {}

    def window(self, step: int) -> Sequence[Tree]:
        if step == self.stop_at:
            raise Stop("far enough")
        return self.trees

    def best(self, step: int) -> bool:
        return False

    def boundary(self, step: int) -> bool:
        return step % 2 == 0

    def figures(self) -> dict[str, float]:
        return {}


def loop_of(model: LanguageModel, folder: Path, windows: Fixed, terms: list[Term] | None = None, **kwargs) -> Loop:
    settings = Settings(**{"updates": 1, "learning_rate": 1e-2, "schedule": "constant", **kwargs})
    return Loop(model.parameters(), model.logp, windows, terms or [likelihood_term()], settings, folder, Silent())


@pytest.mark.parametrize("budget", [1, 12, 25, 1000])
def test_the_gradient_does_not_depend_on_the_cut(base: LanguageModel, tmp_path: Path, budget: int) -> None:
    whole, cut = model_on(base), model_on(base)
    for model, size, name in ((whole, 10_000, "a"), (cut, budget, "b")):
        loop = loop_of(model, tmp_path / name, Fixed(trees()), budget=size, clip_norm=1e9)
        grads: dict[str, torch.Tensor] = {}
        loop.optimizer.step = lambda rate, grads=grads, loop=loop: grads.update(  # type: ignore[method-assign]
            {n: p.grad.clone() for n, p in loop.parameters.items() if p.grad is not None}
        )
        loop.update(0, trees())
        if name == "a":
            expected = grads
    assert set(grads) == set(expected)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


def test_the_logged_loss_is_the_mean_over_supervised_tokens(base: LanguageModel, tmp_path: Path) -> None:
    model = model_on(base)
    total = weight = 0.0
    for tree in trees():
        ids = [*tree.prompt, *tree.answers[0].ids]
        for place, (target, w) in enumerate(zip(tree.answers[0].ids, tree.answers[0].weights, strict=True)):
            with torch.no_grad():
                row = Tree(ids[: len(tree.prompt) + place], (Answer([target], [1.0]),))
                logp = model.logp(pack([row], 1000)[0]).logp_S
            assert logp is not None
            total -= w * float(logp[0])
            weight += w
    figures = loop_of(model, tmp_path, Fixed(trees()), budget=20).update(0, trees())
    assert figures["likelihood"] == pytest.approx(total / weight, rel=1e-4)


def test_a_non_finite_loss_stops_before_the_step_and_names_the_rows(base: LanguageModel, tmp_path: Path) -> None:
    model = model_on(base)
    before = {n: p.detach().clone() for n, p in model.parameters().items()}

    def poisoned(outputs: Outputs, stream: Stream) -> TermResult:
        assert outputs.logp_S is not None
        bad = torch.tensor([3 in stream.rows_A])
        return TermResult(torch.where(bad, math.nan, -outputs.logp_S.sum()).sum(), {}, float(len(outputs.logp_S)))

    def count(window: Sequence[Tree]) -> float:
        return float(sum(w != 0 for t in window for a in t.answers for w in a.weights))

    loop = loop_of(model, tmp_path, Fixed(trees()), [Term("poison", "token", 1.0, count, poisoned)], budget=1)
    with pytest.raises(TrainingError, match=r"not finite.*\n.*rows 3"):
        loop.run()
    assert all(torch.equal(p, before[n]) for n, p in model.parameters().items())


def test_a_count_that_differs_from_what_was_used_is_an_error(base: LanguageModel, tmp_path: Path) -> None:
    honest = likelihood_term()
    padded = Term("likelihood", "token", 1.0, lambda window: honest.count(window) + 3, honest.loss)
    with pytest.raises(TrainingError, match="declared"):
        loop_of(model_on(base), tmp_path, Fixed(trees()), [padded]).run()


def test_a_window_without_a_supervised_token_leaves_the_weights_alone(base: LanguageModel, tmp_path: Path) -> None:
    model = model_on(base)
    before = {n: p.detach().clone() for n, p in model.parameters().items()}
    empty = [Tree([5, 6], (Answer([7, 2], [0.0, 0.0], row=1),))]
    with pytest.raises(TrainingError, match="nothing to learn"):
        loop_of(model, tmp_path, Fixed(empty)).run()
    assert all(torch.equal(p, before[n]) for n, p in model.parameters().items())


def test_stop_gives_back_the_last_checkpoint(base: LanguageModel, tmp_path: Path) -> None:
    stopped, short = model_on(base), model_on(base)
    done, why = loop_of(stopped, tmp_path / "a", Fixed(trees(), stop_at=3), updates=9).run()
    assert (done, why) == (2, "far enough")
    loop_of(short, tmp_path / "b", Fixed(trees()), updates=2).run()
    for name, parameter in short.parameters().items():
        assert torch.equal(parameter, stopped.parameters()[name])


def test_a_resumed_run_ends_bit_equal(base: LanguageModel, tmp_path: Path) -> None:
    through, resumed = model_on(base), model_on(base)
    loop_of(through, tmp_path / "a", Fixed(trees()), updates=7).run()

    class Killed(Fixed):
        def window(self, step: int) -> Sequence[Tree]:
            if step == 5:
                raise KeyboardInterrupt
            return super().window(step)

    with pytest.raises(KeyboardInterrupt):
        loop_of(resumed, tmp_path / "b", Killed(trees()), updates=7).run()
    again = model_on(base)
    loop_of(again, tmp_path / "b", Fixed(trees()), updates=7).run()
    for name, parameter in through.parameters().items():
        assert torch.equal(parameter, again.parameters()[name])


def test_layers_have_rates_of_their_own(base: LanguageModel, tmp_path: Path) -> None:
    model = model_on(base)
    before = {n: p.detach().clone() for n, p in model.parameters().items()}
    loop = loop_of(model, tmp_path, Fixed(trees()), learning_rate=1e-3)
    low = {name: 0.1 for name in model.parameters() if ".layers.0." in name}
    loop = replace(loop, rates=low)
    loop.update(0, trees())
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in model.parameters().items()}
    assert all(m == pytest.approx(1e-4 if n in low else 1e-3, rel=0.02) for n, m in moved.items())


def test_what_is_not_yet_unfrozen_stays_with_its_state(base: LanguageModel, tmp_path: Path) -> None:
    """From the top down: the lower layer joins at update 2, and so does its optimizer state."""
    model = model_on(base)
    upper = {name for name in model.parameters() if ".layers.1." in name}
    before = {n: p.detach().clone() for n, p in model.parameters().items()}
    loop = loop_of(model, tmp_path, Fixed(trees()), updates=4)
    loop = replace(loop, trainable=lambda step: upper if step < 2 else set(model.parameters()))
    for step in range(3):
        loop.update(step, trees())
        still = {n for n, p in model.parameters().items() if torch.equal(p, before[n])}
        assert still == (set(model.parameters()) - upper if step < 2 else set())
        with_state = {name.rpartition("/")[0] for name in loop.optimizer.state()}
        assert with_state == (upper if step < 2 else set(model.parameters()))


def test_the_backward_ends_at_the_lowest_unfrozen_layer(
    base: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_on(base)
    recorded: list[bool] = []

    def watched(layer: torch.nn.Module, hidden: torch.Tensor, **where: object) -> torch.Tensor:
        output = decoder_layer(layer, hidden, **where)
        if layer is model.trunk.layers[0]:
            recorded.append(output.requires_grad)
        return output

    monkeypatch.setattr(language, "decoder_layer", watched)
    loop = loop_of(model, tmp_path, Fixed(trees()), updates=2)
    loop = replace(loop, trainable=lambda step: {n for n in model.parameters() if step or ".layers.1." in n})
    loop.update(0, trees())
    loop.update(1, trees())
    assert recorded == [False, True]


def test_each_pass_sees_every_tree_once_in_an_order_of_its_own() -> None:
    rows = [Tree([1], (Answer([2], [1.0], row=i),)) for i in range(10)]
    windows = Epochs(rows, 4, seed=5)
    assert windows.per_epoch == 3
    passes = [[t.answers[0].row for step in range(3) for t in windows.window(3 * e + step)] for e in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]
    assert [t.answers[0].row for t in Epochs(rows, 4, seed=5).window(4)] == passes[1][4:8]
