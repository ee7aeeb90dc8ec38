"""Looks at rows that are not trained on: when, what is the best, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from burnish.config import Recipe
from burnish.errors import TrainingError
from burnish.objectives.stream import Answer, Stream, Tree
from burnish.objectives.terms import Outputs, likelihood_term
from burnish.progress import Silent
from burnish.store.runs import RunLog
from burnish.training.held_out import HeldOut, Stop
from burnish.training.loop import Loop, Settings
from burnish.training.passes import Epochs, watched
from burnish.training.settings import (
    FEWEST,
    Choice,
    looked,
    preference_settings,
    reward_settings,
    sft_settings,
)


def looks(figures: Sequence[float], **kwargs) -> HeldOut:
    """Figures for the looks, in turn."""
    given = iter(figures)
    return HeldOut(lambda step: {"held_out": next(given)}, **{"every": 2, **kwargs})


def loop_of(folder: Path, held_out: HeldOut, updates: int = 8) -> Loop:
    """One number that learns to be likely: every update moves it."""
    value = nn.Parameter(torch.zeros(1))

    def forward(stream: Stream) -> Outputs:
        return Outputs(-((value - 3.0) ** 2).expand(len(stream.take_S)))

    rows = [Tree([1], (Answer([2, 3], [1.0, 1.0], row=i),)) for i in range(4)]
    settings = Settings(updates, 0.1, "constant")
    windows = Epochs(rows, 2, seed=1, every=3)
    return Loop({"v": value}, forward, windows, [likelihood_term()], settings, folder, Silent(), held_out=held_out)


def value_after(folder: Path, updates: int) -> torch.Tensor:
    loop = loop_of(folder, looks([1.0] * 9), updates)
    for step in range(updates):
        loop.update(step, loop.windows.window(step))
    return loop.parameters["v"].detach()


def test_when_it_looks() -> None:
    plain, first = looks([], every=3), looks([], every=3, first=True)
    assert [step for step in range(9) if plain.due(step, last=8)] == [3, 6, 8]
    assert [step for step in range(9) if first.due(step, last=8)] == [0, 3, 6, 8]


@pytest.mark.parametrize(("better", "best"), [("lower", 4), ("higher", 6)])
def test_the_best_parameters_are_what_a_run_ends_with(tmp_path: Path, better: str, best: int) -> None:
    loop = loop_of(tmp_path / "a", looks([2.0, 1.0, 3.0, 1.0], better=better))
    assert loop.run() == (best, None)
    assert torch.equal(loop.parameters["v"], value_after(tmp_path / "b", best))
    assert {line["step"]: line["held_out"] for line in RunLog.read(tmp_path / "a") if "held_out" in line} == {
        2: 2.0, 4: 1.0, 6: 3.0, 8: 1.0,
    }  # fmt: skip


def test_patience_ends_the_run_and_says_why(tmp_path: Path) -> None:
    loop = loop_of(tmp_path / "a", looks([2.0, 1.0, 1.0, 1.5, 0.1], patience=2), updates=20)
    done, why = loop.run()
    assert done == 4 and why == "held_out was best at 1 after 4 updates, 2 looks ago"
    assert torch.equal(loop.parameters["v"], value_after(tmp_path / "b", 4))
    last = RunLog.read(tmp_path / "a")[-1]
    assert (last["step"], last["held_out"], last["stopped"]) == (8, 1.5, why)


def test_a_figure_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    assert loop_of(tmp_path / "a", looks([math.nan, 2.0, math.nan, -math.inf])).run() == (4, None)


def test_a_look_may_stop_the_run(tmp_path: Path) -> None:
    def measure(step: int) -> dict[str, float]:
        if step == 6:
            raise Stop("too far", {"held_out": 9.0})
        return {"held_out": float(step)}

    loop = loop_of(tmp_path / "a", HeldOut(measure, every=2, better="higher", first=True))
    assert loop.run() == (4, "too far")
    assert torch.equal(loop.parameters["v"], value_after(tmp_path / "b", 4))
    assert RunLog.read(tmp_path / "a")[-1]["held_out"] == 9.0


@pytest.mark.parametrize("killed_at", range(1, 9))
def test_a_resumed_run_remembers_the_best_and_its_patience(tmp_path: Path, killed_at: int) -> None:
    """The figures depend on the parameters alone, so a look that is repeated sees the same."""

    def watched(folder: Path) -> Loop:
        loop = loop_of(folder, looks([]))
        figure = {0: 5.0, 2: 3.0, 4: 2.0, 6: 4.0, 8: 4.5}
        loop.held_out = HeldOut(lambda step: {"held_out": figure[step]}, every=2, patience=2, first=True)
        return loop

    whole = watched(tmp_path / "a")
    assert whole.run()[0] == 4
    killed = watched(tmp_path / "b")
    update = killed.update

    def dies(step: int, trees: Sequence[Tree]) -> dict[str, object]:
        if step == killed_at:
            raise KeyboardInterrupt
        return update(step, trees)

    killed.update = dies  # type: ignore[method-assign]
    try:
        killed.run()
    except KeyboardInterrupt:
        killed = watched(tmp_path / "b")
        assert killed.run()[0] == 4
    assert torch.equal(whole.parameters["v"], killed.parameters["v"])
    ends = [RunLog.read(tmp_path / name)[-1] for name in ("a", "b")]
    assert [(end["step"], end["held_out"], end["stopped"]) for end in ends] == [(8, 4.5, ends[0]["stopped"])] * 2


def recipe(stage: str = "sft", **keys: object) -> Recipe:
    plain: dict[str, object] = {"name": "x", "task": "chat", "base": "b", "data": {"train": "r.jsonl"}, stage: keys}
    if stage == "preference":
        keys["learn_from"] = ("compare",)
    if stage == "reward":
        plain["rl"] = {}
    return Recipe.model_validate(plain)


def settings_of(stage: str, keys: dict[str, object]) -> dict[str, Choice]:
    """A stage's settings on 40 rows: several passes where the recipe leaves them open."""
    find = {"sft": sft_settings, "preference": preference_settings, "reward": reward_settings}[stage]
    return find(recipe(stage, **keys), 40)


