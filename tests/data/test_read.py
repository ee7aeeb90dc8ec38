"""Every shape is read; every bad file is one clear message with its place and its mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.data.read import Reading, read_rows, require_good
from burnish.errors import DataError
from burnish.records import Message

ASK, SAY = "Where is my parcel?", "Please open the tracking page."
CHAT = {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": SAY}]}


def save(folder: Path, text: str | bytes, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def jsonl(folder: Path, *rows: object) -> Path:
    return save(folder, "".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path, *rows: object, **options: object) -> Reading:
    return read_rows(jsonl(folder, *rows), **options)  # type: ignore[arg-type]


SHAPES = {
    "chat messages": CHAT,
    "chat messages ": {
        "Messages": [{"Role": " USER", "Content": ASK}, {"role": "assistant", "content": SAY, "weight": 1}]
    },
    "ShareGPT conversations": {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]},
    "prompt and completion": {"prompt": ASK, "completion": SAY},
    "prompt and completion ": {"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]},
    "Alpaca": {"instruction": ASK, "input": "", "output": SAY},
    'columns "Question" and "ANSWER"': {" Question ": ASK, "ANSWER": SAY},
    'columns "customer_message" and "Agent Reply"': {"customer_message": ASK, "Agent Reply": SAY},
    'columns "text" and "response"': {"text": ASK, "response": SAY},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_reads_the_shapes_people_have(tmp_path: Path, shape: str) -> None:
    reading = read(tmp_path, SHAPES[shape])
    assert reading.shape == f"JSONL, {shape.strip()}"
    (row,) = reading.rows
    assert (row.prompt, row.answer, row.number) == ((Message("user", ASK),), SAY, 1)
    assert reading.dropped == ()


def test_content_in_parts_developer_role_and_alpaca_input(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    chat = [{"role": "developer", "content": "S"}, {"role": "user", "content": parts}, CHAT["messages"][1]]
    rows = read(tmp_path, {"messages": chat}, {"instruction": "Say it", "input": "twice", "output": SAY}).rows
    assert rows[0].prompt == (Message("system", "S"), Message("user", "One\ntwo"))
    assert rows[1].prompt == (Message("user", "Say it\n\ntwice"),)


def test_multi_turn_learns_the_last_answer_and_says_so(tmp_path: Path) -> None:
    reading = read(
        tmp_path, {"messages": [*CHAT["messages"], {"role": "user", "content": "And now?"}, CHAT["messages"][1]]}
    )
    assert [m.role for m in reading.rows[0].prompt] == ["user", "assistant", "user"]
    assert reading.odd == (
        "rows with several answers, of which the last is learned unless sft.train_on says otherwise: 1",
    )


def test_mixed_shapes_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path, CHAT, CHAT, {"prompt": "a", "completion": "b"}).shape == (
        "JSONL, chat messages (2) and prompt and completion (1)"
    )


def test_subject_case_and_documents(tmp_path: Path) -> None:
    row = CHAT | {
        "Customer ID": 7,
        "ticket_id": "T1",
        "documents": [{"id": "d", "title": "T", "text": "body"}, "plain"],
    }
    reading = read(tmp_path, row, CHAT | {"context": "read me"}, subject="customer_id")
    first, second = reading.rows
    assert (first.subject, first.case) == ("7", "T1")
    assert [(d.id, d.title, d.text) for d in first.documents] == [("d", "T", "body"), ("2", "", "plain")]
    assert second.subject is None and second.documents[0].text == "read me"
    assert reading.odd == ('rows without "customer_id", which cannot be found by it: 1',)


def test_unknown_subject_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'names the column "client".*\n.*"messages", "customer"'):
        read(tmp_path, CHAT | {"customer": "x"}, subject="client")


def test_bare_prompts(tmp_path: Path) -> None:
    reading = read(tmp_path, {"messages": CHAT["messages"][:1]}, CHAT, {"prompt": "b"}, wanted="prompts")
    assert [row.answer for row in reading.rows] == [None, None, None]
    assert reading.odd == ("rows with an answer, which bare prompts do not need: 1",)
    with pytest.raises(DataError, match=r"no row can be used\n  rows 1, 2: no answer.*\n.*data.prompts"):
        read(tmp_path, {"prompt": "a"}, {"prompt": "b"})


def test_text_is_tidied(tmp_path: Path) -> None:
    row = read(tmp_path, {"prompt": " e\u0301\r\nx ", "completion": "\ufeffyes \n"}).rows[0]
    assert row.prompt[0].content == "é\nx"
    assert row.answer == "yes"


@pytest.mark.parametrize("form", ["[{row}, {row}]", '{{"data": [\n{row},\n{row}]}}', '{{"data": [{row}, {row}]}}'])
def test_json_documents(tmp_path: Path, form: str) -> None:
    for name in ("rows.json", "rows.jsonl"):
        reading = read_rows(save(tmp_path, form.format(row=json.dumps(CHAT)), name))
        assert reading.shape == "JSON, chat messages"
        assert [row.number for row in reading.rows] == [1, 2]


def test_jsonl_keeps_line_numbers_over_blank_lines(tmp_path: Path) -> None:
    one = json.dumps(CHAT)
    assert [r.number for r in read_rows(save(tmp_path, f"{one}\r\n\r\n{one}\n", "rows.json")).rows] == [1, 3]


FILES = {
    "empty": (b" \n", "the file is empty", "put at least one example"),
    "only a byte order mark": (b"\xef\xbb\xbf\n", "holds no rows", "put at least one example"),
    "no rows": (b'{"data": []}', "holds no rows", "put at least one example"),
    "utf-16": ("{}".encode("utf-16"), "the file is UTF-16", "save it as UTF-8"),
    "latin-1": (b'{"prompt": "a"}\n{"prompt": "caf\xe9"}', "not UTF-8: byte 0xe9 at byte 32", "iconv"),
    "nul": (b'{"prompt": "a"}\n{"prompt": "b\0"}', "a NUL byte", "remove it"),
    "line 1": (b'{"prompt": "a"\n{"prompt": "b"}\n', "not JSON at line 1", "one JSON object a line"),
    "deep": (b"[" * 100_000, "not JSON at line 1: nested too deep", "mend that line"),
    "long number": (b'{"prompt": ' + b"9" * 5000 + b"}", "not JSON at line 1: nested too deep, or a number", "mend"),
    "unknown shape": (b'{"left": "a", "right": "b"}', 'unknown shape: .*only "left", "right"', "prompt and completion"),
    "not objects": (b"1\n2\n", "unknown shape", "messages"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_one_clear_message(tmp_path: Path, case: str) -> None:
    data, what, mend = FILES[case]
    path = save(tmp_path, data)
    with pytest.raises(DataError, match=f"(?s){what}.*\n  .*{mend}") as raised:
        read_rows(path)
    assert str(path) in str(raised.value)
    assert raised.value.exit_code == 2


def test_not_json_at_line_17(tmp_path: Path) -> None:
    good = json.dumps(CHAT)
    lines = [good] * 16 + ['{"messages": oops}'] + [good] * 3
    with pytest.raises(DataError, match=r"not JSON at line 17.*oops"):
        read_rows(save(tmp_path, "\n".join(lines)))
    with pytest.raises(DataError, match=r"not JSON at line 17.*oops"):
        read_rows(save(tmp_path, "[\n" + ",\n".join([good] * 15 + ["oops"]) + "\n]", "rows.json"))


def test_place_of_bytes_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_rows(save(tmp_path, b"\xef\xbb\xbf{}\n{}\n\xff\n"))
    assert raised.value.where.endswith("rows.jsonl line 3")
    assert "byte 0xff at byte 10" in str(raised.value)
    with pytest.raises(DataError, match="line 2: a NUL byte"):
        read_rows(save(tmp_path, b"{}\n\0\n"))


def test_missing_file_folder_and_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r'kind "\.xlsx" are not read\n  save it as'):
        read_rows(save(tmp_path, "x", "rows.xlsx"))


def chat(*turns: tuple[str, str]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


ROWS = {
    "message 2 has the unknown role 'agent'": chat(("user", "a"), ("agent", "b")),
    "the answer is empty": chat(("user", "a"), ("assistant", " \n")),
    "only a system message": chat(("system", "a")),
    "no answer: the last message is from the user": chat(("user", "a")),
    "a system message that is not the first": chat(("user", "a"), ("system", "b"), ("assistant", "c")),
    "no user message before the answer": chat(("assistant", "b")),
    "message 1 (user) is empty": chat(("user", ""), ("assistant", "b")),
    "1,000,001 bytes of text, more than 200,000": chat(("user", "a" * 1_000_000), ("assistant", "b")),
    "a NUL character in message 1": chat(("user", "a\0b"), ("assistant", "b")),
    "half a character (a lone surrogate) in message 2": chat(("user", "a"), ("assistant", "\ud83d")),
    "it is list, not an object": [1],
    '"answer" is int, not a text': {"question": "a", "answer": 4},
    'two fields are named "Answer"': {"question": "a", "answer": "b", "Answer": "c"},
    "chosen and rejected answers are votes, not examples": {"prompt": "a", "chosen": "b", "rejected": "c"},
    '"messages" is not a list of messages': {"messages": "hello"},
    "message 1 is not an object": {"messages": ["hello"]},
    '"content of message 1" is list, not a text': {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    "the prompt is empty": {"prompt": None, "completion": "b"},
    'no field known as a prompt, only "left"': {"left": "a"},
    "document 1 has no text": CHAT | {"documents": [{"title": "x"}]},
    '"documents" is not a list': CHAT | {"documents": 3},
}


@pytest.mark.parametrize("reason", ROWS)
def test_a_bad_row_costs_that_row_and_is_named(tmp_path: Path, reason: str) -> None:
    reading = read(tmp_path, CHAT, ROWS[reason], CHAT)
    assert [row.number for row in reading.rows] == [1, 3]
    (dropped,) = reading.dropped
    assert (dropped.number, dropped.reason) == (2, reason)
    assert dropped.mend
    assert reading.contents[2] == ROWS[reason]


def test_a_run_stops_at_bad_rows_and_lists_ten(tmp_path: Path) -> None:
    bad = ROWS["the answer is empty"]
    require_good(read(tmp_path, CHAT))
    with pytest.raises(DataError) as raised:
        require_good(read(tmp_path, CHAT, *[bad] * 12))
    said = str(raised.value)
    assert "12 of 13 rows cannot be used" in said
    listed = "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more: the answer is empty; fill it in, or remove the row"
    assert said.count("the answer is empty") == 1 and listed in said
    assert "burnish init --data rows.jsonl" in said


def test_a_clean_copy_keeps_the_numbers_of_the_original(tmp_path: Path) -> None:
    text = "".join(json.dumps({"row": n, **CHAT}) + "\n" for n in (3, 9))
    assert [r.number for r in read_rows(save(tmp_path, text, "rows.clean.jsonl")).rows] == [3, 9]
    assert [r.number for r in read_rows(save(tmp_path, text, "rows.jsonl")).rows] == [1, 2]
    twice = text.replace('"row": 9', '"row": 3')
    assert [r.number for r in read_rows(save(tmp_path, twice, "rows.clean.jsonl")).rows] == [1, 2]
