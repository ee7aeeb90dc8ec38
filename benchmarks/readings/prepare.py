"""Which of two readings of a message is the more useful one: a classifier that learns from comparisons, as files.

    python benchmarks/readings/prepare.py BANKING77 TARGET

BANKING77 holds ``train.csv`` and ``test.csv`` of PolyAI's banking77 (Casanueva et al. 2020, arXiv:2003.04807, CC BY
4.0): messages to a bank, each with one of 77 intents. Eight that are easily taken for each other are kept. TARGET gets
``train.jsonl`` (8 messages of each, with their intent), ``preferences.jsonl`` (48 others of each: the right reading
against another one, drawn), ``dev.jsonl`` (10 others of each), ``test.jsonl`` (30 of each, of the published test file),
the recipe and its metric. The comparisons are made from the labels: no person compared anything.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
from pathlib import Path

INTENTS = (
    "card_arrival",
    "card_delivery_estimate",
    "card_not_working",
    "declined_card_payment",
    "pending_card_payment",
    "pending_transfer",
    "transfer_timing",
    "transfer_not_received_by_recipient",
)
LEARNED, COMPARED, DEV, TEST, SEED = 8, 48, 10, 30, 0
READINGS = {intent: intent.replace("_", " ") for intent in INTENTS}


def messages(path: Path, draw: random.Random) -> dict[str, list[str]]:
    """The messages of each intent in a drawn order, none twice."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for intent in INTENTS:
        texts = sorted({" ".join(row["text"].split()) for row in rows if row["category"] == intent})
        found[intent] = draw.sample(texts, len(texts))
    return found


def main(source: Path, target: Path) -> None:
    draw = random.Random(SEED)
    known, held = messages(source / "train.csv", draw), messages(source / "test.csv", draw)
    files: dict[str, list[dict[str, str]]] = {"train": [], "dev": [], "preferences": [], "test": []}
    for intent, right in READINGS.items():
        learned, dev, compared = (known[intent][a:b] for a, b in _cuts(LEARNED, DEV, COMPARED))
        for name, texts in (("train", learned), ("dev", dev), ("test", held[intent][:TEST])):
            files[name] += [{"prompt": text, "completion": right} for text in texts]
        others = [reading for reading in READINGS.values() if reading != right]
        files["preferences"] += [
            {"prompt": text, "chosen": right, "rejected": draw.choice(others)} for text in compared
        ]
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        draw.shuffle(rows)
        (target / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("readings.toml", "readings.py"):
        shutil.copy(Path(__file__).with_name(name), target / name)
    print(", ".join(f"{len(rows)} {name}" for name, rows in files.items()) + f": {target}")


def _cuts(*sizes: int) -> list[tuple[int, int]]:
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return list(zip([0, *ends], ends, strict=False))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
