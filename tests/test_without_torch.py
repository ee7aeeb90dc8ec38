"""Without the training extra: init, check, help and the pages work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = "import sys\nfor name in ('torch', 'transformers', 'safetensors', 'gguf'): sys.modules[name] = None\n"


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCKED + code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rows = ["question,answer"] + [f"Where is parcel {i}?,It left on day {i}. Anything else?" for i in range(80)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    main = "from burnish.cli import main\nmain(['init', '--data', 'rows.csv', '--yes'])"
    assert "next: burnish check" in python(main, tmp_path)
    return tmp_path


def test_check_counts_in_words(project: Path) -> None:
    said = python("from burnish.cli import main\nmain(['check'])", project)
    assert "PyTorch is not installed" in said and "words" in said


def test_the_pages_open(project: Path) -> None:
    code = """
from pathlib import Path
from fastapi.testclient import TestClient
from burnish.pipeline import Project
from burnish.serving.loading import loader
from burnish.serving.service import AnswerService
from burnish.web.app import create_app
from burnish.web.context import Context
project = Project("recipe.toml")
name = project.recipe.name
service = AnswerService(project.store, name, project.recipe, loader(project.store, project.cache))
app = create_app(Context(project.store, name, project.recipe, service, "secret"))
client = TestClient(app, base_url="http://127.0.0.1:8321", headers={"Authorization": "Bearer secret"})
for path in ("/", "/chat", "/compare", "/runs", "/versions"):
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
"""
    python(code, project)
