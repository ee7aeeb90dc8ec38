"""One head for each criterion: what each learns, what weights change, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.errors import TrainingError
from burnish.feedback import snapshot, votes
from burnish.models.artifacts import load_reward
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Record
from burnish.rewards.criteria import weighed_centre
from burnish.rewards.front import front
from burnish.rewards.learned import score_answers, scores_by_head
from burnish.rewards.pairs import pairs_of
from burnish.training import online
from burnish.training import reward as reward_stage
from burnish.training.reward import train_reward
from training.test_judged import Asked
from training.test_reward_models import Heard

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"
[data]
train = "rows.jsonl"
[feedback]
criteria = {criteria}
[reward]
min_comparisons = 40
layers = 1
epochs = 3
learning_rate = 0.02
early_stopping = "off"
{weights}
[rl]
"""
BOTH = '["solves", "tone"]'


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Asked:
    """Two opposed criteria: the first kind of answer solves it, the second has the tone; all in all the first wins.

    Every other vote says nothing by criterion; one in ten is the other way round.
    """
    torch.set_num_threads(1)
    made = Asked(tmp_path_factory.mktemp("criteria"), tiny_model_folder, prompts=90)
    for number, item in enumerate(made.items):
        a, b = ("b", "a") if number % 10 == 3 else ("a", "b")
        made.compares(made.ann, item, a, **({"solves": a, "tone": b} if number % 2 else {}))
    return made


def project_of(asked: Asked, weights: str = "", criteria: str = BOTH) -> Project:
    text = RECIPE.format(base=asked.base, criteria=criteria, weights=weights)
    (asked.folder / "tiny.toml").write_text(text)
    return Project(asked.folder / "tiny.toml", progress=Silent())


def learned(asked: Asked, project: Project, progress: Silent | None = None) -> Record:
    frozen = snapshot(project.store, "tiny", (asked.version,), 0, ("human",))
    return train_reward(project.recipe, asked.version, frozen, project.store, project.cache, progress or Silent())


@pytest.fixture(scope="module")
def reward(asked: Asked) -> Record:
    return learned(asked, project_of(asked))


def test_a_pair_has_the_shares_of_each_criterion_by_itself(tmp_path: Path, tiny_model_folder: Path) -> None:
    made = Asked(tmp_path, tiny_model_folder, prompts=1)
    made.compares(made.ann, made.items[0], "a", solves="a", tone="b")
    made.compares(made.bob, made.items[0], "tie", solves="tie")
    cast = votes(made.project.store, "tiny")
    (pair,) = pairs_of(made.project.store, cast, made.loaded.renderer, 512, ("solves", "tone", "style"))
    assert (pair.preference, pair.votes) == (0.75, 2)
    assert dict(pair.criteria) == {"solves": (0.75, 2), "tone": (0.0, 1)}
    assert dict(pairs_of(made.project.store, cast, made.loaded.renderer, 512)[0].criteria) == {}


def test_each_head_learns_its_own_votes_and_is_measured_on_them(reward: Record) -> None:
    body = reward.body
    assert body["heads"] == ["overall", "solves", "tone"] and body["left_out"] == {}
    for said in (body, *body["criteria"].values()):
        assert said["accuracy"]["value"] > 0.7 and said["accuracy"]["low"] <= said["accuracy"]["value"]
        assert 0 <= said["calibration_error"] < 0.5
    spoken = [pair for pair in body["held_out"] if "solves" in pair["shares"]]
    assert 0 < len(spoken) < len(body["held_out"]) == body["pairs"]["held_out"]
    assert body["criteria"]["solves"]["accuracy"]["clusters"] == len({pair["prompt"] for pair in spoken})
    right = [(pair["margins"]["tone"] > 0) == (pair["shares"]["tone"] == 1.0) for pair in spoken]
    assert body["criteria"]["tone"]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))


def test_the_loss_is_the_mean_over_the_heads_and_each_is_logged(asked: Asked, reward: Record) -> None:
    lines = project_of(asked).store.metrics(reward)
    names = ("pairwise", "pairwise:solves", "pairwise:tone")
    assert {f"{name}/accuracy" for name in names} <= set(lines[0])
    for line in (line for line in lines if "loss" in line):
        heads = [line[name] for name in names if name in line]
        assert line["loss"] == pytest.approx(sum(heads) / 3, rel=1e-5)


