"""SIGKILL from outside, to the whole process group, at random moments: what comes out is bit-equal."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from burnish.store import open_store

KILLS = 20
SLOWER = (("epochs = 2", "epochs = 8"), ("updates = 4", "updates = 8"))


def start(recipe: Path) -> subprocess.Popen[bytes]:
    """`burnish run` in a process group of its own, with one thread."""
    command = [sys.executable, "-c", "from burnish.cli import main; main()", "run", str(recipe)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_DYNAMIC": "false", "BURNISH_CACHE": str(recipe.parent)}
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(recipe: Path) -> None:
    process = start(recipe)
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (0, 1), errors.decode()[-2000:]


def tensors(recipe: Path) -> dict[str, str]:
    """The hash of every trained artifact: adapters by stage, reward head and adapter."""
    store = open_store(recipe.parent / ".burnish")
    versions = {r.name or r.id: str(r.body["adapter"]) for r in store.records("tiny", "version")}
    rewards = {f"reward {i}": str(r.body["reward"]) for i, r in enumerate(store.records("tiny", "reward"))}
    assert not store.verify().problems
    return versions | rewards


@pytest.mark.timeout(900)
def test_twenty_kills_change_nothing(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = tiny_project.read_text()
    for old, new in SLOWER:
        assert old in text
        text = text.replace(old, new)
    tiny_project.write_text(text)
    whole = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(tiny_project.parent, whole)
    began = time.monotonic()
    finish(whole / tiny_project.name)
    length = time.monotonic() - began

    moments = random.Random(7)
    for _ in range(KILLS):  # a fresh copy whenever a run gets to its end, so that every kill hits a run at work
        process = start(tiny_project)
        try:
            process.communicate(timeout=moments.uniform(0.15, 0.95) * length)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        assert process.returncode in (0, 1)
        assert tensors(tiny_project) == tensors(whole / tiny_project.name)
        shutil.rmtree(tiny_project.parent / ".burnish")
    finish(tiny_project)
    assert tensors(tiny_project) == tensors(whole / tiny_project.name)
