"""What gc deletes can be made again, and what a stage still needs stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import StoreError
from burnish.store import Store, Work, open_store


def work_of(seed: int) -> Work:
    return Work("version", "sft", 1, {}, (), seed, "support")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One finished and one unfinished work with checkpoints, and a cache."""
    store = open_store(tmp_path / "store")
    store.once(work_of(1), dict)
    for seed in (1, 2):
        folder = store.work_folder(work_of(seed))
        for name in ("checkpoint", "best"):
            (folder / name).mkdir(parents=True)
            (folder / name / "tensors.safetensors").write_bytes(b"x" * 100)
        (folder / "metrics.jsonl").write_text("{}\n")
    (store.cache / "boundaries").mkdir(parents=True)
    (store.cache / "boundaries" / "a.safetensors").write_bytes(b"x" * 1000)
    return store


def test_finished_work_keeps_its_log_and_unfinished_work_everything(store: Store) -> None:
    freed = store.collect_garbage()
    assert freed.bytes == 1200
    done, open_work = (store.work_folder(work_of(seed)) for seed in (1, 2))
    assert [path.name for path in done.iterdir()] == ["metrics.jsonl"]
    assert sorted(path.name for path in open_work.iterdir()) == ["best", "checkpoint", "metrics.jsonl"]
    assert not (store.cache / "boundaries").exists()
    assert store.collect_garbage().bytes == 0
    assert not store.verify().problems


def test_a_dry_run_deletes_nothing(store: Store) -> None:
    assert store.collect_garbage(dry=True).bytes == 1200
    assert store.collect_garbage(dry=True).bytes == 1200


def test_not_while_a_run_holds_the_store(store: Store) -> None:
    with store.run_lock("burnish run"), pytest.raises(StoreError, match="burnish run"):
        store.collect_garbage()
