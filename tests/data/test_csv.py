"""CSV as people have it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.csvfile import records
from burnish.data.read import read_rows
from burnish.errors import DataError


def save(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(("mark", "word"), [(",", ""), (";", " separated by semicolon"), ("\t", " separated by tab")])
def test_delimiters_are_found_and_named(tmp_path: Path, mark: str, word: str) -> None:
    text = f"Question{mark} Answer \r\nWhere is it?{mark}Here.\r\n"
    reading = read_rows(save(tmp_path, text))
    assert reading.shape == f'CSV{word}, columns "Question" and "Answer"'
    assert (reading.rows[0].number, reading.rows[0].answer) == (2, "Here.")


def test_byte_order_mark_quotes_and_newlines_inside(tmp_path: Path) -> None:
    text = '\ufeff"question","answer"\n"a ""b"", c\nd", "yes, ""sir""" \n\nplain 5" screen,ok\n'
    reading = read_rows(save(tmp_path, text))
    assert [(r.number, r.prompt[0].content, r.answer) for r in reading.rows] == [
        (2, 'a "b", c\nd', 'yes, "sir"'),
        (4, 'plain 5" screen', "ok"),
    ]
    assert reading.odd == ("begins with a byte order mark, which is left out",)


def test_ragged_and_broken_rows_cost_themselves_alone(tmp_path: Path) -> None:
    text = 'question,answer\na,b\nc\nd,e,f\n"g,h\ni,j,,\n"k" l,m\nn,o\n'
    reading = read_rows(save(tmp_path, text))
    assert [r.number for r in reading.rows] == [2, 6, 8]
    assert [(d.number, d.reason) for d in reading.dropped] == [
        (3, "the number of fields is 1, the header has 2"),
        (4, "the number of fields is 3, the header has 2"),
        (5, "a quote is opened and not closed"),
        (7, "a quote is opened and not closed"),
    ]
    assert reading.contents[5] == '"g,h'


WRONG = {
    "question~answer\na~b\n": ('no known column in the header: "question~answer"', "separate columns by a comma"),
    "left,right\na,b\n": ('no known column in the header: "left", "right"', "the first row must name the columns"),
    "question,answer\na;b\nc;d\ne;f\n": ("wrong delimiter: the header is separated by comma", "save the file again"),
    "prompt;note,question\na;b,c\n": ("the delimiter is ambiguous: .* comma and semicolon", "quote the column names"),
    "question,answer,Answer\na,b,c\n": ('columns of one name: "Answer", "answer"', "rename one"),
    "question,answer\n": ("the file holds no rows", "put at least one example"),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_files_are_refused(tmp_path: Path, text: str) -> None:
    what, mend = WRONG[text]
    path = save(tmp_path, text)
    with pytest.raises(DataError, match=f"(?s){what}.*\n  .*{mend}") as raised:
        read_rows(path)
    assert str(path) in str(raised.value)


def test_one_column_of_prompts_may_hold_commas(tmp_path: Path) -> None:
    reading = read_rows(save(tmp_path, "prompt\nHello, where is it?\nNo comma\n"), wanted="prompts")
    assert reading.shape == 'CSV, bare prompts in "prompt"'
    assert [r.prompt[0].content for r in reading.rows] == ["Hello, where is it?", "No comma"]


def test_an_index_column_without_a_name_is_no_matter(tmp_path: Path) -> None:
    reading = read_rows(save(tmp_path, ",question,answer,#\n0,a,b,1\n1,c,d,2\n"))
    assert len(reading.rows) == 2
    assert reading.dropped == ()


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=2), min_size=1))
def test_reads_back_what_the_standard_library_writes(table: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(table)
    assert [line.fields for line in records(file.getvalue(), ",")] == table


def test_many_open_quotes_take_no_quadratic_time() -> None:
    text = "question,answer\n" + '"a,b\n' * 20_000
    assert sum(line.fields is None for line in records(text, ",")) >= 10_000
