"""A reward of several parts and several models, by the turn that trains them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.pipeline import Project
from pipeline.conftest import make_project
from pipeline.test_circle import burnish, store_of
from pipeline.test_parts import Heard
from pipeline.test_preference import make as pairs_project

ROWS = """
[reward]
learn_from = ["rows"]
layers = 1
learning_rate = 1e-2

[rl]
updates = 2
prompts = 4
group = 2
"""

PARTS = """
[[rl.rewards]]
kind = "learned"
uncertainty_penalty = 0.5
normalise = "running"

[[rl.rewards]]
kind = "length"
longest = 8
weight = 0.5
"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (
            '[[rl.rewards]]\nkind = "learned"\n[[rl.rewards]]\nkind = "judge"\nmodel = "m"\n',
            'reward is a judge, and BURNISH_JUDGE_URL is ""',
        ),
        ('sampler = "server"\n', "needs BURNISH_SAMPLER_URL, which is ''"),
    ],
)
def test_nothing_is_spent_before_it_is_known_where_a_server_is(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, added: str, said: str
) -> None:
    for name in ("BURNISH_JUDGE_URL", "BURNISH_SAMPLER_URL"):
        monkeypatch.delenv(name, raising=False)
    recipe = make_project(tmp_path, tiny_model_folder)
    recipe.write_text(recipe.read_text() + added)
    for command in (("check", "--no-time"), ("train",)):
        assert said in burnish(command[0], recipe, *command[1:], code=2)
    assert not store_of(recipe).records("tiny", "version")


def test_two_reward_models_and_a_rule_pay_together(tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = make_project(tmp_path, tiny_model_folder)
    text = recipe.read_text().replace("[reward]\n", "[reward]\nmodels = 2\n").replace("updates = 4", "updates = 2")
    recipe.write_text(text.replace("epochs = 2", "epochs = 1") + PARTS)
    heard = Heard()
    project = Project(recipe, progress=heard)
    made = project.train().records
    assert set(made["candidate"].parents) > {made["reward"].id, made["reward-2"].id}
    assert not any("runs again" in line for line in heard.lines)  # the second is no repetition of the first
    figures = next(line for line in project.store.metrics(made["candidate"]) if "reward/learned" in line)
    assert figures["reward/learned/uncertainty"] > 0.0
    assert {"reward/learned", "reward/length", "dev_reward/learned", "dev_reward/length"} <= set(figures)


def test_criteria_are_voted_on_once_and_weighed_anew_without_learning_the_reward_again(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    recipe = make_project(tmp_path, tiny_model_folder)
    asked = '[feedback]\ncriteria = ["solves it", "house style"]\n'
    text = recipe.read_text().replace("[feedback]\n", asked).replace("updates = 4", "updates = 2")
    made = []
    for weights in ('"solves it" = 0.7, "house style" = 0.3', '"house style" = 1.0'):
        recipe.write_text(text.replace("[reward]\n", f"[reward]\ncriteria = {{ {weights} }}\n"))
        project = Project(recipe, progress=Heard())
        made.append(project.train().records)
    first, second = made
    assert first["reward"].id == second["reward"].id and first["candidate"].id != second["candidate"].id
    body = first["snapshot"].body
    assert {name: said["votes"] for name, said in body["criteria"].items()} == dict.fromkeys(
        ("solves it", "house style"), body["votes"]
    )
    shown = second["candidate"].body["settings"]["criteria"]
    assert shown == {"value": {"house style": 1.0}, "why": "recipe"}
    figures = next(line for line in project.store.metrics(second["candidate"]) if "reward/learned" in line)
    assert figures["reward/learned/house style"] == figures["reward/learned"] != figures["reward/learned/solves it"]
    assert {"reward/learned/overall", "dev_reward/learned/solves it"} <= set(figures)
    recipe.write_text(text.replace('"solves it"', '"tone"'))
    assert 'the simulated raters know nothing about "tone"' in burnish("check", recipe, code=2)


def test_a_reward_from_a_file_of_pairs_waits_for_no_votes(tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = pairs_project(tmp_path, tiny_model_folder, ROWS)
    burnish("train", recipe)
    store = store_of(recipe)
    (reward,) = store.records("tiny", "reward")
    assert reward.body["rows"] == sum(reward.body["pairs"].values()) == 48
    assert reward.body["votes"] == {} and reward.body["agreement"] is None and reward.body["raters"] == 0
    assert reward.body["accuracy"]["value"] == 1.0  # the better answer is always the same sentence
    (dataset,) = store.records("tiny", "dataset")
    assert dataset.id in reward.parents and not store.records("tiny", "snapshot")
    rl = next(v for v in store.records("tiny", "version") if v.body["stage"] == "rl")
    assert reward.id in rl.parents


def test_a_reward_refuses_rows_with_one_answer(tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = pairs_project(tmp_path, tiny_model_folder, ROWS)
    row = {"messages": [{"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": "No."}]}
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write(json.dumps(row | {"label": "good"}) + "\n")
    said = burnish("train", recipe, code=2)
    assert "a reward compares two answers, and 1 rows of data.preferences have one with a label" in said


def test_rows_cannot_be_split_between_two_watching_models(tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = pairs_project(tmp_path, tiny_model_folder, ROWS.replace("group = 2", "group = 2\nwatch = true"))
    assert "rl.watch splits votes by who cast them, and rows name nobody" in burnish("check", recipe, code=2)
