"""Texts, data rows and exchanges come back as they went in, and a digest tells nothing."""

from __future__ import annotations

import pytest

from burnish.errors import StoreError
from burnish.records import Document, Message, Row
from burnish.store import Store
from store.samples import PROJECT, dataset, exchange, row, version, work


def test_a_text_comes_back(store: Store) -> None:
    payloads = [{"said": "Grüße \x00 \ud800", "n": [1.5, None]}, "plain", None, 7, []]
    with store.write() as conn:
        refs = [store.texts.add(conn, PROJECT, payload) for payload in payloads]
    with store.read() as conn:
        found = store.texts.get(conn, [ref.id for ref in refs] + ["nothing"])
    assert [found[ref.id] for ref in refs] == payloads
    assert "nothing" not in found


def test_equal_texts_have_different_digests(store: Store) -> None:
    """Without a salt, anybody could check a guess at an erased text against its digest."""
    with store.write() as conn:
        refs = [store.texts.add(conn, PROJECT, "yes") for _ in range(3)]
    assert len({ref.digest for ref in refs}) == 3


def test_many_texts_are_more_than_one_statement_holds(store: Store) -> None:
    made = dataset(store, [row(number, f"question {number}") for number in range(1, 1301)])
    assert [r.number for r in store.datasets.rows(made.id, "train")] == list(range(1, 1301))
    with store.write() as conn:
        ids = [store.texts.add(conn, PROJECT, number).id for number in range(1100)]
        assert list(store.texts.get(conn, ids).values()) == list(range(1100))


def test_rows_come_back_by_split_and_in_order(store: Store) -> None:
    full = Row(
        prompt=(Message("system", "Be kind."), Message("user", "Hello?"), Message("assistant", "Yes?")),
        answer=None,
        number=17,
        subject="anna",
        case="c1",
        documents=(Document("d", "Terms", "No refunds."),),
    )
    made = work("dataset", "data")

    def within(conn: object) -> None:
        store.datasets.add(conn, made.id, "train", [row(2, "b"), row(1, "a")])  # type: ignore[arg-type]
        store.datasets.add(conn, made.id, "test", [full])  # type: ignore[arg-type]
        store.datasets.add(conn, made.id, "dev", [])  # type: ignore[arg-type]

    store.once(made, dict, within=within)
    assert store.datasets.rows(made.id, "train") == [row(2, "b"), row(1, "a")]
    assert store.datasets.rows(made.id, "test") == [full]
    assert store.datasets.rows(made.id, "dev") == store.datasets.rows("dataset-0", "train") == []


def test_a_dataset_never_changes(store: Store) -> None:
    made = dataset(store, [row(1, "hello")])
    with pytest.raises(StoreError, match="is there"), store.write() as conn:
        store.datasets.add(conn, made.id, "train", [row(2, "more")])
    with pytest.raises(StoreError, match="no dataset"), store.write() as conn:
        store.datasets.add(conn, "dataset-0000", "train", [row(2, "more")])
    assert len(store.datasets.rows(made.id, "train")) == 1


def test_an_exchange_comes_back(store: Store) -> None:
    made = version(store)
    full = exchange(
        "e1",
        made,
        subject="anna",
        case="c1",
        documents=(Document("d", "Terms", "No refunds."),),
        settings={"temperature": 0.7},
        latency_ms=12,
        delivery="draft",
    )
    plain = exchange("e2", made, purpose="evaluate")
    with store.write() as conn:
        store.exchanges.add(conn, full)
        store.exchanges.add(conn, plain)
    assert store.exchanges.get("e1") == full
    assert store.exchanges.many(["e2", "no", "e1", "e2"]) == {"e2": plain, "e1": full}
    assert store.exchanges.recent(PROJECT, 5) == [plain, full]
    assert store.exchanges.recent(PROJECT, 5, purpose="chat") == [full]
    assert store.exchanges.recent(PROJECT, 1) == [plain]
    assert store.exchanges.recent("other", 1) == []
    with pytest.raises(StoreError, match="no exchange"):
        store.exchanges.get("e3")
