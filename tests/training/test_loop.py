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
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term, TermResult, likelihood_term
from burnish.progress import Silent
from burnish.training.loop import STILL, Loop, Settings
from burnish.training.passes import Epochs


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

    def __init__(self, trees: Sequence[Tree]) -> None:
        self.trees, self.state = trees, {}

    def window(self, step: int) -> Sequence[Tree]:
        return self.trees

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


def test_a_non_finite_gradient_stops_before_the_step_and_names_its_row_alone(
    base: LanguageModel, tmp_path: Path
) -> None:
    """The loss is finite: 0 times the square root of 0 has no gradient. Rows that share its stream are not named."""
    model = model_on(base)
    before = {n: p.detach().clone() for n, p in model.parameters().items()}

    def poisoned(outputs: Outputs, stream: Stream) -> TermResult:
        assert outputs.logp_S is not None
        total = -(outputs.logp_S * stream.weights_S).sum()
        if 2 in stream.rows_A:
            total = total + ((outputs.logp_S - outputs.logp_S.detach()) ** 2).sum().sqrt()
        return TermResult(total, {}, float(stream.weights_S.sum()))

    term = replace(likelihood_term(), loss=poisoned)
    loop = loop_of(model, tmp_path, Fixed(trees()), [term], budget=1000)
    with pytest.raises(TrainingError, match=r"gradient of update 0 is not finite.*\n.*look at rows 2;"):
        loop.run()
    assert all(torch.equal(p, before[n]) for n, p in model.parameters().items())


def test_rows_that_overflow_only_together_are_all_named(base: LanguageModel, tmp_path: Path) -> None:
    def large(outputs: Outputs, stream: Stream) -> TermResult:
        assert outputs.logp_S is not None
        return TermResult(outputs.logp_S.sum() * 0 + 2e38 * len(stream.rows_A), {}, float(stream.weights_S.sum()))

    term = replace(likelihood_term(), loss=large)
    twice = [replace(tree, answers=(replace(tree.answers[0], weights=[1.0]),)) for tree in trees()[2:3]] * 2
    loop = loop_of(model_on(base), tmp_path, Fixed(twice), [replace(term, count=lambda window: 1.0)], budget=1000)
    with pytest.raises(TrainingError, match="none is so alone, only together: rows 3"):
        loop.run()


@pytest.mark.parametrize("updates", [STILL - 1, STILL])
def test_a_margin_that_stays_exactly_zero_is_an_error(base: LanguageModel, tmp_path: Path, updates: int) -> None:
    """DPO on answers that are alike: the loss stays at log 2 for a whole run."""
    margins = iter([1.0, *[0.0] * 20])

    def term_of(outputs: Outputs, stream: Stream) -> TermResult:
        found = likelihood_term().loss(outputs, stream)
        return TermResult(found.total, {"margin": torch.tensor(next(margins))}, found.units)

    term = replace(likelihood_term(), loss=term_of)
    loop = loop_of(model_on(base), tmp_path, Fixed(trees()), [term], updates=updates + 1)
    if updates < STILL:
        loop.run()
        return
    with pytest.raises(TrainingError, match="margin was exactly 0 for 8 updates, the last one is 8"):
        loop.run()


def test_a_margin_of_ties_alone_is_zero_and_no_error(base: LanguageModel, tmp_path: Path) -> None:
    """Online pairs of a task that is solved: all rewards are equal."""

    def units(trees: Sequence[Tree]) -> float:
        return sum(answer.units for tree in trees for answer in tree.answers)

    def all_tokens(outputs: Outputs, stream: Stream) -> TermResult:
        total = -(outputs.logp_S * stream.weights_S).sum()
        return TermResult(total, {"margin": torch.tensor(0.0)}, float(stream.weights_S.sum()))

    tied = [replace(tree, streams={"preference": 0.5}) for tree in trees()]
    term = Term("preference", "pair", 1.0, units, all_tokens)
    assert loop_of(model_on(base), tmp_path, Fixed(tied), [term], updates=STILL + 2).run()[0] == STILL + 2


def test_a_count_that_differs_from_what_was_used_is_an_error(base: LanguageModel, tmp_path: Path) -> None:
    honest = likelihood_term()
    padded = Term("likelihood", "token", 1.0, lambda window: honest.count(window) + 3, honest.loss)
    with pytest.raises(TrainingError, match="declared"):
        loop_of(model_on(base), tmp_path, Fixed(trees()), [padded]).run()