@pytest.mark.parametrize(
    ("keys", "rows", "patience", "every"),
    [
        ({}, 260, "off", None),  # one pass
        ({}, 40, 2, 10),  # four passes of ten updates
        ({"epochs": 4}, 40, "off", None),
        ({"epochs": 2, "early_stopping": 3}, 40, 3, 5),  # four looks in twenty updates
        ({"early_stopping": "off"}, 40, "off", None),
        ({"epochs": 2, "evaluate_every": 7}, 40, 2, 7),
    ],
)
def test_when_sft_stops_early(keys: dict[str, object], rows: int, patience: object, every: int | None) -> None:
    choices = sft_settings(recipe(**keys), rows)
    assert choices["early_stopping"].value == patience
    assert (choices["evaluate_every"].value if "evaluate_every" in choices else None) == every


@pytest.mark.parametrize("stage", ["sft", "preference", "reward"])
def test_looks_without_rows_are_refused_where_the_recipe_asks_for_them(stage: str) -> None:
    asked, plain = settings_of(stage, {"early_stopping": 3, "epochs": 4}), settings_of(stage, {})
    with pytest.raises(TrainingError, match=rf"{stage}\.early_stopping: there is no row"):
        looked(stage, asked, 0)
    with pytest.raises(TrainingError, match=rf"{stage}\.early_stopping: there is no row"):
        looked(stage, settings_of(stage, {"evaluate_every": 3}), 0)
    assert looked(stage, asked, 1) == asked  # as asked for
    assert plain["early_stopping"].value == 2 and looked(stage, plain, FEWEST) == plain
    few = looked(stage, plain, FEWEST - 1)
    assert "evaluate_every" not in few and few["early_stopping"].value == "off"
    assert few["early_stopping"].why == f"auto: {FEWEST - 1} unseen rows are too few to choose by"
    off = settings_of(stage, {"early_stopping": "off"})
    assert looked(stage, off, 0) == off


def test_rows_that_nothing_looks_at_are_not_left_out() -> None:
    plain, off = settings_of("reward", {}), settings_of("reward", {"early_stopping": "off"})
    assert watched("reward", plain, 100, FEWEST) and not watched("reward", plain, 100, FEWEST - 1)
    assert not watched("reward", off, 100, 20) and watched("reward", off, 20_000, 20)  # its probe judges on them
    assert not watched("reward", {**off, "learning_rate": Choice(1e-3, "recipe")}, 20_000, 20)
    assert not watched("reward", settings_of("reward", {"early_stopping": 2, "epochs": 2}), 100, 0)


def test_an_interval_without_a_use_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluate_every has no use"):
        recipe(early_stopping="off", evaluate_every=3)


def test_what_is_held_out_is_the_mean_loss_without_a_gradient(tmp_path: Path) -> None:
    loop = replace(loop_of(tmp_path, looks([])), held_out=None)
    found = loop.objective.value([Tree([1], (Answer([2, 3], [1.0, 0.5]),))])
    assert found == {"loss": pytest.approx(9.0), "likelihood": pytest.approx(9.0)}
    assert loop.parameters["v"].grad is None
