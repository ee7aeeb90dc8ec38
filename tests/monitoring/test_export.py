"""Figures go out as they were logged: each format is read back by the library that its readers use."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.errors import StoreError
from burnish.monitoring import export
from burnish.records import Json
from burnish.store import RunLog, Work, open_store

NAN, INF = math.nan, math.inf
LOGGED: list[dict[str, Json]] = [
    {"likelihood": 1.0 / 3.0, "tokens": 610, "gradient_norm": 1e-12},
    {"likelihood": NAN, "tokens": 611, "gradient_norm": INF, "samples": ["a", "b"]},
    {"likelihood": 2.5, "tokens": 612, "gradient_norm": -INF, "dev_loss": 2.25, "stopped": "it <b>said</b> so, é"},
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose store holds one run, bot@0; its update 1 was logged, lost in a crash, and logged again."""
    recipe = tmp_path / "bot.toml"
    recipe.write_text('task = "chat"\nbase = "tiny"\n\n[data]\ntrain = "rows.jsonl"\n')
    store = open_store(tmp_path / ".burnish")
    work = Work("version", "sft", 1, {}, (), 0, "bot")
    log = RunLog(store.work_folder(work))
    for step, figures in ((0, LOGGED[0]), (1, {**LOGGED[1], "likelihood": 9.0}), (1, LOGGED[1]), (2, LOGGED[2])):
        log.log(step, **figures)
    store.once(work, lambda: {"stage": "sft"})
    store.close()
    monkeypatch.chdir(tmp_path)
    return recipe


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["metrics", *arguments])
    said = capsys.readouterr()
    return int(leaving.value.code or 0), said.out, said.err


def same(found: object, logged: object) -> bool:
    """Equal to the last bit, NaN and the sign of infinity included."""
    return repr(found) == repr(logged)


def test_jsonl_is_the_log_with_one_line_for_each_update(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "bot@0")
    lines = [
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) for line in out.split("\n")[:-1]
    ]
    assert code == 0 and [line["step"] for line in lines] == [0, 1, 2]
    assert lines[0]["likelihood"] == 1.0 / 3.0 and lines[0]["gradient_norm"] == 1e-12
    assert lines[1]["likelihood"] == "nan" and lines[1]["gradient_norm"] == "inf" and lines[1]["samples"] == ["a", "b"]
    assert lines[2]["gradient_norm"] == "-inf" and "dev_loss" not in lines[0]
    assert command(capsys, "bot@0", "--out", "deep/in/run.jsonl")[1] == "3 updates of bot@0 in deep/in/run.jsonl\n"
    assert Path("deep/in/run.jsonl").read_text() == out
    assert [path.name for path in Path("deep/in").iterdir()] == ["run.jsonl"]  # nothing temporary stays


def test_a_look_after_the_last_update_is_exported_and_no_update(tmp_path: Path) -> None:
    lines = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}, {"step": 2, "held_out": 1.5, "stopped": "enough"}]
    assert export.export(lines, "jsonl", tmp_path / "run.jsonl") == 2
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 3


def test_csv_has_a_column_for_every_figure(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "bot@0", "--format", "csv", "--out", "run.csv")[0] == 0
    with Path("run.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "at", "likelihood", "tokens", "gradient_norm", "samples", "dev_loss", "stopped"]
    for row, logged in zip(rows, LOGGED, strict=True):
        for name in ("likelihood", "gradient_norm"):
            assert same(float(row[name]), logged[name]), name
        assert row["dev_loss"] == ("2.25" if "dev_loss" in logged else "")  # absent is not NaN
    assert rows[1]["samples"] == '["a", "b"]' and rows[2]["stopped"] == LOGGED[2]["stopped"]


def test_parquet_keeps_types_nan_and_what_is_absent(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    assert command(capsys, "bot@0", "--format", "parquet", "--out", "run.parquet")[0] == 0
    table = parquet.read_table("run.parquet")
    kinds = {name: table.schema.field(name).type for name in table.column_names}
    assert kinds["step"] == kinds["tokens"] == pyarrow.int64() and kinds["at"] == kinds["samples"] == pyarrow.string()
    assert kinds["likelihood"] == kinds["gradient_norm"] == kinds["dev_loss"] == pyarrow.float64()
    for name in ("likelihood", "gradient_norm", "tokens"):
        assert same(table[name].to_pylist(), [logged[name] for logged in LOGGED]), name
    assert table["dev_loss"].to_pylist() == [None, None, 2.25] and table["step"].to_pylist() == [0, 1, 2]
    assert table["samples"].to_pylist() == [None, '["a", "b"]', None]


def test_tensorboard_reads_every_scalar_at_its_update(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert command(capsys, "bot@0", "--format", "tensorboard", "--out", "board")[0] == 0
    found = EventAccumulator("board").Reload()
    assert set(found.Tags()["scalars"]) == {"likelihood", "tokens", "gradient_norm", "dev_loss"}
    for name in ("likelihood", "tokens", "gradient_norm"):
        events = found.Scalars(name)
        assert [event.step for event in events] == [0, 1, 2]
        for event, logged in zip(events, LOGGED, strict=True):
            wanted = logged[name]
            equal = event.value == pytest.approx(wanted, rel=1e-6, abs=0, nan_ok=True)  # scalars of 32 bits
            assert equal, (name, event, wanted)
    assert [(event.step, event.value) for event in found.Scalars("dev_loss")] == [(2, 2.25)]
    code, _, err = command(capsys, "bot@0", "--format", "tensorboard", "--out", "board")
    assert code == 2 and "holds TensorBoard's events already" in err


@pytest.mark.parametrize(
    ("format", "module", "extra"), [("parquet", "pyarrow", "parquet"), ("tensorboard", "tensorboardX", "tensorboard")]
)
def test_an_extra_that_is_missing_is_said_in_one_message(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    module: str,
    extra: str,
) -> None:
    monkeypatch.setattr("burnish.monitoring.export.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = command(capsys, "bot@0", "--format", format, "--out", "place")
    assert (code, out) == (2, "") and f"needs {module}" in err and f"burnish[{extra}]" in err
    assert not Path("place").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bot@7"], 'there is no run "bot@7"'),
        (["../../etc"], "name one of bot@0"),
        (["bot@0", "--format", "xml"], "xml"),
        (["bot@0", "--format", "parquet"], "does not go to standard output"),
        (["bot@0", "--out", "."], "it is a folder"),
        (["bot@0", "--out", "bot.toml/run.jsonl"], "the figures cannot be written"),
    ],
)
def test_a_mistake_is_exit_2(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, out, err = command(capsys, *arguments)
    assert code == 2 and said in err and not out and "Traceback" not in err


def test_a_file_that_cannot_be_replaced_leaves_the_old_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.csv"
    out.write_text("old")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("no space left")))
    rows: list[Mapping[str, Json]] = [{"step": 0, "at": "2026-01-01T00:00:00+00:00", "likelihood": 1.0}]
    with pytest.raises(StoreError, match="no space left"):
        export.export(rows, "csv", out)
    assert out.read_text() == "old" and not list(tmp_path.glob("run.csv.*"))