def test_a_term_is_divided_by_its_divisor_and_weighed_by_its_schedule(base: LanguageModel, tmp_path: Path) -> None:
    """Twice the count halves the gradient, and half the weight at the second update halves it again."""
    found = []
    plain = likelihood_term()
    halved = replace(plain, divisor=lambda trees: 2 * plain.count(trees), schedule=lambda step: 1 / (1 + step))
    for name, term, step in (("plain", plain, 1), ("halved", halved, 0), ("later", halved, 1)):
        loop = loop_of(model_on(base), tmp_path / name, Fixed(trees()), [term], clip_norm=1e9)
        figures = loop.update(step, trees())
        found.append((figures["likelihood"], figures["loss"], figures["gradient_norm"]))
    first = found[0]
    assert found[1] == pytest.approx((first[0] / 2, first[1] / 2, first[2] / 2), rel=1e-4)
    assert found[2] == pytest.approx((first[0] / 2, first[1] / 4, first[2] / 4), rel=1e-4)


def test_a_window_without_a_supervised_token_leaves_the_weights_alone(base: LanguageModel, tmp_path: Path) -> None:
    model = model_on(base)
    before = {n: p.detach().clone() for n, p in model.parameters().items()}
    empty = [Tree([5, 6], (Answer([7, 2], [0.0, 0.0], row=1),))]
    with pytest.raises(TrainingError, match="nothing to learn"):
        loop_of(model, tmp_path, Fixed(empty)).run()
    assert all(torch.equal(p, before[n]) for n, p in model.parameters().items())


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


def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(base: LanguageModel, tmp_path: Path) -> None:
    settings = {"sft": {"learning_rate": 0.001, "batch_size": 8}}
    replace(loop_of(model_on(base), tmp_path, Fixed(trees()), updates=3), recipe=settings).run()
    again = replace(loop_of(model_on(base), tmp_path, Fixed(trees()), updates=3), recipe=settings)
    assert again.run() == (3, None)
    changed = {"sft": {"learning_rate": 0.0005, "batch_size": 8}}
    loop = replace(loop_of(model_on(base), tmp_path, Fixed(trees()), updates=4), recipe=changed)
    with pytest.raises(
        TrainingError, match=r"loop\.updates changed 3 -> 4; sft\.learning_rate changed 0\.001 -> 0\.0005"
    ):
        loop.run()


def test_a_resume_under_other_conditions_says_so(base: LanguageModel, tmp_path: Path) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    loop_of(model_on(base), tmp_path, Fixed(trees()), updates=3).run()
    same, other = Heard(), Heard()
    replace(loop_of(model_on(base), tmp_path, Fixed(trees()), updates=3), progress=same).run()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        replace(loop_of(model_on(base), tmp_path, Fixed(trees()), updates=3), progress=other).run()
    finally:
        torch.set_num_threads(threads)
    assert same.lines == ["update 2 of 3 is kept: it goes on from there"] and len(other.lines) == 2
    assert f"run.threads changed {threads} -> {threads + 1}" in other.lines[0]


def test_algorithms_are_deterministic_within_a_run_and_as_before_after_it(base: LanguageModel, tmp_path: Path) -> None:
    class Watching(Fixed):
        def window(self, step: int) -> Sequence[Tree]:
            self.state["deterministic"] = torch.are_deterministic_algorithms_enabled()
            return super().window(step)

    windows = Watching(trees())
    loop_of(model_on(base), tmp_path, windows).run()
    assert windows.state["deterministic"] and not torch.are_deterministic_algorithms_enabled()


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


def test_the_backward_ends_at_the_lowest_unfrozen_layer(base: LanguageModel, tmp_path: Path) -> None:
    """What the graph of the loss leads to: nothing below is recorded, so nothing there is run again."""
    model = model_on(base)
    names = {parameter: name for name, parameter in model.parameters().items()}
    reached: list[set[str]] = []

    def forward(stream: Stream) -> Outputs:
        outputs = model.logp(stream)
        assert outputs.logp_S is not None
        nodes, seen = [outputs.logp_S.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                nodes += [after for after, _ in node.next_functions]
        reached.append({names[node.variable] for node in seen if hasattr(node, "variable")})
        return outputs

    upper = {name for name in model.parameters() if ".layers.1." in name}
    loop = replace(loop_of(model, tmp_path, Fixed(trees()), updates=2, budget=1000), forward=forward)
    loop = replace(loop, trainable=lambda step: set(model.parameters()) if step else upper)
    loop.update(0, trees())
    loop.update(1, trees())
    assert reached == [upper, set(model.parameters())]


def test_each_pass_sees_every_tree_once_in_an_order_of_its_own() -> None:
    rows = [Tree([1], (Answer([2], [1.0], row=i),)) for i in range(10)]
    windows = Epochs(rows, 4, seed=5)
    assert windows.per_epoch == 3
    passes = [[t.answers[0].row for step in range(3) for t in windows.window(3 * e + step)] for e in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]
    assert [t.answers[0].row for t in Epochs(rows, 4, seed=5).window(4)] == passes[1][4:8]
