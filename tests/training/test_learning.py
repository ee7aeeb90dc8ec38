"""Every method on the tiny model: one gradient however a window is cut and packed, and a first step that goes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.distillation import Student, with_top
from burnish.models.language import LanguageModel
from burnish.objectives import (
    METHODS,
    Answer,
    Outputs,
    Stream,
    Term,
    Tree,
    distillation_term,
    likelihood_term,
    mismatch,
    pack,
)
from burnish.progress import Silent
from burnish.training.loop import Loop, Settings

Forward = Callable[[Stream], Outputs]
SMOOTHED = {"label_smoothing": 0.1, "sft": 0.3}
CASES = [*METHODS, "distillation", "distillation, stored"]


@pytest.fixture(scope="module")
def models(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, LanguageModel]:
    """A policy and a reference that differ."""
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    found = []
    for seed in (1, 2):
        model = base.sibling(lora=Lora(4), trainable=True, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters().values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        found.append(model)
    return found[0], found[1]


def answer(length: int, row: int) -> Answer:
    return Answer(
        [(7 * row + 3 * i) % 200 for i in range(length)], [0.0] * max(0, length - 3) + [1.0] * min(length, 3), row=row
    )


def pairs() -> list[Tree]:
    shapes = [(3, 2, 4, 1.0), (1, 1, 1, 0.0), (9, 5, 2, 0.5), (2, 3, 3, 2 / 3), (4, 1, 6, 1.0)]
    return [
        Tree(range(p), (answer(a, 10 * n), answer(b, 10 * n + 1)), {"preference": share, "votes": 1.0 + (n == 3)})
        for n, (p, a, b, share) in enumerate(shapes)
    ]


def thumbs() -> list[Tree]:
    shapes = [(3, 2, 1.0), (1, 4, 0.0), (9, 1, 1.0), (2, 3, 0.25), (4, 2, 1.0)]
    return [Tree(range(p), (answer(a, n),), {"label": label}) for n, (p, a, label) in enumerate(shapes)]


def with_reference(trees: Sequence[Tree], reference: LanguageModel) -> list[Tree]:
    """The trees with the reference's logprob of every id, one answer at a time."""

    def known(tree: Tree, answer: Answer) -> Answer:
        alone = Tree(tree.prompt, (replace(answer, weights=[1.0] * len(answer.ids)),))
        with torch.no_grad():
            logp_S = reference.logp(pack([alone], 1000, keep_last=False)[0]).logp_S
        assert logp_S is not None
        return replace(answer, streams={**answer.streams, "reference_logp": logp_S.tolist()})

    return [replace(tree, answers=tuple(known(tree, a) for a in tree.answers)) for tree in trees]


def case(name: str, models: tuple[LanguageModel, LanguageModel]) -> tuple[Forward, list[Tree], list[Term]]:
    """The forward, the window and the terms of a method of the table, or of distillation."""
    policy, reference = models
    if name.startswith("distillation"):
        stored = name.endswith("stored")
        trees = [Tree(tree.prompt, tree.answers) for tree in thumbs()]
        if stored:
            trees = [*with_top(trees[:3], reference, 4, 2.0, budget=20), *trees[3:]]
        student = Student(policy, None if stored else reference, temperature=2.0)
        return student.logp, trees, [distillation_term(4.0, stored), likelihood_term(0.5)]
    method = METHODS[name]
    terms = method.terms({key: value for key, value in SMOOTHED.items() if key in method.defaults})
    trees = pairs() if method.rows == "pairs" else thumbs()
    if method.reference:
        trees = with_reference(trees, reference)
    if method.rows == "labels":
        others = [tree.answers[0] for tree in with_reference(mismatch(trees), reference)]
        for n, (tree, other) in enumerate(zip(trees, others, strict=True)):
            # Less likely than they are under the reference, each by another bit: the point is above zero.
            lower = [logp - 1.0 - n for logp in other.streams["reference_logp"]]
            trees[n] = replace(tree, mismatched=replace(other, streams={"reference_logp": lower}))
    return policy.logp, trees, terms


