"""Every script in benchmarks/ still finds what it takes from the package; what they measure is not for tests."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
PEER = {"trl_side"}  # imports the peer, which is in an environment of its own
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PEER)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_finds_its_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")  # "training" is a folder of tests too
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.__doc__
