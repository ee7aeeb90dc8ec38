"""Several reward models of the same votes, one for each half of them, and votes that teach no reward."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from burnish.errors import ConfigError, ModelError, TrainingError
from burnish.feedback import snapshot, votes
from burnish.models.artifacts import load_rewards
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Record
from burnish.rewards.halves import disjoint_halves, prompts_of
from burnish.store import derive_seed
from burnish.training.reward import train_reward
from training.test_judged import Asked

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"
[data]
train = "rows.jsonl"
[reward]
min_comparisons = 12
layers = 1
epochs = 1
{keys}
[rl]
{rewards}
"""


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def project_of(asked: Asked, keys: str = "", rewards: str = "") -> Project:
    (asked.folder / "tiny.toml").write_text(RECIPE.format(base=asked.base, keys=keys, rewards=rewards))
    return Project(asked.folder / "tiny.toml", progress=Silent())


def learned(asked: Asked, progress: Silent | None = None, **which: object) -> Record:
    project = project_of(asked)
    frozen = snapshot(project.store, "tiny", (asked.version,), 0, ("human",))
    return train_reward(
        project.recipe, asked.version, frozen, project.store, project.cache, progress or Silent(), **which
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Asked:
    """Ten prompts with two comparisons each: Ann says something on nine of them, Bob on eight."""
    torch.set_num_threads(1)
    made = Asked(tmp_path_factory.mktemp("models"), tiny_model_folder)
    for number, item in enumerate(made.items):
        made.compares(made.ann if number % 2 or number < 4 else made.bob, item, "b" if number % 5 == 3 else "a")
    return made


def test_members_differ_in_their_seed_alone_and_score_as_they_were_saved(asked: Asked) -> None:
    first, second = learned(asked), learned(asked, model=1)
    assert first.id != second.id and first.body["reward"] != second.body["reward"]
    assert first.body["votes"] == second.body["votes"] and first.body["raters"] == 2
    store = project_of(asked).store
    models = load_rewards(store, [first, second], None, like=asked.loaded)
    assert len(models) == 2
    shared = models[0].trunk.trunk.embed_tokens.weight
    assert models[1].trunk.trunk.embed_tokens.weight.data_ptr() == shared.data_ptr()


def test_how_many_models_there_are_trains_no_model_again(asked: Asked) -> None:
    before = learned(asked).id
    project = project_of(asked, keys="models = 3")
    frozen = snapshot(project.store, "tiny", (asked.version,), 0, ("human",))
    again = train_reward(project.recipe, asked.version, frozen, project.store, project.cache, Silent())
    assert again.id == before


def test_each_half_learns_from_raters_and_prompts_of_its_own(asked: Asked) -> None:
    store = project_of(asked).store
    cast = votes(store, "tiny", kinds=["compare"])
    halves = disjoint_halves(cast, prompts_of(store, cast), derive_seed(0, "halves"))
    assert len(halves.first) >= 5 and len(halves.second) >= 5
    for half, wanted in (("first", halves.first), ("second", halves.second)):
        body = learned(asked, half=half).body
        assert sum(body["pairs"].values()) == len(wanted) and body["raters"] == 1


def test_a_reward_model_of_another_tokenizer_is_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    store, record = project_of(asked).store, learned(asked)
    other = dataclasses.replace(asked.version, body={**asked.version.body, "tokenizer": "0" * 64})
    monkeypatch.setattr(store, "record", lambda id: other)
    with pytest.raises(ModelError, match="whose tokenizer is another one"):
        load_rewards(store, [record], None, like=asked.loaded)


def test_a_penalty_needs_several_models(asked: Asked) -> None:
    penalised = '[[rl.rewards]]\nkind = "learned"\nuncertainty_penalty = 0.5\n'
    with pytest.raises(ConfigError, match=r"needs several models: set reward\.models"):
        project_of(asked, rewards=penalised)
    assert project_of(asked, "models = 2", penalised).recipe.rl is not None


@pytest.mark.parametrize(
    ("choice", "number", "said"),
    [("a", 0, "no comparisons yet"), ("a", 5, "5 votes to learn from"), ("tie", 12, "every vote is a tie")],
)
def test_votes_that_teach_no_reward(
    tmp_path: Path, tiny_model_folder: Path, choice: str, number: int, said: str
) -> None:
    made = Asked(tmp_path, tiny_model_folder)
    for item in made.items[:number]:
        made.compares(made.ann, item, choice)
    with pytest.raises(TrainingError, match=said):
        learned(made)


def test_one_rater_is_learned_from_with_a_word_on_what_cannot_be_known(tmp_path: Path, tiny_model_folder: Path) -> None:
    made, heard = Asked(tmp_path, tiny_model_folder), Heard()
    for number, item in enumerate(made.items[:12]):
        made.compares(made.ann, item, "ab"[number % 2])
    assert learned(made, heard).body["raters"] == 1
    assert any("one rater" in line and "cannot be known" in line for line in heard.lines)
    with pytest.raises(TrainingError, match="make no two halves"):
        learned(made, half="first")
