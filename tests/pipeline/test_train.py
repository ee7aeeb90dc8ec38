"""`burnish train` and `burnish prepare`: the stages of a turn alone, and what an interruption keeps."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.cli.terminal import Panel, curve
from burnish.pipeline import Project
from burnish.progress import Plain, Silent, in_words
from burnish.store import RunLog
from burnish.training.loop import Loop


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return int(leaving.value.code or 0), said.out, said.err


def test_the_stages_are_trained_and_nothing_is_judged(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, "train", str(tiny_project))
    assert code == 0, err
    project = Project(tiny_project, progress=Silent())
    kinds = {record.kind for record in project.store.records("tiny")}
    assert kinds == {"dataset", "version", "start", "campaign", "snapshot", "reward"} and project.production() is None
    for said in ("sft: tiny@1", "reward: reward-", "rl: tiny@2", "learning_rate 0.005", "loss ", "/runs/"):
        assert said in out
    code, out, _ = command(capsys, "train", str(tiny_project), "--stage", "reward", "--json")
    found = json.loads(out)
    assert code == 0 and list(found["stages"]) == ["sft", "reward"] and found["state"] == "trained"
    assert found["stages"]["sft"]["name"] == "tiny@1" and found["stages"]["sft"]["figures"]["learning_rate"] > 0
    assert project.store.metrics(project.store.record("tiny@1"))[0]["loss"] > 0
    project.store.close()


def test_an_interruption_keeps_the_checkpoint_and_says_so(
    tiny_project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Loop.update

    def stopped_at(moment: int) -> None:
        def until(self: Loop, step, trees):  # type: ignore[no-untyped-def]
            if step == moment:
                raise KeyboardInterrupt
            return update(self, step, trees)

        monkeypatch.setattr(Loop, "update", until)

    stopped_at(5)
    code, out, err = command(capsys, "train", str(tiny_project), "--stage", "sft")
    assert (code, out) == (130, "") and "supervised fine-tuning had no checkpoint yet and starts anew" in err
    stopped_at(11)
    code, out, err = command(capsys, "train", str(tiny_project), "--stage", "sft")
    assert (code, out) == (130, "")
    last = err.strip().splitlines()[-1]
    assert "the checkpoint of supervised fine-tuning after 8 of its 11 updates is kept" in last
    assert f"`burnish train {tiny_project}` goes on from there" in last
    (log,) = (tiny_project.parent / ".burnish" / "runs").glob("*/metrics.jsonl")
    before = len(RunLog.read(log.parent))
    monkeypatch.setattr(Loop, "update", update)
    code, out, err = command(capsys, "train", str(tiny_project), "--stage", "sft")
    assert code == 0 and "sft update 8 of " in err and " is kept: it goes on from there" in err
    assert RunLog.read(log.parent)[before]["step"] == 8


def test_people_who_have_not_voted_yet_are_waited_for(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tiny_project.read_text().replace('simulate = "support-desk"\n', "").replace('"simulated", ', "")
    tiny_project.write_text(text.replace("pairs = 60", "pairs = 4"))
    code, out, _ = command(capsys, "train", str(tiny_project), "--stage", "reward")
    assert code == 0 and "sft: tiny@1" in out and "waiting for feedback: 0 of 40" in out
    assert "then `burnish train` goes on" in out


def test_a_stage_that_the_recipe_has_not_is_exit_2(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tiny_project.read_text()
    tiny_project.write_text(text[: text.index("[reward]")])
    code, _, err = command(capsys, "train", str(tiny_project), "--stage", "rl")
    assert code == 2 and "trains no rl stage" in err and "add the table [rl]" in err
    code, _, err = command(capsys, "train", str(tiny_project), "--stage", "evaluation")
    assert code == 2 and "--stage" in err


def test_prepare_makes_the_dataset_alone(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "prepare", str(tiny_project))
    assert code == 0 and "50 dev, 20 prompts, 60 test, 96 train rows, 0 left out" in out
    project = Project(tiny_project, progress=Silent())
    (dataset,) = project.store.records("tiny")
    assert out.startswith(f"{dataset.id}: ") and project.prepare().id == dataset.id
    project.store.close()


FIGURES = {"loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.75, "tokens_per_second": 1450.2, "likelihood": 2.5}


def test_the_panel_shows_figures_bar_and_time_left() -> None:
    from rich.console import Console

    text = StringIO()
    panel = Panel(Console(file=text, force_terminal=True, width=80, color_system=None))
    panel.update("sft update", 1, 40, FIGURES)
    panel.update("sft update", 2, 40, FIGURES | {"loss": float("nan"), "dev_loss": 3.5})
    panel.say("a line with [markup] in it")
    panel._live.refresh()
    shown = text.getvalue()
    for part in ("sft update", "2/40", "left", "a line with [markup] in it", "tokens/s", "1,450", "gradient norm"):
        assert part in shown, part
    assert any("nan" in line and "▁×" in line for line in shown.splitlines())
    panel.update("sft update", 40, 40, FIGURES)
    assert "sft update 40/40: loss 2.5, learning rate 0.001" in text.getvalue()
    assert text.getvalue().rfind("\x1b[?25h") > text.getvalue().rfind("\x1b[?25l")  # the cursor is back


def test_a_curve_never_draws_over_what_is_not_finite() -> None:
    assert curve([1.0, "nan", 3.0, float("inf"), 2.0]) == "▁×█×▅"
    assert curve([2.0, 2.0]) == "▁▁" and curve([]) == ""


def test_plain_lines_say_the_telling_figures(capsys: pytest.CaptureFixture[str]) -> None:
    Plain(every=0).update("sft update", 3, 40, FIGURES)
    said = "loss 2.5, learning rate 0.001, gradient norm 0.75, tokens/s 1,450"
    assert capsys.readouterr().err == f"  sft update 3/40 {said}\n"
    assert in_words({"loss": float("nan")}) == "loss nan" and in_words("12 votes") == "12 votes"
