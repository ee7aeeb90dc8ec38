"""Records: the key is what went in, finished work is not done twice, lineage is what came of what."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy
import pytest

from burnish.errors import StoreError
from burnish.records import Record
from burnish.store import Store, derive_seed, open_store
from store.samples import PROJECT, dataset, new_store, row, version, work


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, what: str, done: int, total: int, note: str = "") -> None: ...


def test_equal_work_is_done_once(store: Store) -> None:
    calls: list[int] = []

    def make() -> dict[str, object]:
        calls.append(1)
        return {"loss": 1.5, "steps": [1, 2]}

    first = store.once(work(), make)
    assert store.once(work(), make) == first == store.find(work())
    assert calls == [1]
    assert first.body == {"loss": 1.5, "steps": [1, 2]}
    assert first.id == f"version-{first.key[:16]}" == work().id


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"settings": {"learning_rate": 0.002}},
        {"settings": {"learning_rate": 0.001, "epochs": 1}},
        {"seed": 8},
        {"project": "other"},
        {"kind": "reward"},
        {"stage": "rl"},
    ],
)
def test_the_key_holds_everything_that_went_in(changed: dict[str, object]) -> None:
    assert work(**changed).key != work().key  # type: ignore[arg-type]
    assert work(settings={"b": 1, "a": (1, 2)}).key == work(settings={"a": [1, 2], "b": 1}).key


def test_the_key_holds_the_content_and_the_order_of_the_inputs(store: Store) -> None:
    one, two = version(store), version(store, seed=8)
    keys = {work(seed=9, parents=parents).key for parents in [(), (one,), (one, two), (two, one)]}
    assert len(keys) == 4
    same_inputs_other_content = Record(**{**_fields(one), "digest": "0" * 64})
    assert work(seed=9, parents=(same_inputs_other_content,)).key != work(seed=9, parents=(one,)).key


def test_keys_and_digests_are_the_same_in_every_store(tmp_path: Path) -> None:
    chains = []
    for name in ("one", "two"):
        store = new_store(tmp_path / name)
        first = dataset(store, [row(1, "hello")])
        second = version(store, (first,))
        chains.append([(record.id, record.key, record.digest) for record in (first, second)])
        store.close()
    assert chains[0] == chains[1]


def test_work_that_fails_leaves_no_record(store: Store) -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.once(work(), fail)
    made = work("dataset", "data")

    def half(conn: object) -> None:
        store.datasets.add(conn, made.id, "train", [row(1, "hello")])  # type: ignore[arg-type]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.once(made, dict, within=half)
    assert store.records(PROJECT) == []
    assert store.datasets.rows(made.id, "train") == []
    assert store.verify().checked == 1  # the database file alone


def test_two_that_do_the_same_work_at_once_write_one_record(store: Store) -> None:
    both = threading.Barrier(2)
    got: list[Record] = []

    def make() -> dict[str, object]:
        both.wait(timeout=30)
        return {"stage": "sft"}

    threads = [threading.Thread(target=lambda: got.append(store.once(work(), make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1]
    assert len(store.records(PROJECT)) == 1


def test_a_stage_that_runs_again_says_why(store: Store) -> None:
    heard = Heard()
    data, other = dataset(store, [row(1, "hello")]), dataset(store, [row(1, "hi")], seed=3)
    tables = {"sft": {"learning_rate": 0.001, "epochs": 1}, "adapt": {"rank": 16}}

    def run(changed: dict[str, object], parents: tuple[Record, ...] = (data,), **more: object) -> None:
        store.once(work(parents=parents, settings=changed, **more), dict, progress=heard)

    run(tables)
    assert heard.lines == []
    run(tables)
    assert heard.lines == []
    run(tables | {"sft": {"learning_rate": 0.0005, "epochs": 1}})
    assert heard.lines.pop() == "sft runs again: sft.learning_rate changed 0.001 -> 0.0005"
    run(tables | {"adapt": {"rank": 8}}, seed=8)
    why = "sft runs again: adapt.rank changed 16 -> 8; sft.learning_rate changed 0.0005 -> 0.001; seed changed 7 -> 8"
    assert heard.lines.pop() == why
    run(tables | {"adapt": {"rank": 8}}, (other,), seed=8, version=2)
    assert heard.lines.pop() == f"sft runs again: the stage itself changed (1 -> 2); new input {other.id}"
    store.once(work("evaluation", "evaluate", settings={"items": 4}), dict, progress=heard)
    store.once(work("evaluation", "evaluate", settings={"items": 5}), dict, progress=heard)
    assert heard.lines == ["evaluate runs again: evaluate.items changed 4 -> 5"]


def test_a_stage_that_was_interrupted_and_begins_anew_says_why(store: Store) -> None:
    heard = Heard()
    first, second = {"sft": {"learning_rate": 0.001}}, {"sft": {"learning_rate": 0.0005}}
    folder = store.begin(work(settings=first))
    assert folder == store.work_folder(work(settings=first)) and store.begin(work(settings=first)) == folder
    assert store.why_again(work(settings=first)) is None  # it goes on
    assert store.why_again(work(settings=first, project="other")) is None
    assert store.why_again(work("reward", "reward", settings=second)) is None
    said = "sft begins anew, its interrupted run is left: sft.learning_rate changed 0.001 -> 0.0005"
    assert store.why_again(work(settings=second)) == said
    store.begin(work(settings=second))
    store.once(work(settings=second), dict, progress=heard)
    assert heard.lines == []
    third = work(settings={"sft": {"learning_rate": 0.002}})
    assert store.why_again(third) == "sft runs again: sft.learning_rate changed 0.0005 -> 0.002"


def test_versions_are_numbered_per_project_in_order_of_creation(store: Store) -> None:
    names = [version(store, seed=seed).name for seed in range(11)]
    assert names == [f"support@{number}" for number in range(11)]
    assert version(store, seed=11).name == "support@11"
    assert version(store, project="support-2").name == "support-2@0"
    assert dataset(store, [row(1, "hello")]).name is None
    assert [record.name for record in store.records(PROJECT, "version")][:3] == ["support@0", "support@1", "support@2"]


def test_a_name_is_given_once(store: Store) -> None:
    store.once(work(), dict, name="support@0")
    with pytest.raises(StoreError, match="taken"):
        store.once(work(seed=8), dict, name="support@0")
    with pytest.raises(StoreError, match="no version name"):
        store.once(work(seed=8), dict, name="best")


def test_a_record_is_found_by_id_beginning_and_name(store: Store) -> None:
    first, data = version(store), dataset(store, [row(1, "hello")])
    assert store.record(first.id) == store.record("support@0") == store.record(first.id[:14]) == first
    assert store.record("dataset") == data
    version(store, seed=8)
    with pytest.raises(StoreError, match="fits 2 records"):
        store.record("version-")
    with pytest.raises(StoreError, match="did you mean support@"):
        store.record("suport@0")
    for odd in ("%", "_ersion", "", "'"):
        with pytest.raises(StoreError, match="no record"):
            store.record(odd)


def test_lineage_goes_both_ways(store: Store) -> None:
    data = dataset(store, [row(1, "hello")])
    sft = version(store, (data,))
    reward = store.once(work("reward", "reward", (sft, data)), dict)
    policy = version(store, (sft, reward), stage="rl")
    aside = version(store, seed=9)
    assert [parent.id for parent in store.parents(reward.id)] == [sft.id, data.id]
    assert reward.parents == (sft.id, data.id)
    assert [child.id for child in store.children(sft.id)] == [reward.id, policy.id]
    middle = store.lineage(reward.id)
    assert (middle.record, middle.ancestors, middle.descendants) == (reward, (data, sft), (policy,))
    assert store.lineage("support@1").ancestors == (data, sft, reward)
    assert store.lineage(aside.id).ancestors == store.lineage(aside.id).descendants == ()


def test_a_long_lineage(store: Store) -> None:
    last = version(store, seed=1000)
    for seed in range(60):
        last = version(store, (last,), seed=seed)
    assert len(store.lineage(last.id).ancestors) == 60


def test_numbers_come_back_as_they_were(store: Store) -> None:
    body = {
        "nan": math.nan,
        "low": [-math.inf, {"high": math.inf}],
        "whole": 3,
        "none": None,
        "yes": True,
        "é": "ü\x00",
    }
    back = store.once(work(), lambda: body).body
    assert math.isnan(back["nan"])
    assert {**back, "nan": 0} == {**body, "nan": 0}
    assert type(back["whole"]) is int and back["yes"] is True
    assert store.verify().problems == []


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {1, 2}}, {"a": [numpy.float32(1)]}, {"a": Path("x")}])
def test_what_is_no_json_is_refused_with_its_place(store: Store, value: dict) -> None:
    with pytest.raises(StoreError, match=r"figures"):
        store.once(work(), lambda: {"figures": value})
    assert store.records(PROJECT) == []


def test_what_made_a_record_is_known(store: Store) -> None:
    made = store.made_with(version(store).id)
    assert made["settings"] == {"learning_rate": 0.001}
    assert (made["stage"], made["stage_version"], made["seed"]) == ("sft", 1, 7)
    assert made["libraries"]["numpy"] == numpy.__version__


def test_the_folder_of_a_work_is_its_own(store: Store) -> None:
    assert store.work_folder(work()) == store.path / "runs" / work().key[:16]
    assert store.work_folder(work(seed=8)) != store.work_folder(work())


def test_once_inside_a_write_is_refused_before_any_work(store: Store) -> None:
    def make() -> dict[str, object]:
        raise AssertionError("it ran")

    with store.write(), pytest.raises(StoreError, match="inside a write"):
        store.once(work(), make)


def test_a_record_survives_reopening(store: Store) -> None:
    made = version(store)
    again = open_store(store.path)
    assert again.record("support@0") == made
    assert again.projects() == [PROJECT]
    again.close()


def test_seeds_derive_from_the_seed_and_the_names() -> None:
    seeds = [derive_seed(0, "sft"), derive_seed(0, "rl"), derive_seed(1, "sft"), derive_seed(0, "sft", "data")]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(0, "sft") == seeds[0] == 1229759203
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")


def _fields(record: Record) -> dict:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}
