"""Two processes over gloo take the step that one takes; what stops one of them stops both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from burnish.training.workers import Workers
from training import worker


@pytest.fixture(scope="module")
def made(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one process and of two, which ran the same windows."""
    alone, both = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("both")
    command = [sys.executable, worker.__file__]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(both / "meeting"), str(tiny_model_folder), str(both)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    torch.set_num_threads(1)
    worker.work(Workers(), tiny_model_folder, alone)
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
    return alone, both


def said(folder: Path, rank: int) -> dict[str, Any]:
    return dict(json.loads((folder / f"said-{rank}.json").read_text()))


@pytest.mark.parametrize("window", list(worker.WINDOWS))
def test_two_workers_have_the_gradient_of_one(made: tuple[Path, Path], window: str) -> None:
    alone, both = made
    expected = load_file(alone / f"{window}-0.safetensors")
    first, second = (load_file(both / f"{window}-{rank}.safetensors") for rank in range(2))
    assert set(first) == set(expected) and any(name.startswith("gradient/") for name in first)
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        limit = 1e-6 if name.startswith("gradient/") else 1e-4  # Adam divides by the gradient's own size
        assert float((first[name] - value).norm()) <= limit * float(value.norm()) + 1e-9, name


@pytest.mark.parametrize("window", list(worker.WINDOWS))
def test_figures_are_those_of_the_whole_window(made: tuple[Path, Path], window: str) -> None:
    alone, both = made
    expected = said(alone, 0)[window]
    for rank in range(2):
        found = said(both, rank)[window]
        assert found["figures"] == pytest.approx(expected["figures"], rel=1e-5)
        assert found["tokens"] == expected["tokens"]


def test_a_row_that_is_not_finite_on_one_worker_stops_both_and_is_named(made: tuple[Path, Path]) -> None:
    alone, both = made
    assert "look at rows 2;" in said(alone, 0)["poisoned"]
    assert said(both, 0)["poisoned"] == said(both, 1)["poisoned"] == said(alone, 0)["poisoned"]


def test_the_first_worker_alone_writes(made: tuple[Path, Path]) -> None:
    """One line for each update, although two processes made it; the checkpoint says how many they were."""
    lines = (made[1] / "four-rows" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    state = json.loads((made[1] / "four-rows" / "checkpoint" / "state.json").read_text())
    assert state["conditions"]["workers"] == "2"


def test_two_workers_stop_early_together_and_keep_the_best(made: tuple[Path, Path]) -> None:
    """All go by the first worker's figure: one that went by its own would go on for ever."""
    alone, both = made
    expected = said(alone, 0)["stopped early"]["whole"]
    assert expected[1] is not None and "2 looks ago" in expected[1]
    assert said(both, 0)["stopped early"]["whole"] == said(both, 1)["stopped early"]["whole"] == expected


def test_two_workers_that_are_killed_resume_with_the_same_bits(made: tuple[Path, Path]) -> None:
    _, both = made
    for rank in range(2):
        found = said(both, rank)["stopped early"]
        assert found["killed at 2"] and found["killed at 4"] and found["resumed"] == found["whole"]
    first, second = (load_file(both / f"stopped-{rank}.safetensors") for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert torch.equal(value, first[name.replace("resumed/", "whole/")]), name


def test_a_checkpoint_of_one_worker_goes_on_under_two_and_says_so(made: tuple[Path, Path]) -> None:
    alone, both = made
    lines = [
        [line for line in said(folder, rank)["stopped early"]["said"] if "conditions" in line]
        for folder, rank in ((alone, 0), (both, 1), (both, 0))
    ]
    assert lines[:2] == [[], []] and len(lines[2]) == 1
    assert lines[2][0] == "resumed under other conditions, the last bits may differ: run.workers changed 1 -> 2"
