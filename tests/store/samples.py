"""A small store's content: a dataset, versions of it, exchanges, raters and votes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from burnish.records import Exchange, Message, Record, Row
from burnish.store import Store, Work, append, now, open_store
from burnish.store.schema import comparisons, promotions, raters, votes

PROJECT = "support"


def new_store(folder: Path) -> Store:
    return open_store(folder / ".burnish")


def work(kind: str = "version", stage: str = "sft", parents: tuple[Record, ...] = (), **changes: object) -> Work:
    values: dict = {"version": 1, "settings": {"learning_rate": 0.001}, "seed": 7, "project": PROJECT}
    return Work(kind=kind, stage=stage, parents=parents, **(values | changes))


def row(number: int, said: str, answer: str = "Open the settings.", subject: str | None = None) -> Row:
    return Row((Message("user", said),), answer, number, subject=subject)


def dataset(store: Store, rows: list[Row], **changes: object) -> Record:
    made = work("dataset", "data", **changes)
    return store.once(
        made, lambda: {"rows": len(rows)}, within=lambda conn: store.datasets.add(conn, made.id, "train", rows)
    )


def version(store: Store, parents: tuple[Record, ...] = (), **changes: object) -> Record:
    return store.once(work(parents=parents, **changes), lambda: {"stage": "sft"})


def exchange(id: str, made: Record, said: str = "Where is it?", **changes: object) -> Exchange:
    values: dict = {
        "id": id,
        "project": PROJECT,
        "version": made.id,
        "purpose": "chat",
        "prompt": (Message("system", "You help with orders."), Message("user", said)),
        "answer": "On its way.",
        "prompt_ids": (1, 2, 3),
        "answer_ids": (4, 5),
        "logprobs": (-0.5, -1.25),
        "finish_reason": "stop",
        "created_at": now(),
    }
    return Exchange(**(values | changes))


def rater(store: Store, name: str) -> str:
    id = f"rater-{name}"
    with store.write() as conn:
        conn.execute(insert(raters).values(id=id, project=PROJECT, name=name, source="human", created_at=now()))
    return id


def compare(store: Store, id: str, a: str, b: str) -> None:
    with store.write() as conn:
        values = {"id": id, "project": PROJECT, "a": a, "b": b, "purpose": "train", "campaign": "one"}
        conn.execute(insert(comparisons).values(**values, votes_wanted=2, prompt_key="key", created_at=now()))


def vote(store: Store, key: str, about: Exchange, rater: str, comment: str | None = None, **changes: object) -> int:
    with store.write() as conn:
        text = store.texts.add(conn, PROJECT, {"comment": comment}).id if comment else None
        values = {"project": PROJECT, "key": key, "kind": "rating", "exchange": about.id, "version": about.version}
        values |= {"value": 4, "rater_id": rater, "source": "human", "text_id": text}
        return append(conn, votes, values | changes)


def promote(store: Store, version: Record) -> int:
    with store.write() as conn:
        values = {"project": PROJECT, "action": "promote", "version": version.id, "by_whom": "anna"}
        return append(conn, promotions, values)
