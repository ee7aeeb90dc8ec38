"""Every mistake at the command line gets one message and exit code 2; never a traceback."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest

from burnish.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return int(leaving.value.code or 0), captured.out + captured.err


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Where is it?", "completion": "On its way."}\n')
    path = tmp_path / "bot.toml"
    path.write_text('task = "chat"\nbase = "no-such-base"\n\n[data]\ntrain = "rows.jsonl"\n')
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["run", "--foo"], "--foo"),
        (["serve", "--port", "abc"], "--port"),
        (["history", "--at", "never"], "--at"),
        (["promote"], "version"),
        (["run", "nowhere.toml"], "there is no recipe at nowhere.toml"),
        (["init"], "init needs your rows or an example"),
        (["init", "--example", "foo"], 'there is no example "foo"'),
        (["init", "--data", "nowhere.csv"], "nowhere.csv"),
        (["repeat", "--seeds", "a,b"], '"a,b" is no list of seeds'),
        (["repeat", "--seeds", "1,1"], "names a seed twice"),
        (["forget", "--where", "foo"], "does not say whose data"),
        (["promote", "bot@9"], 'there is no record "bot@9"'),
        (["lineage", "nothing"], 'there is no record "nothing"'),
        (["run"], "no-such-base"),
        (["metrics", "bot@1", "--format", "xml"], "burnish: Invalid value for '--format': 'xml' is not one of 'jsonl'"),
    ],
)
def test_a_mistake_is_exit_2(recipe: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, text = run(capsys, *arguments)
    assert code == 2 and said in text


def test_a_command_that_stands_for_several_says_which(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "models")
    assert code == 2 and text.startswith("Usage: ") and "import" in text and "burnish:" not in text


def test_a_port_in_use(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run(capsys, "serve", "--port", str(taken.getsockname()[1]))
    assert code == 2 and "is in use" in text and "--port" in text


def test_two_recipes_in_a_folder_must_be_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "other.toml").write_text(recipe.read_text())
    code, text = run(capsys, "check")
    assert code == 2 and "bot.toml, other.toml" in text


def test_a_tuned_recipe_is_taken_only_where_it_is_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = recipe.with_name("bot.tuned.toml")
    tuned.write_text('name = "bot"\n' + recipe.read_text().replace("no-such-base", "the-tuned-base"))
    assert "no-such-base" in run(capsys, "run")[1]
    assert "the-tuned-base" in run(capsys, "run", "bot.tuned.toml")[1]
    recipe.unlink()
    assert run(capsys, "run") == (
        2,
        "burnish: there is no recipe here\n  name one, or make one with `burnish init --data FILE`\n",
    )


def test_our_own_bug_is_exit_70_with_a_report(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.config.load", lambda path: 1 / 0)
    code, text = run(capsys, "check")
    assert code == 70 and "our bug" in text and "ZeroDivisionError" in text
    report = Path(text.split("please report ")[1].strip())
    assert "burnish check" in report.read_text()
    report.unlink()


def test_an_example_is_ready_to_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = run(capsys, "init", "--example", "support", "--folder", "demo")
    assert code == 0 and "demo/support.toml" in text
    assert (tmp_path / "demo" / "train.jsonl").exists()


def test_nobody_there_to_answer_is_no_interrupted_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    Path("rows.csv").write_text("question,answer\nWho?,Me.\nWhat?,That.\n")
    code, text = run(capsys, "init", "--data", "rows.csv", "--folder", "new")
    assert code == 130 and "nothing was done; --yes answers every question" in text and "stages" not in text
    assert not Path("new").exists()
