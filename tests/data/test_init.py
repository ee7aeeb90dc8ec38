"""`burnish init`: from a messy file to a recipe that loads, with nothing lost."""

from __future__ import annotations

import ast
import csv
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from burnish.config import load
from burnish.data.read import read_rows, require_good
from burnish.data.stage import gather, read_files
from burnish.errors import ConfigError, DataError
from burnish.recipes.init import inspect, questions, write_clean, write_client, write_recipe

THINGS = ("kettle", "lamp", "parcel", "toaster", "invoice", "refund", "pan", "code", "wok", "clock")


def support_csv(folder: Path, count: int = 2000, bad: int = 40) -> Path:
    """A support desk's export: semicolons, a byte order mark, spaces in the header, and ``bad`` bad rows."""
    draw = random.Random(0)
    path = folder / "Support Rows.csv"
    words = [f"w{n}" for n in range(400)]
    broken = set(draw.sample(range(count), bad))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow([" Customer Message", "Agent Reply ", "customer_id", "topic"])
        for n in range(count):
            ask = f"{' '.join(draw.choices(words, k=9))}; my {draw.choice(THINGS)} is number {n}"
            line = [ask, f"Please send it back,\nthen wait. {n}", f"c{n % 500}", "x"]
            if n in broken:
                line = (
                    line[:2],
                    ["", *line[1:]],
                    [ask, " ", *line[2:]],
                    [*line, "more"],
                    [ask, "\0x"[1:] * 250_000, "c", "x"],
                )[n % 5]
            out.writerow(line)
    return path


def test_two_thousand_rows_forty_bad_become_a_recipe(tmp_path: Path) -> None:
    source = support_csv(tmp_path)
    before = source.read_bytes()
    found = inspect(source)
    assert found.reading.shape == 'CSV separated by semicolon, columns "Customer Message" and "Agent Reply"'
    assert (len(found.rows), len(found.rejected)) == (1960, 40)
    assert found.subjects == ("customer_id",)
    said = "\n".join(found.lines())
    assert (
        "2000 rows, 1960 can be used" in said and "  and 1 more row\nthey go into Support Rows.rejected.jsonl" in said
    )
    assert said.count("the answer is empty") == 1 and ", 1849 and 2 more: the answer is empty" in said
    assert "byte order mark" in said and said.endswith('columns beside question and answer: "customer_id", "topic"')
    path = write_recipe(found, {}, tmp_path / "project")
    text = path.read_text()
    assert len(text.splitlines()) <= 25 and text.count("#") >= 5
    recipe = load(path)
    assert (recipe.name, recipe.data.subject, recipe.reward, recipe.rl) == ("support-rows", "customer_id", None, None)
    assert recipe.feedback.sources == ("human",)
    clean = path.parent / recipe.data.train
    assert clean.name == "Support Rows.clean.jsonl"
    reading = read_rows(clean, subject="customer_id")
    require_good(reading)
    assert reading.rows == read_rows(source, subject="customer_id").rows  # the numbers and subjects too
    rejected = [json.loads(line) for line in (tmp_path / "Support Rows.rejected.jsonl").read_text().splitlines()]
    assert [r["row"] for r in rejected] == [d.number for d in found.rejected]
    assert all(r["reason"] and r["mend"] and r["content"] for r in rejected)
    assert source.read_bytes() == before
    examples = gather(recipe, read_files(recipe, path.parent), None)
    assert all(len(examples.splits[name]) > 80 for name in ("dev", "test"))


def rows(folder: Path, *items: object, name: str = "rows.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder / name


GOOD = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(20)]


def test_a_clean_file_is_used_as_it_is(tmp_path: Path) -> None:
    found = inspect(rows(tmp_path, *GOOD))
    path = write_recipe(found, {}, tmp_path)
    assert load(path).data.train == "rows.jsonl"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.toml", "rows.jsonl"]
    assert "20 rows, 20 can be used" in found.lines()