def test_weights_change_which_answer_wins_and_the_reward_is_not_learned_again(
    asked: Asked, reward: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was learned again")

    monkeypatch.setattr(reward_stage, "learn", never)
    render, won = asked.loaded.renderer, {}
    prompt = render.prompt([asked.project.store.exchanges.get(asked.items[0].a).prompt[0]])
    answers = [render.answer("It left 500."), render.answer("Who knows 500?")]
    for name in ("solves", "tone"):
        project = project_of(asked, f"criteria = {{ {name} = 1.0 }}")
        assert learned(asked, project).id == reward.id
        model = load_reward(project.store, reward, like=asked.loaded.model).weighed(project.recipe.reward.criteria)
        first, second = score_answers(model, [prompt], [answers])[0]
        won[name] = first > second
    assert won == {"solves": True, "tone": False}
    model = load_reward(asked.project.store, reward, like=asked.loaded.model)
    heads = scores_by_head(model, [prompt], [answers])[0]
    half = score_answers(model.weighed({"solves": 0.5, "tone": 0.5}), [prompt], [answers])[0]
    assert half == pytest.approx([(scores[1] + scores[2]) / 2 for scores in heads], abs=1e-6)


def test_what_the_policy_is_made_from_does_hold_the_weights(asked: Asked, reward: Record) -> None:
    def key(weights: str) -> str:
        recipe = project_of(asked, weights).recipe
        return online._work(recipe, asked.version, [reward], asked.version, online.NO_PARTS, {}).key

    assert key("") == key("")
    different = {key(w) for w in ("", "criteria = { solves = 1.0 }", "criteria = { solves = 0.5, tone = 0.5 }")}
    assert len(different) == 3


def test_the_order_of_criteria_means_nothing(asked: Asked, reward: Record) -> None:
    assert learned(asked, project_of(asked, criteria='["tone", "solves"]')).id == reward.id
    assert learned(asked, project_of(asked, criteria='["solves"]')).id != reward.id


def test_the_centre_of_a_weighed_reward_is_that_of_its_heads(reward: Record) -> None:
    centres = {name: said["centre"] for name, said in reward.body["criteria"].items()}
    assert weighed_centre(reward.body, {}) == reward.body["centre"]
    wanted = 0.7 * centres["solves"] + 0.3 * centres["tone"]
    assert weighed_centre(reward.body, {"solves": 0.7, "tone": 0.3}) == pytest.approx(wanted)


def test_the_front_of_opposed_criteria_trades_one_for_the_other(reward: Record) -> None:
    ends = {tuple(p.weights.values()): p for p in front(reward.body)}
    solves, tone = ends[(1.0, 0.0)], ends[(0.0, 1.0)]
    assert solves.shares["solves"].value > 0.7 > 0.3 > solves.shares["tone"].value
    assert tone.shares["tone"].value > 0.7 > 0.3 > tone.shares["solves"].value
    assert not solves.dominated and not tone.dominated


@pytest.mark.parametrize(
    ("sides", "why"),
    [
        (["a"] * 3, "3 votes on it, and 20 are needed"),
        (["tie"] * 40, "every vote on it is a tie"),
        ([], "nobody voted on it"),
    ],
)
def test_a_criterion_that_cannot_be_learned_is_named_and_never_weighed(
    tmp_path: Path, tiny_model_folder: Path, sides: list[str], why: str
) -> None:
    made, heard = Asked(tmp_path, tiny_model_folder, prompts=20), Heard()
    for number, item in enumerate(made.items):
        made.compares(made.ann, item, "a", **({"tone": sides[number]} if number < len(sides) else {}))
    with pytest.raises(
        TrainingError, match=f'"tone" weighs 0.5 in the reward, and no head learned it: {why}'
    ) as caught:
        learned(made, project_of(made, "criteria = { overall = 0.5, tone = 0.5 }"))
    assert caught.value.where == "reward.criteria"
    record = learned(made, project_of(made), heard)
    assert record.body["left_out"]["tone"] == why and record.body["heads"] == ["overall"]
    assert f'reward: "tone" gets no head: {why}' in heard.lines
    recipe = project_of(made, "criteria = { tone = 1.0 }").recipe
    with pytest.raises(TrainingError, match="no head learned it"):  # learned before it was weighed
        online._weights(recipe, [record])
