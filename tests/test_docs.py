"""Docs that fail like code."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"


def test_the_generated_pages_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [path.name for path, text in generate.pages().items() if not path.exists() or path.read_text() != text]
    assert not stale, f"run make docs: {stale}"


def test_every_logged_figure_is_defined() -> None:
    """Figures of the step loop, of rollouts and of terms, by the keys in their source."""
    page = (REFERENCE / "metrics.md").read_text()
    names: set[str] = set()
    for file, functions in (
        ("training/loop.py", {"update"}),
        ("training/rollouts.py", {"_figures"}),
        ("objectives/terms.py", None),
    ):
        for node in ast.walk(ast.parse((ROOT / "src" / "burnish" / file).read_text())):
            if not isinstance(node, ast.FunctionDef) or (functions and node.name not in functions):
                continue
            for inner in ast.walk(node):
                if isinstance(inner, ast.Dict):
                    names |= {k.value for k in inner.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)}
    from burnish.evaluation.metrics import METRICS

    missing = sorted(name for name in names | set(METRICS) if f"`{name}`" not in page)
    assert names and not missing, missing


def test_every_route_is_documented() -> None:
    page = (REFERENCE / "http.md").read_text()
    routes: set[str] = set()
    for file in ("serving/openai.py", "web/pages.py", "web/security.py"):
        routes |= set(re.findall(r"[({]\"(/[^\" ]*)\"", (ROOT / "src/burnish" / file).read_text()))
    missing = sorted(route for route in routes if f"`{route}`" not in page)
    assert routes and not missing, missing


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_repository_speaks_of_itself_alone() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]:
        text = path.read_text()
        assert "/work/" not in text and "/root/" not in text, path
