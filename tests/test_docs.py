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
    """By the name under which it is logged: the loop's and the rollouts' keys, each term, each term's metrics."""
    from burnish.evaluation.metrics import METRICS

    defined = set(re.findall(r"`([^`]+)`", (REFERENCE / "metrics.md").read_text()))
    names = set(METRICS) | _keys("training/loop.py", "update") | _keys("training/rollouts.py", "collect", "held_out")
    names |= _keys("training/measured.py", "figures") | _keys("training/plan.py", "lesson")
    terms, metrics = _terms_and_metrics()
    assert {"likelihood", "kto", "mismatch"} <= terms and {"margin", "point", "kl"} <= metrics  # the search finds some
    missing = {name for name in names | terms if name not in defined}
    missing |= {name for name in metrics if not any(f"{term}/{name}" in defined for term in terms)}
    assert not missing, sorted(missing)


def test_every_figure_that_a_chart_knows_is_defined() -> None:
    from burnish.progress import TELLING
    from burnish.web.charts import KNOWN

    page = (REFERENCE / "metrics.md").read_text()
    assert not [key for key in (*TELLING, *(key for panel in KNOWN for key in panel.keys)) if f"`{key}`" not in page]


def _keys(file: str, *functions: str) -> set[str]:
    """The constant keys of dictionaries in these functions of a file, and those that are set on ``figures``."""
    tree = ast.parse((ROOT / "src" / "burnish" / file).read_text())
    wanted = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in functions]
    assert wanted, f"{file} has no {functions}"
    nodes = [node for function in wanted for node in ast.walk(function)]
    return {key for node in nodes for key in _constants(node) | _set_on_figures(node)}


def _set_on_figures(node: ast.AST) -> set[str]:
    """The constant key of ``figures[key] = ...``."""
    at = node.targets[0] if isinstance(node, ast.Assign) else None
    named = isinstance(at, ast.Subscript) and isinstance(at.value, ast.Name) and at.value.id == "figures"
    return {at.slice.value} if named and isinstance(at.slice, ast.Constant) else set()


def _terms_and_metrics() -> tuple[set[str], set[str]]:
    """The names of all terms, and of the metrics that their losses return, wherever they are written."""
    terms: set[str] = set()
    metrics: set[str] = set()
    for path in (*(ROOT / "src/burnish/objectives").glob("*.py"), *(ROOT / "src/burnish/training").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "Term" and isinstance(node.args[0], ast.Constant):
                    terms.add(node.args[0].value)
                if node.func.id == "TermResult":
                    metrics |= {key for argument in node.args for key in _constants(argument)}
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id in ("metrics", "rewards") for target in node.targets
            ):
                metrics |= _constants(node.value)
    return terms, metrics


def _constants(node: ast.AST) -> set[str]:
    """The constant keys of a dictionary; none where the node is no dictionary."""
    if not isinstance(node, ast.Dict):
        return set()
    return {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


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
