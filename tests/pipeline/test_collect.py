"""Collecting: which answers are sampled, and which of them are compared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from burnish.feedback import comparisons
from burnish.pipeline import Project
from burnish.pipeline.collect import collect_pairs
from burnish.progress import Silent
from burnish.records import Record

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"
[data]
train = "rows.jsonl"
[evaluate]
max_new_tokens = 6
[feedback]
pairs = 7
{keys}
"""


def collected(folder: Path, base: Path, keys: str = "") -> tuple[Project, Record]:
    torch.set_num_threads(1)
    rows = "".join(f'{{"prompt": "Where is parcel {n}?", "completion": "At gate {n}."}}\n' for n in range(10))
    (folder / "rows.jsonl").write_text(rows)
    (folder / "tiny.toml").write_text(RECIPE.format(base=base, keys=keys))
    project = Project(folder / "tiny.toml", progress=Silent())
    dataset = project.prepare()
    made = collect_pairs(
        project.recipe, project.base(), dataset, 1, project.recipe.feedback.pairs, project.store, project.cache,
        Silent(),
    )  # fmt: skip
    return project, made


@pytest.mark.parametrize(("answers", "prompts", "sampled"), [(2, 7, 14), (3, 4, 12), (4, 3, 12), (8, 1, 8)])
def test_each_answer_is_compared_with_the_next(
    tmp_path: Path, tiny_model_folder: Path, answers: int, prompts: int, sampled: int
) -> None:
    project, made = collected(tmp_path, tiny_model_folder, f"answers = {answers}")
    items = comparisons(project.store, "tiny", made.body["campaign"])
    said = project.store.exchanges.recent("tiny", 100, purpose="feedback")
    assert len({exchange.prompt for exchange in said}) == prompts and len(said) == sampled
    assert len(items) == 7 - made.body["equal"] and made.body["equal"] <= 1
    if answers > 2:
        often = Counter(id for item in items for id in (item.a, item.b))
        assert max(often.values()) == 2
    names = {(item.a[-1], item.b[-1]) for item in items}
    assert names <= {(a, b) for a, b in zip("abcdefg", "bcdefgh", strict=True)}


def test_an_interrupted_run_samples_nothing_twice(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("burnish.pipeline.collect.add_comparisons", full)
        collected(tmp_path, tiny_model_folder, "answers = 4")
    monkeypatch.setattr("burnish.pipeline.collect.load_version", full)  # all answers are there: no model is asked
    project, made = collected(tmp_path, tiny_model_folder, "answers = 4")
    assert len(project.store.exchanges.recent("tiny", 100, purpose="feedback")) == 12 and made.body["comparisons"] >= 6