class Nothing:
    """A source of windows that is never asked: each test gives its own."""

    state: dict[str, Any] = {}  # noqa: RUF012

    def window(self, step: int) -> Sequence[Tree]:
        raise AssertionError

    def best(self, step: int) -> bool:
        return False

    def boundary(self, step: int) -> bool:
        return False

    def figures(self) -> dict[str, float]:
        return {}


def updated(
    forward: Forward, model: LanguageModel, terms: Sequence[Term], trees: Sequence[Tree], budget: int, folder: Path
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The gradient of one update, which is not made, and its figures."""
    settings = Settings(updates=1, learning_rate=1e-3, schedule="constant", budget=budget, clip_norm=1e9)
    loop = Loop(model.parameters(), forward, Nothing(), terms, settings, folder, Silent())
    found: dict[str, torch.Tensor] = {}

    def step(rate: float) -> None:
        found.update({name: p.grad.clone() for name, p in model.parameters().items() if p.grad is not None})
        loop.optimizer.clear()

    loop.optimizer.step = step  # type: ignore[method-assign]
    return found, loop.update(0, trees)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_does_not_depend_on_the_cut(name: str, models, tmp_path: Path) -> None:
    """One tree, two, four, or all of them in a forward."""
    forward, trees, terms = case(name, models)
    sizes = sorted(tree.tokens(keep_last=False) for tree in trees)
    wanted, figures = updated(forward, models[0], terms, trees, 10_000, tmp_path / "whole")
    assert max(float(grad.abs().max()) for grad in wanted.values()) > 1e-3
    assert figures.get("kto/point", 1.0) > 0.5
    for cut in (1, sum(sizes[-2:]), sum(sizes[-4:])):
        found, other = updated(forward, models[0], terms, trees, cut, tmp_path / str(cut))
        assert set(found) == set(wanted)
        for parameter, grad in found.items():
            torch.testing.assert_close(grad, wanted[parameter], rtol=1e-3, atol=1e-5)
        for figure in {term.name for term in terms} | {f for f in figures if "/" in f}:
            assert other[figure] == pytest.approx(figures[figure], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_shared_prompt_gives_the_gradient_of_rows_on_their_own(name: str, models, tmp_path: Path) -> None:
    """The slow path: transformers' plain forward, each answer with its prompt, one row at a time, full logits."""
    forward, trees, terms = case(name, models)
    slow = {models[0].logp: models[0].logp_slow}.get(forward) or forward.__self__.logp_slow
    wanted, _ = updated(slow, models[0], terms, trees, 10_000, tmp_path / "slow")
    found, _ = updated(forward, models[0], terms, trees, 10_000, tmp_path / "flat")
    for parameter, grad in found.items():
        torch.testing.assert_close(grad, wanted[parameter], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_each_term_switched_on_changes_the_gradient(name: str, models, tmp_path: Path) -> None:
    """The gradient of all terms is the sum of each alone, and none of them is zero."""
    forward, trees, terms = case(name, models)
    whole, _ = updated(forward, models[0], terms, trees, 10_000, tmp_path / "all")
    parts = [updated(forward, models[0], [term], trees, 10_000, tmp_path / term.name)[0] for term in terms]
    assert len(terms) > 1
    for part in parts:
        assert max(float(grad.abs().max()) for grad in part.values()) > 1e-4
    for parameter, grad in whole.items():
        torch.testing.assert_close(sum(part[parameter] for part in parts), grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].zero_margin])
def test_the_margin_is_exactly_zero_where_the_policy_is_the_reference(name: str, models, tmp_path: Path) -> None:
    """Where reference logprobs were taken on the same streams: the figure that tells a run that does not learn."""
    policy, _ = models
    method = METHODS[name]
    trees = with_reference(pairs() if method.rows == "pairs" else thumbs(), policy)
    if method.rows == "labels":
        others = with_reference(mismatch(trees), policy)
        trees = [replace(tree, mismatched=other.answers[0]) for tree, other in zip(trees, others, strict=True)]
    _, figures = updated(policy.logp, policy, method.terms({}), trees, 1, tmp_path)
    assert abs(figures[method.zero_margin]) < 1e-4
