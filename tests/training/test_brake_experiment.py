"""Two runs of the brake's experiment, cut short: one that is gamed is stopped, one that is healthy is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import brake

    return brake


def test_a_gamed_run_is_stopped_and_a_healthy_one_is_not(experiment, tmp_path: Path) -> None:
    gamed = experiment.run(1001, [*experiment.SHARED, *experiment.OWN], 40, tmp_path / "gamed", to_the_end=False)
    assert gamed.by is not None and gamed.at < 40 and gamed.kept > gamed.end + 1
    healthy = experiment.run(1001, (), 16, tmp_path / "healthy")
    assert healthy.by is None