def test_duplicates_are_set_aside_with_the_row_they_repeat(tmp_path: Path) -> None:
    found = inspect(rows(tmp_path, *GOOD, GOOD[4], {"prompt": "half \ud83d", "completion": "x"}))
    assert [str(d) for d in found.rejected] == [
        "row 21: repeats row 5",
        "row 22: half a character (a lone surrogate) in message 1",
    ]
    clean = write_clean(found)
    assert len(read_rows(clean).rows) == 20
    lost = (tmp_path / "rows.rejected.jsonl").read_text().splitlines()
    assert json.loads(lost[1])["content"] == {"prompt": "half \ud83d", "completion": "x"}
    assert write_clean(found) == clean  # the same again is no quarrel
    clean.write_text("mine\n")
    with pytest.raises(DataError, match=r"rows\.clean\.jsonl is there and holds something else\n  move it away"):
        write_clean(found)
    assert clean.read_text() == "mine\n"


def test_at_most_five_questions_with_defaults_that_load(tmp_path: Path) -> None:
    found = inspect(rows(tmp_path, *[r | {"client": f"c{n}"} for n, r in enumerate(GOOD)], name="2 Ünï rows.v1.jsonl"))
    asked = {question.key: question for question in questions(found)}
    assert set(asked) == {"name", "base", "system", "votes", "subject"}
    assert asked["name"].default == "2-n-rows"
    assert asked["subject"].default == "client" and asked["subject"].choices == ("", "client")
    assert asked["votes"].default == "human"
    bring = [{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": str(n)},
                           {"role": "assistant", "content": "a"}]} for n in range(3)]  # fmt: skip
    assert {q.key: q.default for q in questions(inspect(rows(tmp_path, *bring)))}["system"] == ""


def test_answers_are_used_and_checked(tmp_path: Path) -> None:
    found = inspect(rows(tmp_path, *GOOD))
    answers = {"name": "desk", "base": "./my model", "system": 'Say "hi"\nand # stay', "votes": "simulated"}
    recipe = load(write_recipe(found, answers, tmp_path / "a"))
    assert (recipe.name, recipe.base, recipe.data.system) == ("desk", "./my model", 'Say "hi"\nand # stay')
    assert recipe.rl is not None and recipe.reward is not None
    assert recipe.feedback.simulate == "support-desk" and recipe.feedback.sources == ("simulated",)
    with pytest.raises(ConfigError, match='"robots" is no answer'):
        write_recipe(found, {"votes": "robots"}, tmp_path / "b")
    with pytest.raises(ConfigError, match='"name" cannot be'):
        write_recipe(found, {"name": "My Desk"}, tmp_path / "b")
    assert not (tmp_path / "b" / "recipe.toml").exists()
    assert load(write_recipe(found, {"system": "-"}, tmp_path / "c")).data.system is None
    messy = inspect(rows(tmp_path, *GOOD, GOOD[0]))  # where a run refused its file: the clean copy for the recipe
    with pytest.raises(ConfigError, match=r'there is a recipe already\n  write train = "\.\./rows\.clean\.jsonl"'):
        write_recipe(messy, {}, tmp_path / "a")
    assert len(read_rows(tmp_path / "rows.clean.jsonl").rows) == 20


def test_long_rows_raise_the_limits(tmp_path: Path) -> None:
    long = [{"prompt": f"{n} " + "word " * 500, "completion": "said " * 120} for n in range(5)]
    recipe = load(write_recipe(inspect(rows(tmp_path, *long)), {}, tmp_path))
    assert recipe.data.max_length == 1040  # 621 words x 1.6 + 40, up to a multiple of 16
    assert (recipe.evaluate.max_new_tokens, recipe.serve.max_tokens) == (192, 192)
    assert len((tmp_path / "recipe.toml").read_text().splitlines()) <= 25


def test_the_commented_tables_load_when_uncommented(tmp_path: Path) -> None:
    path = write_recipe(inspect(rows(tmp_path, *GOOD)), {}, tmp_path)
    text = path.read_text()
    for line in ("[reward]", "min_comparisons = 200", "[rl]"):
        assert f"# {line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    path.write_text(text)
    recipe = load(path)
    assert recipe.rl is not None and recipe.reward is not None and recipe.reward.min_comparisons == 200


