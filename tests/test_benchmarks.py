"""Every script in benchmarks/ still finds what it takes from the package; what they measure is not for tests."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
PEER = {"trl_side"}  # imports the peer, which is in an environment of its own
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PEER)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_finds_its_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    assert importlib.import_module(name).__doc__
