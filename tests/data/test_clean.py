"""Duplicates, near-duplicates, contradictions; splits that are stable and share nothing."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from burnish.data.clean import Index, contradictions, oddities, shingles, without_duplicates
from burnish.data.read import read_rows
from burnish.data.split import keep_apart, place, split, split_by_likeness
from burnish.records import Document, Message, Row

WORDS = [f"word{n}" for n in range(2000)]


def row(number: int, text: str, answer: str | None = "yes", subject: str | None = None, system: str = "") -> Row:
    before = (Message("system", system),) if system else ()
    return Row((*before, Message("user", text)), answer, number, subject)


def unlike(count: int, seed: int = 0, subjects: int = 0, start: int = 1) -> list[Row]:
    draw = random.Random(seed)
    return [
        row(n, " ".join(draw.choices(WORDS, k=12)), subject=f"s{draw.randrange(subjects)}" if subjects else None)
        for n in range(start, start + count)
    ]


def test_shingles_are_runs_of_five_words() -> None:
    assert shingles("A b, c D e? F!") == ("a b c d e", "b c d e f")
    assert shingles("Where is it") == ("where is it",)
    assert shingles("?!") == ("?!",)


def test_near_is_over_half_of_the_shingles() -> None:
    index = Index([row(7, "a b c d e f g h")])  # shingles abcde bcdef cdefg defgh
    assert index.twin(row(1, "x b c d e f g h")) == 7  # three of its four
    assert index.twin(row(1, "x y c d e f g h")) is None  # two of its four: half is not over half
    assert index.twin(row(1, "A B C D E")) == 7  # all of its one
    assert index.twin(row(1, "a b c d e f g h " + " ".join("klmnopqrstu"))) is None  # four of fifteen
    assert index.twin(row(1, "a b c d")) is None


def test_a_shared_system_prompt_makes_no_rows_alike() -> None:
    system = "you answer the customers of a shop with care"
    assert Index([row(1, "one two three", system=system)]).twin(row(2, "four five six", system=system)) is None


def test_duplicates_go_and_contradictions_are_told() -> None:
    rows = [row(1, "a"), row(2, "a"), row(3, "a", "no"), row(4, "b"), row(5, "a", system="s")]
    with_document = Row(rows[0].prompt, "yes", 6, documents=(Document("1", "", "text"),))
    kept, dropped = without_duplicates([*rows, with_document], where="train")
    assert [r.number for r in kept] == [1, 3, 4, 5, 6]
    assert [(d.number, d.reason, d.where) for d in dropped] == [(2, "repeats row 1", "train")]
    notes = oddities(kept)
    assert notes[0] == "equal prompts with different answers: 1 (rows 1/3)"
    near = oddities([row(1, "a b c d e f g"), row(2, "a b c d e f g x"), row(3, "a b c d e f x")])
    assert near == ("prompts that nearly repeat another: 2 (rows 2, 3)",)


def test_ten_thousand_rows_take_seconds() -> None:
    draw = random.Random(0)
    common = "dear support team of the shop", "thank you very much for your help"
    rows = [
        row(n, f"{common[0]} {' '.join(draw.choices(WORDS, k=draw.randrange(5, 40)))} {common[1]}")
        for n in range(10_000)
    ]
    start = time.perf_counter()
    oddities(rows)
    keep_apart(split(rows, 0.1, 0.1), frozenset())
    assert time.perf_counter() - start < 30


def test_split_has_the_shares_and_no_seed() -> None:
    splits = split(unlike(5000), 0.1, 0.2)
    assert len(splits["dev"]) == pytest.approx(500, rel=0.15)
    assert len(splits["test"]) == pytest.approx(1000, rel=0.15)
    assert place(row(1, "Where is my parcel?")) == place(row(99, "Where is my parcel?", "other answer"))
    assert place(row(1, "a", subject="x")) == place(row(2, "b", subject="x"))
    assert place(row(1, "Where is my parcel?")) == pytest.approx(0.1414, abs=1e-4)  # a change moves all users' rows


@pytest.mark.parametrize("subjects", [0, 60])
def test_split_stays_when_rows_are_added_or_shuffled(subjects: int) -> None:
    old, new = unlike(400, subjects=subjects), unlike(400, seed=1, subjects=subjects, start=401)
    before, _ = keep_apart(split(old, 0.1, 0.1), frozenset({"dev", "test"}))
    more = [*old, *new]
    random.Random(2).shuffle(more)
    after, _ = keep_apart(split(more, 0.1, 0.1), frozenset({"dev", "test"}))
    for name in ("train", "dev", "test"):
        assert {r.number for r in before[name]} <= {r.number for r in after[name]}


def test_one_subject_is_in_one_split() -> None:
    splits = split(unlike(1000, subjects=50), 0.2, 0.2)
    seen = [{r.subject for r in rows} for rows in splits.values()]
    assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


TEXT = "my parcel has not come and the tracking page shows nothing at all"


def test_a_held_out_row_that_nearly_repeats_a_training_row_is_moved_or_dropped() -> None:
    train, test = row(1, TEXT), row(2, TEXT + " since monday")
    given, lost = keep_apart({"train": [train], "test": [test, row(3, "something else")]}, frozenset())
    assert [r.number for r in given["test"]] == [3]
    assert [(d.number, d.reason, d.where) for d in lost] == [(2, "its prompt nearly repeats training row 1", "test")]
    cut, lost = keep_apart({"train": [train], "test": [test]}, frozenset({"test"}))
    assert ([r.number for r in cut["train"]], cut["test"], lost) == ([1, 2], [], [])
    owned = row(2, TEXT, subject="anna")
    cut, lost = keep_apart({"train": [train], "test": [owned]}, frozenset({"test"}))
    assert (cut["test"], [d.number for d in lost]) == ([], [2])


def test_moving_goes_on_until_nothing_is_near() -> None:
    words = [f"w{n}" for n in range(40)]
    chain = [row(n, " ".join(words[3 * n : 3 * n + 14])) for n in range(6)]  # each is near to the next only
    splits, lost = keep_apart({"train": chain[:1], "test": chain[:0:-1]}, frozenset({"test"}))
    assert ([r.number for r in splits["train"]], splits["test"], lost) == ([0, 1, 2, 3, 4, 5], [], [])


def test_dev_gives_way_to_test_and_prompts_to_both() -> None:
    splits, lost = keep_apart(
        {"test": [row(1, TEXT)], "dev": [row(2, TEXT), row(3, "quite another thing")],
         "prompts": [row(4, TEXT, None), row(5, "quite another thing", None), row(6, "free", None)]},
        frozenset(),
    )  # fmt: skip
    assert [[r.number for r in splits[name]] for name in ("test", "dev", "prompts")] == [[1], [3], [6]]
    assert [(d.number, d.where) for d in lost] == [(2, "dev"), (4, "prompts"), (5, "prompts")]


def test_an_added_row_never_moves_a_training_row_out() -> None:
    rows = [row(n, f"{TEXT} number{n % 7} {' '.join(WORDS[n : n + 3])}") for n in range(60)]
    trained: set[int] = set()
    for count in (10, 20, 40, 60):
        splits, _ = keep_apart(split(rows[:count], 0.2, 0.2), frozenset({"dev", "test"}))
        assert trained <= {r.number for r in splits["train"]}
        trained = {r.number for r in splits["train"]}


def test_variations_of_a_few_texts_are_held_out_by_text() -> None:
    draw = random.Random(0)
    problems = [f"p{n} is leaking badly from base{n} side{n}" for n in range(20)]
    rows = [
        row(n, f"my thing{draw.randrange(200)} {draw.choice(problems)} what should i do", f"a{n}") for n in range(1000)
    ]
    apart, _ = keep_apart(split(rows, 0.1, 0.1), frozenset({"dev", "test"}))
    assert not apart["test"]  # one hash for each row leaves nothing that is new to the model
    splits, lost = keep_apart(split_by_likeness(rows, 0.1, 0.1), frozenset({"dev", "test"}))
    assert lost == []
    assert {name: len(held) // 50 for name, held in splits.items()}["test"] in (2, 3, 4)
    assert splits["dev"] and len(splits["train"]) > 600


def test_likeness_keeps_subjects_together() -> None:
    splits = split_by_likeness(unlike(300, subjects=30), 0.2, 0.2)
    seen = [{r.subject for r in rows} for rows in splits.values()]
    assert all(seen) and sum(map(len, seen)) == 30
    assert sum(len(rows) for rows in splits.values()) == 300


BANKING = Path(__file__).resolve().parents[3] / "shared" / "data" / "banking77" / "train.csv"


@pytest.mark.skipif(not BANKING.is_file(), reason="the shared data folder is not here")
def test_real_messages_keep_most_of_what_is_held_out() -> None:
    rows, _ = without_duplicates(read_rows(BANKING, wanted="prompts").rows)
    splits, lost = keep_apart(split(rows, 0.1, 0.1), frozenset({"dev", "test"}))
    assert min(len(splits["dev"]), len(splits["test"])) > 850
    assert len(lost) < 10


def test_contradictions_are_near_prompts_with_answers_that_share_little() -> None:
    text = "where is my blue parcel now please"
    found = contradictions([row(1, text, "On its way."), row(2, text.upper(), "on its way"), row(3, text, "Lost.")])
    assert found == [(1, 3)]
    near = "where is my blue parcel now please help"  # three of the four shingles
    assert contradictions([row(1, text, "On its way."), row(2, near, "Lost.")]) == [(1, 2)]
    assert contradictions([row(1, text, "On its way."), row(2, "quite another question", "Lost.")]) == []


def test_conversations_that_end_otherwise_do_not_contradict() -> None:
    before = Message("user", "i ordered a lamp and a rug and a chair and a desk last week")
    said = Message("assistant", "Which one?")
    ends = [Row((before, said, Message("user", end)), answer, n) for n, (end, answer) in enumerate(ENDS)]
    assert contradictions(ends) == []
    assert contradictions([ends[0], row(7, before.content, "Hello.")]) == []


ENDS = [("the lamp", "It comes today."), ("the rug", "That is sold out.")]


def test_another_document_or_system_prompt_is_another_question() -> None:
    first = row(1, "what does it say", "Yes.")
    other = Row(first.prompt, "No.", 2, documents=(Document("1", "", "text"),))
    assert contradictions([first, other]) == []
    assert contradictions([first, row(2, "what does it say", "No.", system="be brief")]) == []
