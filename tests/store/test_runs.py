"""The log of a running stage, and the lock of a run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import StoreError
from burnish.store import RunLog, Store
from store.samples import version, work


def test_lines_come_back_in_order(store: Store) -> None:
    folder = store.work_folder(work())
    log = RunLog(folder)
    log.log(1, loss=2.5, note="warm")
    RunLog(folder).log(2, loss=2.25, by_group=[1, 2])
    lines = store.metrics(folder)
    assert [{key: line[key] for key in line if key != "at"} for line in lines] == [
        {"step": 1, "loss": 2.5, "note": "warm"},
        {"step": 2, "loss": 2.25, "by_group": [1, 2]},
    ]
    assert store.metrics(version(store)) == lines
    assert store.metrics(store.path / "runs" / "none") == []


def test_a_number_that_is_not_finite_is_spelled_and_never_left_out(tmp_path: Path) -> None:
    RunLog(tmp_path).log(1, loss=math.nan, low=-math.inf, inner={"high": [math.inf]})
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["loss"], line["low"], line["inner"]) == ("nan", "-inf", {"high": ["inf"]})
    assert RunLog.read(tmp_path)[0]["loss"] == "nan"


def test_half_a_line_of_a_killed_process_spoils_no_other(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.log(1, loss=2.0)
    log.log(2, loss=1.0)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    RunLog(tmp_path).log(2, loss=1.5)
    assert [(line["step"], line["loss"]) for line in RunLog.read(tmp_path)] == [(1, 2.0), (2, 1.5)]


HOLDER = """
import sys, time
from pathlib import Path
from burnish.store import open_store
store = open_store(Path(sys.argv[1]))
with store.run_lock("burnish run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_holds_the_store_until_it_dies_and_others_read_and_write(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    held = rf"held by pid {process.pid} `burnish run` since 2\d\d\d-"
    with pytest.raises(StoreError, match=held), store.run_lock("burnish run"):
        pass
    assert version(store).name == "support@0"
    assert store.verify().problems == []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with store.run_lock("burnish run"):
        pass
    assert not (store.path / "run.holder").exists()


def test_the_lock_is_given_back_by_an_exception(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.run_lock("burnish run"):
        raise KeyboardInterrupt
    with (
        store.run_lock("burnish run"),
        pytest.raises(StoreError, match="held by pid"),
        store.run_lock("burnish run"),
    ):
        pass
