"""Puts each mutation into a copy of the tree, one at a time, and demands that its test turns red.

    python tests/mutations/run.py [name ...]

Exit code 1 where a test stays green, or where the source text of a mutation is no longer found.

This process imports the heavy libraries once, and nothing of Burnish or of its tests but the mutations; for each of
them it forks a child, which runs pytest in the copy. It has one thread and computes nothing, so that forking is safe.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
TESTS = str(ROOT / "tests")
# Not the folder of this file, which Python puts first: a library would take statistics.py there for Python's own.
sys.path[:] = [TESTS, *(entry for entry in sys.path if Path(entry) != Path(__file__).parent)]

from mutations.case import Mutation  # noqa: E402

LIBRARIES = (
    "pytest hypothesis numpy torch transformers.models.llama.modeling_llama transformers.models.auto.modeling_auto "
    "transformers.models.auto.tokenization_auto sqlalchemy.orm alembic.command fastapi.testclient typer rich.console"
)
LOADED_UNDER = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_DYNAMIC": "false", "MKL_DYNAMIC": "false"}
SECONDS = 600  # a test that has not ended by then did not see its mutation


def all_mutations() -> list[Mutation]:
    """Every mutation of every room, in the order of the files."""
    found: list[Mutation] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "case", "run"):
            found += importlib.import_module(f"mutations.{path.stem}").MUTATIONS
    return found


@dataclass(slots=True)
class Trial:
    """A mutation that stands in a tree, and the child that runs its test there; times as modified in nanoseconds."""

    number: int
    mutation: Mutation
    tree: Path
    source: bytes
    modified: int
    child: int
    deadline: float

    def verdict(self) -> str | None:
        """'' where the test turned red, else why the mutation was not seen; None while the test runs."""
        child, status = os.waitpid(self.child, os.WNOHANG)
        if child == 0:
            return None if time.monotonic() < self.deadline else f"no end after {SECONDS} s"
        code = os.waitstatus_to_exitcode(status)
        said = _output(self.tree).read_text(errors="replace")[-300:]
        return {1: "", 0: "the test stays green"}.get(code, f"pytest ended with {code}: {said}")

    def clear(self) -> None:
        """Ends what still runs, and puts the source back with its time, by which compiled files are known."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.child, 0)
        path = self.tree / self.mutation.file
        path.write_bytes(self.source)
        os.utime(path, ns=(self.modified, self.modified))


def start(number: int, mutation: Mutation, tree: Path) -> Trial | tuple[int, str]:
    """The trial of one mutation, begun; or its number, and why it cannot be put in."""
    path = tree / mutation.file
    source, modified = path.read_bytes(), path.stat().st_mtime_ns
    text = source.decode()
    if text.count(mutation.old) != 1:
        return number, f"its text occurs {text.count(mutation.old)} times in {mutation.file}"
    path.write_text(text.replace(mutation.old, mutation.new))
    os.utime(path, (number, number))  # no two mutations of a file share a time: none meets what another compiled
    child = os.fork() or _test(mutation.tests, tree)
    return Trial(number, mutation, tree, source, modified, child, time.monotonic() + SECONDS)


def _test(tests: str, tree: Path) -> NoReturn:
    """In the child: pytest as if started in the tree. Leaves without the parent's clean-up."""
    code = 70
    try:
        os.setsid()
        said = os.open(_output(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)):
            os.dup2(stream, number)
        os.chdir(tree)
        own = [str(tree / "src"), str(tree / "tests")]
        sys.path[:] = [str(tree), *own, *(entry for entry in sys.path if entry != TESTS)]
        os.environ["PYTHONPATH"] = os.pathsep.join(own)
        for name in [name for name in sys.modules if name.partition(".")[0] == "mutations"]:
            del sys.modules[name]
        import pytest

        scratch = f"--basetemp={tree}.scratch"
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", scratch, tests]))
        sys.stdout.flush()
    finally:
        os._exit(code)


def verdicts(mutations: Sequence[Mutation], free: list[Path]) -> Iterator[tuple[int, str]]:
    """The number of each mutation and its verdict, in the order in which tests end, one at a time in each tree."""
    waiting, running = list(enumerate(mutations, 1)), list[Trial]()
    try:
        while waiting or running:
            while waiting and free:
                trial = start(*waiting.pop(0), free[-1])
                if isinstance(trial, Trial):
                    running.append(trial)
                    free.pop()
                else:
                    yield trial
            for trial in list(running):
                why = trial.verdict()
                if why is not None:
                    trial.clear()
                    running.remove(trial)
                    free.append(trial.tree)
                    yield trial.number, why
            time.sleep(0.02)
    finally:
        for trial in running:
            trial.clear()


def main(names: list[str]) -> int:
    """The exit code: 0 where every mutation was seen."""
    os.environ |= LOADED_UNDER
    for library in LIBRARIES.split():
        importlib.import_module(library)
    mutations = [m for m in all_mutations() if not names or any(n in m.name for n in names)]
    missed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a test may leave a process behind
        trees = [_copy(Path(folder) / f"tree-{number}") for number in range(min(os.cpu_count() or 1, 4))]
        for number, why in verdicts(mutations, trees):
            missed += bool(why)
            said = "MISSED" if why else "red"
            print(f"[{number}/{len(mutations)}] {said}  {mutations[number - 1].name}", why, flush=True)
    print(f"{len(mutations) - missed} of {len(mutations)} mutations seen")
    return 1 if missed or not mutations else 0


def _output(tree: Path) -> Path:
    return tree.with_suffix(".said")


def _copy(tree: Path) -> Path:
    ignore = shutil.ignore_patterns(".git", ".venv", "demo", "__pycache__", ".*_cache", ".hypothesis")
    return Path(shutil.copytree(ROOT, tree, ignore=ignore))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
