"""A small store whose evaluations, judgements and verdicts are real records over made-up numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.config import Gate, Recipe
from burnish.evaluation.gates import decide
from burnish.records import Json, Message, Record, Row
from burnish.store import Store, Work, open_store

PROJECT = "support"
RECIPE = Recipe.model_validate({"name": PROJECT, "task": "chat", "base": "tiny", "data": {"train": "rows.jsonl"}})


def gate(metric: str, against: str | None = None, **bound: float) -> Gate:
    return Gate.model_validate({"metric": metric, "against": against, **bound})


def rows(number: int, what: str = "parcel", subject: bool = False, start: int = 1) -> list[Row]:
    return [
        Row((Message("user", f"Where is {what} {at}?"),), f"It is near {at}.", at, f"person-{at}" if subject else None)
        for at in range(start, start + number)
    ]


def noise(number: int, mean: float, spread: float, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [mean + spread * draw.gauss(0, 1) for _ in range(number)]


class Desk:
    """A store with a dataset and the versions ``base`` (support@0), ``sft`` (support@1) and ``rl`` (support@2)."""

    def __init__(self, folder: Path, items: int = 96) -> None:
        self.store: Store = open_store(folder / ".burnish")
        self.items = items
        self.dataset = self.new_dataset(rows(items))
        self.base, self.sft, self.rl = self.version("base"), self.version("sft"), self.version("rl")

    def new_dataset(self, test: Sequence[Row]) -> Record:
        work = Work("dataset", "prepare", 1, {"first": test[0].number, "rows": len(test)}, (), 0, PROJECT)
        return self.store.once(
            work,
            lambda: {"counts": {"test": len(test)}},
            within=lambda conn: self.store.datasets.add(conn, work.id, "test", test),
        )

    def version(self, stage: str, **settings: Json) -> Record:
        body = {
            "stage": stage,
            "base": {"name": "tiny", "digest": "0" * 64},
            "settings": {"rank": {"value": 4, "why": "auto: enough"}},
            "figures": {"updates": 3, "stopped": None, "dev": {"kl": 0.0123, "length": 12.5}},
        }
        parents = () if stage == "base" else (self.dataset,)
        return self.store.once(Work("version", stage, 1, settings, parents, 0, PROJECT), lambda: body)

    def evaluation(
        self,
        items: Mapping[str, Mapping[str, Sequence[float | None]]] | None = None,
        *,
        clusters: Sequence[int] | None = None,
        dataset: Record | None = None,
        rl: Record | None = None,
        seed: int = 0,
        **body: Json,
    ) -> Record:
        """An evaluation of rl against start (sft) and base; by default rl is clearly better."""
        contenders = {"base": self.base.id, "start": self.sft.id, "production": self.sft.id, "rl": (rl or self.rl).id}
        dataset = dataset or self.dataset
        values: dict[str, Any] = {
            "dataset": dataset.id,
            "split": "test",
            "candidate": "rl",
            "start": "start",
            "contenders": contenders,
            "names": {"base": "support@0", "start": "support@1", "production": "support@1", "rl": "support@2"},
            "rows": list(range(1, self.items + 1)),
            "clusters": list(clusters) if clusters is not None else list(range(1, self.items + 1)),
            "items": {name: dict(metrics) for name, metrics in (items or self.numbers()).items()},
            "exchanges": {},
            "figures": {name: {} for name in contenders},
            "differences": {},
            "changed": {},
        }
        parents = (dataset, self.base, self.sft, rl or self.rl)
        work = Work("evaluation", "evaluation", 1, {"made": seed, "of": list(body)}, parents, seed, PROJECT)
        return self.store.once(work, lambda: values | body)

    def numbers(self, **changes: Sequence[float | None]) -> dict[str, dict[str, Sequence[float | None]]]:
        n = self.items
        rl: dict[str, Sequence[float | None]] = {
            "loss": noise(n, 2.0, 0.3, 1),
            "length": noise(n, 30, 3, 2),
            "cut": [float(at % 10 == 0) for at in range(n)],
            "changed": [1.0] * n,
            "kl": noise(n, 0.05, 0.01, 3),
            "distinct_2": noise(n, 0.72, 0.05, 4),
            "repeats": [0.0] * n,
            "score.utility": noise(n, 1.5, 0.3, 5),
        }
        start = {
            "loss": noise(n, 2.0, 0.3, 6),
            "length": noise(n, 30, 3, 7),
            "cut": [float(at % 9 == 0) for at in range(n)],
            "distinct_2": noise(n, 0.7, 0.05, 8),
            "repeats": [0.0] * n,
            "score.utility": noise(n, 1.0, 0.3, 9),
        }
        return {"base": dict(start), "start": start, "production": start, "rl": rl | changes}

    def judgement(self, evaluation: Record, items: Sequence[float | None] | None = None, **body: Json) -> Record:
        """What raters said of rl against start; by default three in four prefer rl."""
        found = list(items) if items is not None else [float(at % 4 != 0) for at in range(self.items)]
        values = {
            "evaluation": evaluation.id,
            "candidate": "rl",
            "reference": "start",
            "items": found,
            "win_rate": {"value": 0.75, "low": 0.66, "high": 0.83, "clusters": len(found), "level": 0.95},
            "votes": {"simulated": len(found)},
            "raters": 2,
            "equal": 0,
            "ties": 0,
            "agreement": None,
        }
        work = Work("judgement", "judgement", 1, {"items": found, **body}, (evaluation,), 0, PROJECT)
        return self.store.once(work, lambda: values | body)

    def passed(self, version: Record | None = None, seed: int = 0) -> Record:
        """A passing verdict on a version (rl)."""
        evaluation = self.evaluation(rl=version, seed=seed)
        verdict = decide(
            RECIPE,
            self.store,
            candidate=version or self.rl,
            evaluation=evaluation,
            judgement=self.judgement(evaluation),
            stage="rl",
        )
        assert verdict.body["passed"], verdict.body["rules"]
        return verdict
