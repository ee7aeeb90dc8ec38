"""The price of a run before it is paid: steps, time and memory, from two updates that leave nothing behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from burnish.config import Adapt
from burnish.errors import TrainingError
from burnish.pipeline import price as room
from burnish.pipeline.preflight import preflight
from burnish.pipeline.price import Price
from burnish.pipeline.project import Project
from burnish.progress import Silent


@pytest.fixture
def project(tiny_project: Path) -> Project:
    return Project(tiny_project, progress=Silent())


def section(check, title: str):
    return next((s for s in check.sections if s.title == title), None)


def test_check_tells_steps_time_and_memory_and_leaves_nothing_behind(project) -> None:
    found = section(preflight(project, timed=True), "price")
    assert found.facts["updates"] > 0 and found.facts["seconds"] > 0
    assert 50e6 < found.facts["peak"] < found.facts["free"]
    assert f"{found.facts['updates']} updates" in found.lines[0] and "it fits" in found.lines[1]
    assert not project.has_store
    assert section(preflight(project), "price") is None


def test_what_does_not_fit_is_said_and_advised_against() -> None:
    cost = Price(updates=10, seconds=7200.0, peak=9_000_000_000, free=8_000_000_000)
    assert cost.fits is False
    assert "it does NOT fit" in cost.lines()[1] and "2.0 hours" in cost.lines()[0]
    assert dataclasses.replace(cost, free=None).fits is None


def test_a_base_that_cannot_be_loaded_is_refused_before_it_is(project, monkeypatch) -> None:
    monkeypatch.setattr(room, "_free", lambda: 1000)
    with pytest.raises(TrainingError, match=r"needs at least .* GB of memory"):
        preflight(project, timed=True)


@pytest.mark.parametrize(
    ("dtype", "method", "bytes_each"),
    [("float32", "lora", 4), ("bfloat16", "lora", 2), ("float32", "full", 20), ("bfloat16", "full", 18)],
)
def test_the_least_memory_is_that_of_the_dtype(project, monkeypatch, dtype: str, method: str, bytes_each: int) -> None:
    monkeypatch.setenv("BURNISH_DTYPE", dtype)
    project.recipe = project.recipe.model_copy(update={"adapt": Adapt(method=method)})
    need = bytes_each * project.resolved_base.parameters
    room._require_room(project, need)
    with pytest.raises(TrainingError, match=r"needs at least .* GB of memory"):
        room._require_room(project, need - 1)