def test_an_unwritable_folder_is_one_message(tmp_path: Path) -> None:
    found = inspect(rows(tmp_path, *GOOD))
    (tmp_path / "recipe.toml.part").mkdir()
    with pytest.raises(DataError, match=r"recipe\.toml: cannot be written"):
        write_recipe(found, {}, tmp_path)


def test_the_client_is_ten_lines_and_talks_to_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    path = write_client(tmp_path)
    text = path.read_text()
    ast.parse(text)
    assert len(text.splitlines()) == 10
    heard: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard["path"], heard["token"] = self.path, self.headers["Authorization"]
            heard["body"] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = {"choices": [{"message": {"content": "Hi."}}], "system_fingerprint": "support@2", "id": "e1"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("BURNISH_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("BURNISH_TOKEN", "t0")
        monkeypatch.setattr("sys.argv", ["client.py", "Where", "is it?"])
        exec(compile(text, "client.py", "exec"), {})
    assert (heard["path"], heard["token"]) == ("/v1/chat/completions", "Bearer t0")
    assert heard["body"] == {"model": "production", "messages": [{"role": "user", "content": "Where is it?"}]}
    assert capsys.readouterr().out == "Hi.\n(support@2 said this in e1)\n"
    path.write_text("mine")
    assert write_client(tmp_path).read_text() == "mine"


def test_a_file_of_pairs_becomes_examples_and_preferences(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    ask = [f"Where is my {thing}, and when does the next one come?" for thing in THINGS]
    rows = [
        {"prompt": a, "chosen": "It left.", "rejected": "Who knows?", "Customer": f"c{n % 4}"}
        for n, a in enumerate(ask)
    ]
    rows += [
        {"prompt": ask[0], "chosen": "It left.", "rejected": "Never."},
        {"prompt": "x", "chosen": "a", "rejected": "a"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inspection = inspect(path)
    assert (
        "12 rows, 11 can be used" in inspection.lines()
        and "  row 12: chosen and rejected are equal" in inspection.lines()
    )
    recipe = load(write_recipe(inspection, {"subject": "Customer"}, tmp_path))
    assert (recipe.data.train, recipe.data.preferences) == ("pairs.examples.jsonl", "pairs.clean.jsonl")
    assert recipe.preference is not None and recipe.preference.method == "dpo" and recipe.reward is None
    examples = gather(recipe, read_files(recipe, tmp_path), None)
    learned = [row for name in ("train", "dev", "test") for row in examples.splits[name]]
    assert len(learned) == 10 and {row.answer for row in learned} == {"It left."}
    assert {row.subject for row in learned} == {"c0", "c1", "c2", "c3"}
    assert all(row.rejected for row in examples.splits["preferences"])


def test_a_file_of_thumbs_asks_for_kto(tmp_path: Path) -> None:
    path = tmp_path / "thumbs.csv"
    lines = [f"Where is my {thing} now?,It left {n}.,{n % 2}" for n, thing in enumerate(THINGS)]
    path.write_text("prompt,completion,label\n" + "\n".join(lines) + "\n")
    recipe = load(write_recipe(inspect(path), {}, tmp_path))
    assert recipe.preference is not None and recipe.preference.method == "kto"
    assert (recipe.data.train, recipe.data.preferences) == ("thumbs.examples.jsonl", "thumbs.csv")
    rows = read_rows(tmp_path / recipe.data.train).rows
    assert [row.answer for row in rows] == [f"It left {n}." for n in range(1, 10, 2)]


def test_a_label_that_is_no_judgement_makes_no_preference(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for labels in (("true", "true"), ("delivery", "refund"), (1, 2)):
        rows = [{"prompt": f"a{n}", "completion": "b", "label": label} for n, label in enumerate(labels)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert not inspect(path).judged
