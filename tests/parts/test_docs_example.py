"""What docs/how-to/own-parts.md shows is taken from its text and run: it cannot rot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import PartError
from burnish.objectives.own import own_contract, own_method, own_token_contract
from burnish.parts import Part, credit_contract, examples_of, load, score_contract
from burnish.records import Message, Row

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-parts.md"
LOSS, ITS_TEST, TOKENS, METRIC, REWARD, CREDIT = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
ROWS = [Row((Message("user", "Where is it?"),), "Please wait." if n % 2 else None, n) for n in range(1, 5)]


def part(folder: Path, text: str, function: str) -> Part:
    (folder / "mine.py").write_text(text)
    return load([f"mine:{function}"], folder)[f"mine:{function}"]


def test_the_loss_is_short_and_keeps_every_contract(tmp_path: Path) -> None:
    method = own_method(part(tmp_path, LOSS, "loss"))
    assert len(LOSS.splitlines()) <= 30
    assert method.defaults == {"beta": 0.1, "gamma": 5.0, "label_smoothing": 0.0, "sft": 0.0}
    kept = own_contract(part(tmp_path, LOSS, "loss"), {"beta": 0.2})
    said = " ".join(PAGE.read_text().split())
    assert f": {', '.join(kept)}: kept" in said
    assert all(f"| {contract} |" in said for contract in kept)


@pytest.mark.parametrize(("old", "code"), [("", 0), ("gamma * F.relu(-c)", 1)])
def test_its_test_passes_and_can_fail(tmp_path: Path, old: str, code: int) -> None:
    (tmp_path / "mine.py").write_text(LOSS.replace(old, "0") if old else LOSS)
    (tmp_path / "test_mine.py").write_text(ITS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout


def test_the_loss_of_tokens_keeps_all_but_finite_differences(tmp_path: Path) -> None:
    kept = own_token_contract(part(tmp_path, TOKENS, "loss"))
    assert len(kept) == 5 and "left out" in kept[-1]
    with pytest.raises(PartError, match="finite differences"):
        own_token_contract(part(tmp_path, TOKENS.replace("True", "False"), "loss"))


@pytest.mark.parametrize(("text", "name"), [(METRIC, "politeness"), (REWARD, "score")])
def test_the_scores_keep_their_contracts(tmp_path: Path, text: str, name: str) -> None:
    kept = score_contract(part(tmp_path, text, name), examples_of(ROWS))
    assert all(f"**{contract}**" in PAGE.read_text() for contract in kept)


def test_the_credit_keeps_its_contracts(tmp_path: Path) -> None:
    kept = credit_contract("mine:advantages", part(tmp_path, CREDIT, "advantages"))
    said = " ".join(PAGE.read_text().split())
    assert all(f"**{contract}**" in said for contract in kept if "group of one" not in contract)
