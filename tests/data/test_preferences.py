"""Rows that say which answer is better: every shape is read alike, every bad row is one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.config import Recipe
from burnish.data.audit import audit
from burnish.data.clean import opposed, without_duplicates
from burnish.data.read import Reading, read_rows
from burnish.data.render import Renderer
from burnish.data.split import hold_out
from burnish.data.stage import gather, prepare, read_files
from burnish.errors import DataError
from burnish.records import Message, Row
from burnish.store import open_store

ASK, GOOD, BAD = "Where is my parcel?", "Please open the tracking page.", "No idea."
USER = {"role": "user", "content": ASK}
BEST, WORST = {"role": "assistant", "content": GOOD}, {"role": "assistant", "content": BAD}


def read(folder: Path, *rows: object, name: str = "rows.jsonl") -> Reading:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_rows(path, wanted="preferences")


PAIRS = {
    "chosen and rejected": {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    "chosen and rejected ": {"prompt": [USER], "chosen": [BEST], "rejected": [WORST]},
    "chosen and rejected  ": {"prompt": ASK, "chosen": [USER, BEST], "rejected": [USER, WORST]},
    "chosen and rejected   ": {"chosen": [USER, BEST], "rejected": [USER, WORST]},
    "chosen and rejected    ": {"conversations": [{"from": "human", "value": ASK}], "chosen": BEST, "rejected": WORST},
    "OpenAI's preference rows": {
        "input": {"messages": [USER], "tools": []},
        "preferred_output": [BEST],
        "non_preferred_output": [WORST],
    },
}


@pytest.mark.parametrize("shape", PAIRS)
def test_reads_the_shapes_of_pairs(tmp_path: Path, shape: str) -> None:
    reading = read(tmp_path, PAIRS[shape])
    assert reading.shape == f"JSONL, {shape.strip()}"
    (row,) = reading.rows
    assert (row.prompt, row.answer, row.rejected) == ((Message("user", ASK),), GOOD, BAD)
    assert (row.margin, row.label, reading.odd) == (None, None, ())


def test_system_messages_and_earlier_turns_stand_before_both_answers(tmp_path: Path) -> None:
    system, more = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Sure?"}
    talk = [system, USER, BEST, more]
    whole = {"chosen": [*talk, BEST], "rejected": [*talk, WORST]}
    column = {"system": "Be kind.", "question": ASK, "chosen": GOOD, "rejected": [USER, WORST]}
    shared = {"chosen": [system, USER, BEST, more, WORST], "rejected": [system, USER, BEST, more, BEST]}
    rows = read(tmp_path, whole, column, shared).rows
    assert [m.role for m in rows[0].prompt] == ["system", "user", "assistant", "user"]
    assert rows[1].prompt == (Message("system", "Be kind."), Message("user", ASK))
    assert (rows[1].answer, rows[1].rejected) == (GOOD, BAD)
    assert (rows[2].prompt, rows[2].answer, rows[2].rejected) == (rows[0].prompt, BAD, GOOD)


def test_margins_and_csv(tmp_path: Path) -> None:
    rows = read(tmp_path, PAIRS["chosen and rejected"] | {"margin": 1.5}, PAIRS["chosen and rejected"]).rows
    assert [row.margin for row in rows] == [1.5, None]
    path = tmp_path / "rows.csv"
    path.write_text("prompt,chosen,rejected,margin\na,b,c,2\na,b,d,\n")
    rows = read_rows(path, wanted="preferences").rows
    assert [(row.rejected, row.margin) for row in rows] == [("c", 2.0), ("d", None)]


@pytest.mark.parametrize(
    ("value", "label"),
    [(True, True), (False, False), ("good", True), ("BAD", False), (1, True), (0, False), (-1, False), (1.0, True),
     ("1", True), ("-1", False), ("true", True), ("False", False)],
)  # fmt: skip
def test_labels(tmp_path: Path, value: object, label: bool) -> None:
    row = {"prompt": ASK, "completion": GOOD, "label": value}
    chat = {"messages": [USER, BEST], "thumb": value}
    reading = read(tmp_path, row, chat)
    assert [(r.answer, r.rejected, r.label) for r in reading.rows] == [(GOOD, None, label)] * 2
    assert reading.shape == "JSONL, prompt and completion, with labels (1) and chat messages, with labels (1)"
    assert reading.odd == ()


BAD_ROWS = {
    "chosen and rejected are equal": {"prompt": ASK, "chosen": GOOD, "rejected": f" {GOOD}\n"},
    "neither a rejected answer nor a label nor spans": {"prompt": ASK, "completion": GOOD},
    "the label 'maybe' is neither good nor bad": {"prompt": ASK, "completion": GOOD, "label": "maybe"},
    "the label '2' is neither good nor bad": {"prompt": ASK, "completion": GOOD, "label": 2},
    "the rejected answer is empty": {"prompt": ASK, "chosen": GOOD, "rejected": ""},
    "the chosen answer is empty": {"prompt": ASK, "chosen": None, "rejected": BAD},
    "the margin 'wide' is not a number from 0 up": {"prompt": ASK, "chosen": GOOD, "rejected": BAD, "margin": "wide"},
    "the margin '-1' is not a number from 0 up": {"prompt": ASK, "chosen": GOOD, "rejected": BAD, "margin": -1},
    "the rejected answer is 2 messages that do not stand in the prompt": {
        "prompt": "Other?",
        "chosen": GOOD,
        "rejected": [USER, WORST],
    },
    "the chosen answer is from the user": {
        "prompt": ASK,
        "chosen": [{"role": "user", "content": "Oh"}],
        "rejected": BAD,
    },
    "a message has a weight": {"prompt": ASK, "chosen": BEST | {"weight": 0.5}, "rejected": WORST},
    "the answer is empty": {"prompt": ASK, "completion": "", "label": True},
    "no user message before the answer": {"chosen": GOOD, "rejected": BAD},
    '"chosen" is int, not a text': {"prompt": ASK, "chosen": 7, "rejected": BAD},
    '"input.messages" is not a list of messages': {
        "input": {},
        "preferred_output": BEST,
        "non_preferred_output": WORST,
    },
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_named_with_its_reason(tmp_path: Path, reason: str) -> None:
    reading = read(tmp_path, PAIRS["chosen and rejected"], BAD_ROWS[reason])
    assert [(d.number, d.reason) for d in reading.dropped] == [(2, reason)] and reading.dropped[0].mend


def test_pairs_are_no_examples(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PAIRS["OpenAI's preference rows"]) + "\n")
    with pytest.raises(
        DataError, match="preferred_output and non_preferred_output answers are votes, not examples"
    ) as e:
        read_rows(path)
    assert "data.preferences" in str(e.value)


def pair(number: int, ask: str = ASK, answer: str = GOOD, rejected: str | None = BAD, **more: object) -> Row:
    return Row((Message("user", ask),), answer, number, rejected=rejected, **more)  # type: ignore[arg-type]


def test_repeats_go_and_opposed_are_told() -> None:
    thumb = {"rejected": None, "label": True}
    rows = [pair(1), pair(2), pair(3, answer=BAD, rejected=GOOD), pair(4, **thumb), pair(5, **thumb | {"label": False})]
    kept, dropped = without_duplicates(rows)
    assert [r.number for r in kept] == [1, 3, 4, 5] and str(dropped[0]) == "row 2: repeats row 1"
    assert opposed(kept) == ("preferences that contradict another: 2 (rows 1/3, 4/5)",)
    assert opposed(kept[:1]) == ()


def test_the_audit_reads_the_prompt_once_and_trains_both(tiny_model_folder: Path) -> None:
    renderer = Renderer.from_folder(tiny_model_folder, "")
    asked, good, bad = len(renderer.prompt(pair(1).prompt)), len(renderer.answer(GOOD)), len(renderer.answer(BAD))
    found = audit([pair(1)], renderer, asked + good)
    (row,) = found.rows
    assert (row.prompt, row.trained, row.answers, row.longest) == (asked, good + bad, 2, asked + max(good, bad))
    assert row.problem is None
    assert audit([pair(1, answer=BAD, rejected=GOOD)], renderer, asked + good - 1).bad


def test_what_is_held_out_repeats_nothing_that_is_learned() -> None:
    rows = [pair(n, ask=f"a{n % 40} b{n % 40} c{n % 40} d{n % 40} e{n % 40} f{n // 40}") for n in range(200)]
    learned, held = hold_out(rows, 0.3)
    assert {r.number for r in learned} | {r.number for r in held} == set(range(200))
    assert [r.number for r in learned] == sorted(r.number for r in learned)
    alone = [pair(n, ask=f"a{n} b{n} c{n} d{n} e{n} f{n}") for n in range(300)]
    learned, held = hold_out(alone, 0.3)
    assert 50 < len(held) < 130
    again = [*alone, *(pair(1000 + r.number, ask=r.prompt[0].content + " please") for r in held[:20])]
    learned, held = hold_out(again, 0.3)
    words = {r.prompt[0].content.split()[0] for r in learned}
    assert held and not any(r.prompt[0].content.split()[0] in words for r in held)


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


def recipe(**data: object) -> Recipe:
    return Recipe(
        name="shop",
        task="chat",
        base="tiny",
        data={"train": "rows.jsonl", "preferences": "pairs.jsonl", **data},  # type: ignore[arg-type]
        preference={},  # type: ignore[arg-type]
    )


def test_preferences_are_a_split_without_held_out_prompts(tmp_path: Path, tiny_model_folder: Path) -> None:
    asks = [f"a{n} b{n} c{n} d{n} e{n} f{n}" for n in range(100)]
    write(tmp_path, "rows.jsonl", [{"question": ask, "answer": f"say {n}"} for n, ask in enumerate(asks)])
    write(tmp_path, "pairs.jsonl", [{"prompt": ask, "chosen": "yes", "rejected": "no", "margin": 2} for ask in asks])
    store = open_store(tmp_path / ".burnish")
    record = prepare(recipe(), tmp_path, store, Renderer.from_folder(tiny_model_folder, None))
    held = {r.number for name in ("dev", "test") for r in store.datasets.rows(record.id, name)}
    kept = store.datasets.rows(record.id, "preferences")
    assert held and {r.number for r in kept} == set(range(1, 101)) - held
    assert (kept[0].answer, kept[0].rejected, kept[0].margin, kept[0].label) == ("yes", "no", 2.0, None)
    reasons = {d["row"]: d["reason"] for d in record.body["dropped"] if d["split"] == "preferences"}
    assert set(reasons) == held and all("its prompt nearly repeats test or dev row" in r for r in reasons.values())
    assert record.body["audit"]["preferences"]["answers"] == 200
    write(tmp_path, "pairs.jsonl", [{"prompt": "x", "chosen": "yes", "rejected": "yes"}, *PAIRS.values()])
    with pytest.raises(DataError, match="row 1: chosen and rejected are equal"):
        read_files(recipe(), tmp_path)


def test_labels_survive_the_store_and_a_row_without_any_is_kept_as_before(tmp_path: Path) -> None:
    asks = [f"a{n} b{n} c{n} d{n} e{n} f{n}" for n in range(30)]
    write(tmp_path, "rows.jsonl", [{"question": ask, "answer": "yes"} for ask in asks])
    write(tmp_path, "pairs.jsonl", [{"prompt": "Quite another thing?", "completion": "no", "label": "bad"}])
    store = open_store(tmp_path / ".burnish")
    record = prepare(recipe(dev_share=0.0), tmp_path, store, None)
    (row,) = store.datasets.rows(record.id, "preferences")
    assert (row.answer, row.rejected, row.label) == ("no", None, False)
    assert all(r.weights == () and r.label is None for r in store.datasets.rows(record.id, "train"))
    examples = gather(recipe(dev_share=0.0), read_files(recipe(), tmp_path), None)
    assert "test" in examples.splits and len(examples.splits["preferences"]) == 1


def test_weights_of_earlier_answers_that_nobody_reads_are_told(tmp_path: Path) -> None:
    muted = {"messages": [USER, BEST | {"weight": 0}, {"role": "user", "content": "And?"}, WORST]}
    write(tmp_path, "rows.jsonl", [muted])
    write(tmp_path, "pairs.jsonl", [PAIRS["chosen and rejected"]])
    settings = recipe(dev_share=0.0, test_share=0.0)
    told = 'train: rows with a weight on an earlier answer: 1; it counts with sft.train_on = "all" only'
    assert told in gather(settings, read_files(settings, tmp_path), None).odd
    every = settings.model_copy(update={"sft": settings.sft.model_copy(update={"train_on": "all"})})
    assert told not in gather(every, read_files(every, tmp_path), None).odd
