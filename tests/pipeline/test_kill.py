"""SIGKILL from outside, to the whole process group, at random moments: what comes out is bit-equal.

Sft, reward and rl are one turn; each preference method is a turn of its own. A few moments in every run of the tests,
twenty for each method by hand.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.store import open_store

KILLS = 20
LOOKS = "early_stopping = 4\nevaluate_every = 2"
CHAINS = (  # layers that the policy shares with its reference, answers that pairs share
    ("[feedback]", "[adapt]\nlayers = 1\n\n[feedback]\nanswers = 4"),
    ("pairs = 60", "pairs = 180"),
)
SLOWER = (("epochs = 2", "epochs = 8"), ("updates = 4", "updates = 8"), ("epochs = 1", f"epochs = 4\n{LOOKS}"))


def start(recipe: Path) -> subprocess.Popen[bytes]:
    """`burnish run` (`burnish train` for preferences) in a process group of its own, with one thread."""
    verb = "train" if "[preference]" in recipe.read_text() else "run"
    command = [sys.executable, "-c", "from burnish.cli import main; main()", verb, str(recipe)]
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


def preferring(recipe: Path, table: str) -> None:
    """Put a preference stage on a file of pairs in the place of [reward] and [rl]."""
    rows = [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()[:48]]
    pairs = [{"messages": row["messages"][:-1], "chosen": "Of course.", "rejected": "No, no, no."} for row in rows]
    (recipe.parent / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    prompts = 'prompts = "prompts.jsonl"\n'
    text = recipe.read_text().partition("[reward]")[0].replace(prompts, prompts + 'preferences = "pairs.jsonl"\n')
    recipe.write_text(text + f"[preference]\nlearning_rate = 5e-3\nepochs = 4\n{LOOKS}\n{table}")


def method_of(recipe: Path, method: str) -> None:
    """The tiny recipe with one way to learn after sft, and steps enough for a kill to hit them.

    "chains" is rl of the last layer, under a reward from four answers a prompt.
    """
    if method not in ("rl", "chains"):
        preferring(recipe, f'method = "{method}"\n')
        return
    text = recipe.read_text()
    for old, new in (*SLOWER, *(CHAINS if method == "chains" else ())):
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text)


def kills_change_nothing(recipe: Path, whole: Path, kills: int) -> None:
    """So many SIGKILLs at random moments of the command, and the records of one that ran through."""
    shutil.copytree(recipe.parent, whole)
    began = time.monotonic()
    finish(whole / recipe.name)
    length = time.monotonic() - began
    moments = random.Random(7)
    for _ in range(kills):  # a fresh store whenever a run gets to its end, so that every kill hits a run at work
        process = start(recipe)
        try:
            process.communicate(timeout=moments.uniform(0.15, 0.95) * length)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        assert process.returncode in (0, 1)
        assert tensors(recipe) == tensors(whole / recipe.name)
        shutil.rmtree(recipe.parent / ".burnish")
    finish(recipe)
    assert tensors(recipe) == tensors(whole / recipe.name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("method", "kills"), [("rl", 2), ("chains", 1), ("kto", 1)])
def test_a_few_kills_change_nothing(tiny_project: Path, tmp_path_factory: Any, method: str, kills: int) -> None:
    method_of(tiny_project, method)
    kills_change_nothing(tiny_project, tmp_path_factory.mktemp("whole") / "project", kills)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["rl", "chains", "dpo", "ipo", "hinge", "robust", "simpo", "orpo", "kto"])
def test_twenty_kills_change_nothing(tiny_project: Path, tmp_path_factory: Any, method: str) -> None:
    method_of(tiny_project, method)
    kills_change_nothing(tiny_project, tmp_path_factory.mktemp("whole") / "project", KILLS)
