"""A store with one version, and a short way to put answers and comparisons into it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.feedback import add_comparisons
from burnish.records import Comparison, Exchange, Message, Record
from burnish.store import Store, Work, now, open_store


class Desk:
    """The project "support" with the versions ``base`` and ``tuned``."""

    project = "support"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.base, self.tuned = self.version("base"), self.version("sft")
        self._number = itertools.count()

    def version(self, stage: str) -> Record:
        work = Work("version", stage, 1, {}, (), 0, self.project)
        return self.store.once(work, lambda: {"stage": stage})

    def answer(self, text: str, prompt: str = "Where is my kettle?", **more: object) -> str:
        id = f"exchange-{next(self._number)}"
        exchange = Exchange(
            id=id,
            project=self.project,
            version=self.tuned.id,
            purpose="pairs",
            prompt=(Message("user", prompt),),
            answer=text,
            prompt_ids=(1, 2),
            answer_ids=(3, 4),
            logprobs=(-0.5, -0.25),
            finish_reason="stop",
            created_at=now(),
        )
        for name, value in more.items():
            object.__setattr__(exchange, name, value)
        with self.store.write() as conn:
            self.store.exchanges.add(conn, exchange)
        return id

    def items(
        self, number: int, votes_wanted: int = 1, campaign: str = "turn-1", purpose: str = "train"
    ) -> list[Comparison]:
        made = []
        for at in range(number):
            prompt = f"{campaign}: where is parcel {at}?"
            made.append((self.answer(f"It is near {at}.", prompt), self.answer(f"It is far {at}.", prompt)))
        return add_comparisons(self.store, self.project, made, purpose, campaign, votes_wanted)  # type: ignore[arg-type]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(open_store(tmp_path / "store"))


@pytest.fixture
def desk_at() -> Callable[[Path], Desk]:
    return lambda path: Desk(open_store(path))
