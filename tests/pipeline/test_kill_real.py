"""One SIGKILL on the packaged 135M model, in the middle of training: the resumed run ends bit-equal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from burnish.store import open_store
from pipeline.conftest import make_project

pytestmark = [pytest.mark.long, pytest.mark.real_model]


def adapters(recipe: Path) -> dict[str, str]:
    store = open_store(recipe.parent / ".burnish")
    return {r.name or r.id: str(r.body["adapter"]) for r in store.records("tiny", "version")}


def run(recipe: Path, cache: Path, kill_after: str | None = None) -> None:
    """`burnish run`; with ``kill_after``, killed as soon as that checkpoint exists, two seconds later."""
    command = [sys.executable, "-c", "from burnish.cli import main; main()", "run", str(recipe)]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "BURNISH_CACHE": str(cache)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while kill_after and process.poll() is None:
        if list((recipe.parent / ".burnish" / "runs").glob(kill_after)):
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.2)
    process.wait()
    assert kill_after or process.returncode in (0, 1)


@pytest.mark.timeout(1800)
def test_one_kill_changes_nothing(tmp_path: Path, real_base) -> None:
    recipe = make_project(tmp_path, real_base.folder)
    text = recipe.read_text().replace("items = 60", "items = 4").replace("epochs = 2", "epochs = 1")
    recipe.write_text(text[: text.index("[reward]")].replace("simulate", "# simulate").replace("sources", "# sources"))
    whole = tmp_path / "whole"
    shutil.copytree(recipe.parent, whole, ignore=shutil.ignore_patterns("whole"))
    run(whole / recipe.name, tmp_path)
    run(recipe, tmp_path, kill_after="*/checkpoint/manifest.json")
    run(recipe, tmp_path)
    assert adapters(recipe) == adapters(whole / recipe.name)
