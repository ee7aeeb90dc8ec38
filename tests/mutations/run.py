"""Puts each mutation into a copy of the tree, one at a time, and demands that its test turns red.

    python tests/mutations/run.py [name ...]

Exit code 1 where a test stays green, or where the source text of a mutation is no longer found.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mutations.case import Mutation  # noqa: E402


def all_mutations() -> list[Mutation]:
    """Every mutation of every room, in the order of the files."""
    found: list[Mutation] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "case", "run"):
            found += importlib.import_module(f"mutations.{path.stem}").MUTATIONS
    return found


def test_sees(mutation: Mutation, tree: Path) -> str | None:
    """None where the test turns red, else why the mutation was not caught."""
    path = tree / mutation.file
    source = path.read_text()
    if source.count(mutation.old) != 1:
        return f"its text occurs {source.count(mutation.old)} times in {mutation.file}"
    path.write_text(source.replace(mutation.old, mutation.new))
    try:
        environment = os.environ | {"PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree / 'tests'}"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutation.tests]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600)
    finally:
        path.write_text(source)
    if done.returncode == 1:
        return None
    return (
        "the test stays green" if done.returncode == 0 else f"pytest ended with {done.returncode}: {done.stdout[-300:]}"
    )


def main(names: list[str]) -> int:
    """The exit code: 0 where every mutation was seen."""
    mutations = [m for m in all_mutations() if not names or any(n in m.name for n in names)]
    workers = min(os.cpu_count() or 1, 4)
    missed = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        trees: Queue[Path] = Queue()
        for number in range(workers):
            trees.put(_copy(Path(folder) / f"tree-{number}"))

        def seen(mutation: Mutation) -> str | None:
            tree = trees.get()
            try:
                return test_sees(mutation, tree)
            finally:
                trees.put(tree)

        for number, (mutation, why) in enumerate(zip(mutations, pool.map(seen, mutations), strict=True), 1):
            missed += why is not None
            said = "red" if why is None else "MISSED"
            print(f"[{number}/{len(mutations)}] {said}  {mutation.name}", why or "", flush=True)
    print(f"{len(mutations) - missed} of {len(mutations)} mutations seen")
    return 1 if missed or not mutations else 0


def _copy(tree: Path) -> Path:
    ignore = shutil.ignore_patterns(".git", ".venv", "demo", "__pycache__", ".*_cache", ".hypothesis")
    return Path(shutil.copytree(ROOT, tree, ignore=ignore))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
