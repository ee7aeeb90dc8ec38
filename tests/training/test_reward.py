"""The reward stage on the tiny model: what it learns from, what chooses, and what measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.feedback import add_comparisons, snapshot, votes
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Message, Record
from burnish.rewards.pairs import pairs_of
from burnish.training import settings
from burnish.training.judged import in_parts
from burnish.training.reward import train_reward
from training.test_judged import Asked

REWARD = """
name = "tiny"
task = "chat"
base = "{base}"
[data]
train = "rows.jsonl"
[reward]
min_comparisons = 40
layers = 1
{keys}
[rl]
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Asked:
    """A project with one vote on each of 200 pairs, two pairs a prompt; one vote in ten is the other way round."""
    torch.set_num_threads(1)
    made = Asked(tmp_path_factory.mktemp("reward"), tiny_model_folder, prompts=100)
    for number, item in enumerate(made.items):
        made.compares(made.ann, item, "b" if number % 10 == 3 else "a")
    return made


def run(asked: Asked, keys: str) -> tuple[Project, Record]:
    (asked.folder / "tiny.toml").write_text(REWARD.format(base=asked.base, keys=keys))
    project = Project(asked.folder / "tiny.toml", progress=Silent())
    frozen = snapshot(project.store, "tiny", (asked.version,), 0, ("human",))
    return project, train_reward(project.recipe, asked.version, frozen, project.store, project.cache, Silent())


def test_it_keeps_what_was_best_on_pairs_that_it_neither_learns_nor_is_measured_on(asked: Asked) -> None:
    keys = "learning_rate = 0.1\nepochs = 3\nearly_stopping = 2\nevaluate_every = 2\nbatch_size = 10"
    project, record = run(asked, keys)
    pairs, lines = record.body["pairs"], project.store.metrics(record)
    assert sum(pairs.values()) == 200 and min(pairs.values()) >= 8
    looks = {line["step"]: line for line in lines if "held_out" in line}
    best = min(looks, key=lambda step: (looks[step]["held_out"], step))
    assert record.body["updates"] == best < max(looks) and 0 not in looks
    assert {"held_out_accuracy", "held_out_margin"} <= set(looks[best])
    assert record.body["settings"]["batch_size"] == {"value": 10, "why": "recipe"}
    assert record.body["accuracy"]["value"] > 0.7


def test_without_looks_every_pair_but_the_measured_ones_is_learned(asked: Asked) -> None:
    project, record = run(asked, 'epochs = 1\nearly_stopping = "off"')
    pairs = record.body["pairs"]
    assert pairs["looked_at"] == 0 and pairs["learned"] + pairs["held_out"] == 200
    assert record.body["settings"]["batch_size"]["value"] == 16
    assert record.body["updates"] == -(-pairs["learned"] // 16) and record.body["stopped"] is None
    assert not any("held_out" in line for line in project.store.metrics(record))


def test_a_long_run_probes_its_rate_on_pairs_that_it_does_not_learn(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PROBE_SHARE", 0.9)
    _, record = run(asked, "epochs = 4")
    pairs, rate = record.body["pairs"], record.body["settings"]["learning_rate"]
    assert pairs["looked_at"] > 0 and record.body["settings"]["early_stopping"]["value"] == "off"
    assert f"loss on {pairs['looked_at']} unseen rows after" in rate["why"]


def test_answers_compared_with_each_other_are_run_once(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Three pairs a prompt of four answers: what is learned is counted in pairs, what is run in answers."""
    torch.set_num_threads(1)
    made = Asked(tmp_path, tiny_model_folder, prompts=0)
    texts = ("It left today.", "It leaves at ten.", "Perhaps.", "Who knows?")
    ids = [[made.answer(n, f"{text} {n}") for text in texts] for n in range(80)]
    pairs = [(group[place], group[place + 1]) for place in range(3) for group in ids]
    for item in add_comparisons(made.project.store, "tiny", pairs, "train", "c-1", 1):
        made.compares(made.ann, item, "a")
    project, record = run(made, "learning_rate = 0.1\nepochs = 2")
    numbers, lines = record.body["pairs"], project.store.metrics(record)
    assert sum(numbers.values()) == 240 and all(number % 3 == 0 for number in numbers.values())
    assert record.body["settings"]["batch_size"] == {"value": 5, "why": "16 pairs, 3.0 of them in a chain"}
    assert record.body["accuracy"]["value"] > 0.7
    run_first = next(line["tokens"] for line in lines if "tokens" in line)
    prompt = len(made.loaded.renderer.prompt((Message("user", "Where is parcel 10?"),)))
    answers = sum(len(made.loaded.renderer.answer(f"{text} 10")) for text in texts)
    assert run_first <= 5 * (prompt + answers)  # as trees of pairs the same window would have three prompts for one


def test_all_pairs_of_a_prompt_are_in_one_part(asked: Asked) -> None:
    store, render = asked.project.store, asked.loaded.renderer
    found = pairs_of(store, votes(store, "tiny", 10**6, ("compare",), ("human",), purpose="train"), render, 512)
    parts = in_parts([pair.cluster for pair in found], seed=5)
    assert sorted(place for part in parts for place in part) == list(range(200))
    clusters = [{found[place].cluster for place in part} for part in parts]
    assert all(clusters) and not (clusters[0] & clusters[1] or clusters[0] & clusters[2] or clusters[1] & clusters[2])
