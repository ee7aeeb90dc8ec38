"""Whatever a file holds, reading it returns rows or raises DataError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from burnish.data.read import read_rows
from burnish.errors import DataError
from burnish.recipes.init import inspect, write_clean
from burnish.records import Row

CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
NAMES = ("rows.jsonl", "rows.json", "rows.csv", "rows.clean.jsonl")
words = st.sampled_from(
    (
        "messages",
        "role",
        "content",
        "user",
        "assistant",
        "prompt",
        "completion",
        "answer",
        "row",
        "x",
        "weight",
        "chosen",
        "rejected",
        "margin",
        "label",
        "input",
        "preferred_output",
        "non_preferred_output",
    )
)
words = words | st.text(max_size=3)
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def check(path: Path) -> None:
    for wanted in ("answers", "prompts", "preferences"):
        try:
            reading = read_rows(path, wanted=wanted)
        except DataError as error:
            assert str(path) in str(error)
            continue
        assert reading.rows and all(isinstance(row, Row) for row in reading.rows)
        for row in reading.rows:
            assert row.prompt[-1].role == "user" and (row.answer is None) == (wanted == "prompts")
            judged = row.rejected is not None or row.label is not None
            assert (judged == (wanted == "preferences") and row.answer != row.rejected) or wanted == "prompts"
            "".join(m.content for m in row.prompt).encode()
        assert len({row.number for row in reading.rows}) == len(reading.rows)
    try:
        found = inspect(path)
    except DataError:
        return
    for made in path.parent.glob("*.rejected.jsonl"):
        made.unlink()
    if found.rejected and not path.name.endswith(".clean.jsonl"):
        path.with_name("rows.clean.jsonl").unlink(missing_ok=True)
        again = read_rows(write_clean(found))
        assert again.rows == found.rows and not again.dropped


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=80))
@example(data=b"\xef\xbb\xbf")
@example(data=b'{"prompt":\n')
@example(data=b'prompt,answer\n"')
@CALM
def test_any_bytes(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    check(tmp_path / name)


@pytest.mark.parametrize("name", NAMES[:2] + NAMES[3:])
@given(items=st.lists(value, max_size=4))
@CALM
def test_any_json(tmp_path: Path, name: str, items: list[object]) -> None:
    (tmp_path / name).write_text("\n".join(map(json.dumps, items)))
    check(tmp_path / name)
    (tmp_path / name).write_text(json.dumps({"data": items}, indent=1))
    check(tmp_path / name)


@given(table=st.lists(st.text(st.sampled_from('a,;\t|"\n\r é\ufeff'), max_size=20), max_size=6))
@CALM
def test_any_csv(tmp_path: Path, table: list[str]) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\n" + "\n".join(table), newline="")
    check(tmp_path / "rows.csv")
