"""Votes as what the preference stage learns from: pairs with shares, thumbs as labels, a prompt on one side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from burnish.errors import TrainingError
from burnish.feedback import add_comparisons, ensure_rater, record_vote, snapshot
from burnish.feedback.comparisons import left_side
from burnish.models.artifacts import Loaded, load_version
from burnish.objectives.methods import METHODS
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Comparison, Exchange, Message, Record, VoteKind
from burnish.rewards.pairs import labels_of
from burnish.store import now
from burnish.training.judged import Judged, gather_judged

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"
[data]
train = "rows.jsonl"
[preference]
method = "{method}"
learn_from = {kinds}
held_out = {held_out}
"""


class Asked:
    """A project whose answers people judge; ``items`` are its comparisons, two on each prompt."""

    def __init__(self, folder: Path, base: Path, prompts: int = 10) -> None:
        (folder / "rows.jsonl").write_text('{"prompt": "Are you there?", "completion": "Yes."}\n')
        self.folder, self.base = folder, base
        self.project = self.of("dpo", '["compare"]')
        self.version: Record = self.project.base()
        self.loaded: Loaded = load_version(self.project.store, self.version, self.project.cache)
        self.ann, self.bob = (ensure_rater(self.project.store, "tiny", name) for name in ("ann", "bob"))
        ids = [
            (self.answer(n // 2, f"It left {n}."), self.answer(n // 2, f"Who knows {n}?")) for n in range(2 * prompts)
        ]
        self.items: Sequence[Comparison] = add_comparisons(self.project.store, "tiny", ids, "train", "c-1", 1)

    def of(self, method: str, kinds: str, held_out: float = 0.0) -> Project:
        text = RECIPE.format(base=self.base, method=method, kinds=kinds, held_out=held_out)
        (self.folder / "tiny.toml").write_text(text)
        return Project(self.folder / "tiny.toml", progress=Silent())

    def answer(self, prompt: int, text: str) -> str:
        asked, render = (Message("user", f"Where is parcel {prompt}?"),), self.loaded.renderer
        ids = render.answer(text)
        exchange = Exchange(
            id=f"x-{text}", project="tiny", version=self.version.id, purpose="feedback", prompt=asked, answer=text,
            prompt_ids=tuple(render.prompt(asked)), answer_ids=tuple(ids), logprobs=(-1.0,) * len(ids),
            finish_reason="stop", created_at=now(),
        )  # fmt: skip
        with self.project.store.write() as conn:
            self.project.store.exchanges.add(conn, exchange)
        return exchange.id

    def compares(self, rater: str, item: Comparison, choice: str, **criteria: str) -> None:
        """Choose "a", "b" or "tie", by each criterion too."""
        left = left_side(item.id, rater)
        seen = {"tie": "tie", left: "left", "b" if left == "a" else "a": "right"}
        record_vote(
            self.project.store, "tiny", rater, "compare", key=f"{rater} {item.id}", comparison=item.id,
            choice=seen[choice], criteria={name: seen[side] for name, side in criteria.items()}, asked=list(criteria),
        )  # type: ignore[arg-type]  # fmt: skip

    def thumbs(self, rater: str, exchange: str, value: int) -> None:
        record_vote(
            self.project.store, "tiny", rater, "thumb", key=f"{rater} {exchange}", exchange=exchange, value=value
        )

    def judged(self, method: str, kinds: str, held_out: float = 0.0) -> Judged:
        project = self.of(method, kinds, held_out)
        frozen = snapshot(project.store, "tiny", (self.version,), 0, ("human",))
        return gather_judged(project.recipe, METHODS[method], self.loaded, [], frozen, project.store, 0)


@pytest.fixture
def asked(tmp_path: Path, tiny_model_folder: Path) -> Asked:
    torch.set_num_threads(1)
    return Asked(tmp_path, tiny_model_folder)


def test_a_pair_has_the_share_and_the_number_of_its_votes(asked: Asked) -> None:
    for rater, item, choice in ((asked.ann, 0, "a"), (asked.bob, 0, "b"), (asked.ann, 2, "b"), (asked.bob, 2, "b")):
        asked.compares(rater, asked.items[item], choice)
    found = asked.judged("dpo", '["compare"]').trees
    assert [dict(tree.streams) for tree in found] == [
        {"preference": 0.5, "votes": 2.0},
        {"preference": 0.0, "votes": 2.0},
    ]
    text = asked.loaded.renderer.text
    assert [[text(a.ids) for a in tree.answers] for tree in found][1] == ["It left 2.", "Who knows 2?"]
    halves = asked.judged("kto", '["compare"]').trees
    assert [tree.streams["label"] for tree in halves] == [0.5, 0.5, 0.0, 1.0]
    assert all(tree.streams["votes"] == 2.0 and tree.mismatched is not None for tree in halves)


def test_thumbs_are_labels_with_the_share_of_good_ones(asked: Asked) -> None:
    for rater, exchange, value in (
        (asked.ann, "x-It left 1.", 1), (asked.bob, "x-It left 1.", 1),
        (asked.ann, "x-It left 4.", 1), (asked.bob, "x-It left 4.", -1), (asked.bob, "x-Who knows 6?", -1),
    ):  # fmt: skip
        asked.thumbs(rater, exchange, value)
    found = asked.judged("kto", '["thumb"]').trees
    assert [(t.streams["label"], t.streams["votes"]) for t in found] == [(1.0, 2.0), (0.5, 2.0), (0.0, 1.0)]
    assert [asked.loaded.renderer.text(t.answers[0].ids) for t in found] == ["It left 1.", "It left 4.", "Who knows 6?"]
    for tree in found:  # the mismatched answer is that of another prompt
        assert tree.mismatched is not None and list(tree.mismatched.ids) != list(tree.answers[0].ids)


def test_too_long_an_answer_is_left_out(asked: Asked) -> None:
    from burnish.feedback import votes

    asked.thumbs(asked.ann, "x-It left 1.", 1)
    kinds: tuple[VoteKind, ...] = ("thumb",)
    said = votes(asked.project.store, "tiny", kinds=kinds)
    assert len(labels_of(asked.project.store, said, 512)) == 1
    assert labels_of(asked.project.store, said, 10) == []


def test_all_votes_on_one_prompt_are_on_one_side(asked: Asked) -> None:
    for item in asked.items:
        asked.compares(asked.ann, item, "a")
    found = asked.judged("dpo", '["compare"]', held_out=0.4)
    sides: dict[tuple[int, ...], set[bool]] = {}
    for tree, out in zip(found.trees, found.held, strict=True):
        sides.setdefault(tuple(tree.prompt), set()).add(out)
    assert len(sides) == 10 and all(len(side) == 1 for side in sides.values())
    assert {True} in sides.values() and {False} in sides.values()


def test_nothing_but_ties_is_an_error(asked: Asked) -> None:
    with pytest.raises(TrainingError, match="there is no preference to learn from"):
        asked.judged("dpo", '["compare"]')
    asked.compares(asked.ann, asked.items[0], "tie")
    with pytest.raises(TrainingError, match="every vote is a tie"):
        asked.judged("dpo", '["compare"]')
