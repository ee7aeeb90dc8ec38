"""The rows that both sides of a comparison train on: 64 by a fixed seed, half with a short and half with a long prompt.

    python benchmarks/rows.py PAIRS.jsonl

Made of the support desk's dialogues that the repository brings. A long prompt is a conversation of several earlier
exchanges; the rejected answer is one to another question. One JSON object a line: prompt (chat messages), chosen,
rejected (texts), profile ("short" or "long").
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

DESK = Path(__file__).parents[1] / "src" / "burnish" / "recipes" / "support" / "train.jsonl"
SYSTEM = "You are the support desk of Harbour & Pine, a shop for home and kitchen goods. Answer briefly."
ROWS, SEED = 64, 0


def rows(count: int = ROWS, seed: int = SEED) -> list[dict[str, object]]:
    """The rows, short and long prompts in turn."""
    draw = random.Random(seed)
    desk = [json.loads(line)["messages"] for line in DESK.read_text(encoding="utf-8").splitlines()]
    made: list[dict[str, object]] = []
    for number in range(count):
        long = number % 2 == 1
        picked = draw.sample(desk, draw.randint(4, 7) if long else 2)
        *history, (question, answer), (_, other) = picked
        earlier = [message for exchange in history for message in exchange]
        made.append(
            {
                "prompt": [{"role": "system", "content": SYSTEM}, *earlier, question],
                "chosen": answer["content"],
                "rejected": other["content"],
                "profile": "long" if long else "short",
            }
        )
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Path(sys.argv[1]).write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
