"""The shape of the house: who may import whom, how long things may be, and that nothing is undocumented or unread."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "burnish"
ORDER = """
    errors records config parts progress store statistics feedback objectives data models sampling tasks rewards
    evaluation training registry monitoring serving recipes pipeline web cli
""".split()
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = {"store/migrations/versions/0001_first.py:upgrade"}
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> set[str]:
    """Names of the rooms that a module imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "burnish":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("burnish.")}
    return found - {"__version__", "Project"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_file_keeps_the_order_and_its_size(path: Path) -> None:
    text = path.read_text()
    name = str(path.relative_to(SOURCE))
    tree = ast.parse(text)
    room = room_of(path)
    if room != "__init__":
        assert room in ORDER, f"{room} is no room of the house"
        later = {r for r in imports_of(tree) if r not in ORDER or ORDER.index(r) > ORDER.index(room)}
        assert not later, f"{name} imports from later rooms: {sorted(later)}"
    assert len(text.splitlines()) <= 400 or name in LONG_FILES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60 or f"{name}:{node.name}" in LONG_FUNCTIONS, f"{name}:{node.name} has {length} lines"


def test_every_key_of_the_recipe_is_read_somewhere() -> None:
    from burnish import config

    text = "\n".join(p.read_text() for p in FILES if room_of(p) != "config")
    unread = [name for name, *_ in config.describe() if not re.search(rf"\.{name.split('.')[-1]}\b", text)]
    assert not unread, f"keys that nothing reads: {unread}"


def test_every_key_of_the_recipe_is_documented() -> None:
    from burnish import config

    page = (ROOT / "docs" / "reference" / "recipe.md").read_text()
    missing = [name for name, *_ in config.describe() if f"`{name}`" not in page]
    assert not missing


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from burnish.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'sqlalchemy', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_large_file_and_no_weights_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.is_file():
            assert path.stat().st_size <= 1_000_000, f"{name} is over 1 MB"
            assert path.suffix not in {".safetensors", ".bin", ".pth", ".pt", ".gguf", ".pkl"}, name


def test_every_public_objective_has_a_test_with_numbers() -> None:
    text = "\n".join(p.read_text() for p in (ROOT / "tests" / "objectives").glob("test_*.py"))
    for path in (SOURCE / "objectives").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert re.search(rf"\b{node.name}\(", text), f"objectives.{node.name} has no test"
