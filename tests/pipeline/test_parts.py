"""A recipe with a reward, a credit and a metric of its own goes round without votes, and knows when they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.errors import PartError, TrainingError
from burnish.pipeline import Project
from burnish.pipeline.preflight import preflight
from burnish.progress import Silent
from burnish.store import Store, open_store
from pipeline.test_circle import burnish

MINE = """
def score(reply):
    return len(set(reply.answer)) / 10


def politeness(reply):
    return float("please" in reply.answer) + len(reply.answer)


def advantages(rewards_NG):
    return [[r - sum(group) / len(group) for r in group] for group in rewards_NG]
"""
OWN = """
[rl]
updates = 2
prompts = 2
group = 3
algorithm = "mine:advantages"

[[rl.rewards]]
kind = "own"
function = "mine:score"

[[rl.rewards]]
kind = "length"
longest = 4
weight = 0.5

[[gate]]
metric = "mine:politeness"
against = "start"
not_worse_by = 1000.0
"""


class Heard(Silent):
    """Keeps what long work says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def heard(recipe: Path, verb: str) -> str:
    """What the project's ``run`` or ``train`` says, and how it ends."""
    progress = Heard()
    outcome = getattr(Project(recipe, progress=progress), verb)()
    return "\n".join([*progress.lines, outcome.state])


def store_of(recipe: Path) -> Store:
    return open_store(recipe.parent / ".burnish")


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    from pipeline.conftest import make_project

    recipe = make_project(tmp_path_factory.mktemp("owned"), tiny_model_folder)
    text = recipe.read_text()
    text = text[: text.index("[feedback]")].replace("items = 60", 'items = 50\nmetrics = ["mine:politeness"]')
    text = text.replace("epochs = 2", "epochs = 1").replace("max_new_tokens = 12", "max_new_tokens = 6")
    recipe.write_text(text + OWN)
    (recipe.parent / "mine.py").write_text(MINE)
    return recipe


@pytest.fixture(scope="module")
def turned(owned: Path) -> str:
    """What a turn without votes says."""
    return heard(owned, "run")


def test_check_tries_the_parts(owned: Path) -> None:
    said = "\n".join(preflight(Project(owned)).lines())
    assert "own metric mine:politeness (mine.py " in said and "one number per answer, determinism: kept" in said
    assert "own reward mine:score" in said and "own credit mine:advantages" in said


def test_the_circle_turns_on_an_own_reward(owned: Path, turned: str) -> None:
    assert turned.endswith(("promoted", "refused")) and " updates kept, the best on dev prompts" in turned
    store = store_of(owned)
    kinds = {record.kind for record in store.records("tiny")}
    assert "evaluation" in kinds and not kinds & {"reward", "snapshot", "campaign", "judgement"}
    rl = next(r for r in store.records("tiny", "version") if r.body["stage"] == "rl")
    source = store.made_with(rl.id)["settings"]["parts"]
    assert set(source) == {"mine:score", "mine:advantages"} and source["mine:score"].startswith("mine.py ")
    evaluation = store.records("tiny", "evaluation")[-1].body
    assert evaluation["figures"][evaluation["candidate"]]["mine:politeness"]["low"] is not None


def test_a_changed_part_runs_its_stages_again_and_says_why(owned: Path, turned: str) -> None:
    (owned.parent / "mine.py").write_text(MINE.replace("/ 10", "/ 20"))
    said = heard(owned, "run")
    assert "rl runs again: parts.mine:advantages changed mine.py " in said
    assert "dev evaluation runs again: parts.mine:politeness changed mine.py " in said
    assert "sft runs again" not in said
    (owned.parent / "mine.py").write_text(MINE)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("len(set(reply.answer)) / 10", "reply.nothing", 'mine.py line 3: "mine:score" raised on row '),
        ("return float(", "return str(", '"mine:politeness"'),
        ("r - sum(group)", "sum(group) - r", '"mine:advantages" breaks the contract "a better answer never gets less"'),
        ("def score", "def scoer", 'there is no "score" in '),
    ],
)
def test_a_broken_part_is_one_message(owned: Path, old: str, new: str, said: str) -> None:
    (owned.parent / "mine.py").write_text(MINE.replace(old, new))
    said_so = burnish("check", owned, code=2)
    (owned.parent / "mine.py").write_text(MINE)
    assert said in said_so


LOSS = """
import torch.nn.functional as F


def loss(pairs, beta=0.1):
    lead = pairs.chosen - pairs.reference_chosen - pairs.rejected + pairs.reference_rejected
    return F.softplus(-beta * lead)
"""


def test_an_own_loss_trains_and_a_change_of_it_trains_again(tmp_path: Path, tiny_model_folder: Path) -> None:
    from pipeline.test_preference import LEARN, make

    recipe = make(tmp_path, tiny_model_folder, LEARN + 'method = "mine:loss"\nbeta = 0.5\n')
    mine = tmp_path / "mine.py"
    mine.write_text(LOSS)
    said = "\n".join(preflight(Project(recipe)).lines())
    assert "own loss mine:loss (mine.py " in said and "masked tokens without effect: kept" in said
    assert "preference: mine:loss (an own loss of pairs, mine.py), beta 0.5" in heard(recipe, "train")
    store = store_of(recipe)
    version = store.records("tiny", "version")[-1]
    assert version.body["stage"] == "preference" and version.body["figures"]["after"]["loss"] < 0.69
    assert store.made_with(version.id)["settings"]["parts"]["mine:loss"].startswith("mine.py ")
    mine.write_text(LOSS.replace("softplus(-beta * lead)", "relu(1 - beta * lead)"))
    said = heard(recipe, "train")
    assert "preference runs again: parts.mine:loss changed mine.py " in said and "sft runs again" not in said
    mine.write_text(LOSS.replace("lead)", "lead) / len(lead)"))
    for broken in (lambda: heard(recipe, "train"), lambda: preflight(Project(recipe))):
        with pytest.raises(PartError, match='breaks the contract "micro-batch invariance"'):
            broken()
    recipe.write_text(recipe.read_text().replace("beta = 0.5", "gamma = 0.5"))
    with pytest.raises(TrainingError, match="mine:loss reads no gamma"):
        preflight(Project(recipe))


def test_an_own_loss_of_tokens_is_what_sft_minimises(tmp_path: Path, tiny_model_folder: Path) -> None:
    from pipeline.conftest import make_project

    recipe = make_project(tmp_path, tiny_model_folder)
    text = recipe.read_text().partition("[feedback]")[0]
    recipe.write_text(text.replace("[sft]\n", '[sft]\nobjective = "mine:loss"\n').replace("epochs = 2", "epochs = 1"))
    (tmp_path / "mine.py").write_text("def loss(logp):\n    return -3 * logp\n")
    assert "own loss of tokens mine:loss (mine.py " in "\n".join(preflight(Project(recipe)).lines())
    heard(recipe, "train")
    store = store_of(recipe)
    version = store.records("tiny", "version")[-1]
    assert "mine:loss" in store.made_with(version.id)["settings"]["parts"]
    (log,) = (recipe.parent / ".burnish").rglob("metrics.jsonl")
    for line in map(json.loads, log.read_text().splitlines()):
        assert line["objective"] == pytest.approx(3 * line["likelihood"], rel=1e-5)
        assert line["loss"] == pytest.approx(line["objective"], rel=1e-5)
