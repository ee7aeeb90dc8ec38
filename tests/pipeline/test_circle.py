"""The whole circle on the tiny random model: every room, wired to the next, by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from burnish import registry
from burnish.feedback import ensure_rater, next_comparison, record_vote
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Figure
from burnish.store import Store, open_store


def burnish(*arguments: object, code: int | tuple[int, ...] = 0, timeout: float = 240) -> str:
    """Run the command line in a process of its own; returns what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from burnish.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    expected = code if isinstance(code, tuple) else (code,)
    assert done.returncode in expected, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def store_of(recipe: Path) -> Store:
    return open_store(recipe.parent / ".burnish")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A project that has gone round once."""
    from pipeline.conftest import make_project

    recipe = make_project(tmp_path_factory.mktemp("turned"), tiny_model_folder)
    burnish("run", recipe, code=(0, 1))
    return recipe


def test_training_alone_finds_the_records_of_a_run(turned: Path) -> None:
    before = [record.id for record in store_of(turned).records("tiny")]
    outcome = Project(turned, progress=Silent()).train()
    assert outcome.state == "trained" and outcome.repeated
    assert [record.id for record in store_of(turned).records("tiny")] == before


def test_every_stage_left_its_record(turned: Path) -> None:
    store = store_of(turned)
    kinds = {record.kind for record in store.records("tiny")}
    assert kinds >= {
        "dataset",
        "version",
        "evaluation",
        "verdict",
        "campaign",
        "snapshot",
        "reward",
        "judgement",
        "turn",
    }
    names = [record.name for record in store.records("tiny", "version")]
    assert names == ["tiny@0", "tiny@1", "tiny@2"]
    serving = registry.production(store, "tiny")
    assert serving is not None and serving.name in ("tiny@1", "tiny@2")
    assert not store.verify().problems


def test_the_verdict_decides_what_serves(turned: Path) -> None:
    store = store_of(turned)
    last = store.records("tiny", "turn")[-1].body
    serving = registry.production(store, "tiny")
    assert serving is not None
    assert (serving.id == last["stages"]["candidate"]) == last["passed"]


def test_a_second_run_repeats_nothing(turned: Path) -> None:
    before = [record.id for record in store_of(turned).records("tiny")]
    said = burnish("run", turned, code=(0, 1))
    assert "nothing ran" in said
    assert [record.id for record in store_of(turned).records("tiny")] == before


def test_test_prompts_are_read_by_the_last_evaluation_alone(turned: Path) -> None:
    """No stage but the last evaluation answers a test prompt, and no trained record descends from it."""
    store = store_of(turned)
    dataset = store.records("tiny", "dataset")[-1]
    held_out = {row.prompt for row in store.datasets.rows(dataset.id, "test")}
    evaluations = {r.body["split"]: r for r in store.records("tiny", "evaluation")}
    allowed = {id for ids in evaluations["test"].body["exchanges"].values() for id in ids}
    for exchange in store.exchanges.recent("tiny", 10_000):
        if exchange.prompt in held_out:
            assert exchange.id in allowed
    descendants = {r.kind for r in store.lineage(evaluations["test"].id).descendants}
    assert not descendants & {"version", "reward", "campaign", "snapshot"}


def test_only_simulated_votes_and_all_say_so(turned: Path) -> None:
    store = store_of(turned)
    reward = store.records("tiny", "reward")[-1]
    assert set(reward.body["votes"]) == {"simulated"}
    assert "Simulated raters: this shows that the machinery" in burnish("run", turned, code=(0, 1))


def test_judging_raters_never_trained(turned: Path) -> None:
    from burnish.feedback import votes

    store = store_of(turned)
    training = {v.rater for v in votes(store, "tiny", purpose="train")}
    campaign = store.records("tiny", "judgement")[-1].body["campaign"]
    judging = {v.rater for v in votes(store, "tiny", campaign=campaign)}
    assert len(training) == 3 and len(judging) == 2 and not training & judging


def test_raters_were_asked_while_rl_ran_and_their_votes_train_nothing(turned: Path) -> None:
    from burnish.feedback import comparisons, votes, waiting

    store = store_of(turned)
    asked = {item.campaign for item in comparisons(store, "tiny") if "-dev-" in item.campaign}
    assert {name.rpartition("-")[2] for name in asked} == {"2", "4"}
    assert all(waiting(store, "tiny", name).done == waiting(store, "tiny", name).wanted > 0 for name in asked)
    training = {v.rater for v in votes(store, "tiny", purpose="train")}
    fresh = [vote for name in asked for vote in votes(store, "tiny", campaign=name)]
    assert {vote.rater for vote in fresh} <= training  # those who judge the outcome stay fresh
    assert not {vote.sequence for vote in fresh} & {v.sequence for v in votes(store, "tiny", purpose="train")}


def test_a_changed_key_runs_only_what_depends_on_it(turned: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(turned.parent, copy)
    recipe = copy / turned.name
    recipe.write_text(recipe.read_text().replace("updates = 4", "updates = 2"))
    said = burnish("run", recipe, code=(0, 1))
    assert "rl runs again: rl.updates changed 4 -> 2" in said
    assert "sft runs again" not in said and "reward runs again" not in said


def test_looking(turned: Path) -> None:
    status = json.loads(burnish("status", turned, "--json"))
    assert status["production"].startswith("tiny@") and status["votes"]["simulated"] > 40
    assert "promote" in burnish("history", turned)
    assert burnish("history", turned, "--at", "2001-01-01").strip() == "nothing was in production"
    assert "0 problems" in burnish("verify", turned)
    assert "went into" in burnish("lineage", "tiny@1", "--recipe", turned)
    assert "tiny@1" in burnish("models", "card", "tiny@1", "--recipe", turned)
    assert "train: " in burnish("check", turned)


def test_people_are_waited_for_and_their_votes_go_into_the_turn(tmp_path: Path, tiny_model_folder: Path) -> None:
    from pipeline.conftest import make_project

    recipe = make_project(tmp_path, tiny_model_folder)
    text = recipe.read_text().replace('simulate = "support-desk"\nsources = ["simulated", "human"]\n', "")
    recipe.write_text(text.replace("pairs = 60", "pairs = 30").replace("min_comparisons = 40", "min_comparisons = 12"))
    said = burnish("run", recipe)
    assert "waiting for feedback: 0 of 12" in said
    store = store_of(recipe)
    rater = ensure_rater(store, "tiny", "Ada")
    for number in range(12):
        offer = next_comparison(store, "tiny", rater)
        assert offer is not None
        side = "left" if len(offer.left) >= len(offer.right) else "right"
        record_vote(store, "tiny", rater, "compare", key=f"k{number}", comparison=offer.comparison, choice=side)
    said = burnish("run", recipe, code=(0, 1))
    # now for the judges of the outcome; twelve votes may as well teach nothing that shows on dev
    assert "waiting for feedback: 0 of" in said or "rl kept no update" in said
    assert store.records("tiny", "reward")[-1].body["votes"] == {"human": 12}


def test_rl_that_keeps_no_update_is_an_honest_no(turned: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(turned.parent, copy)
    recipe = copy / turned.name
    tight = "updates = 4\nlearning_rate = 0.05\nstop_kl = 1e-12\nstop_length = 1e-9"
    recipe.write_text(recipe.read_text().replace("updates = 4", tight))
    said = burnish("run", recipe, code=1)
    assert "serves still: rl kept no update: " in said
    store = store_of(recipe)
    last = store.records("tiny", "turn")[-1].body
    assert not last["passed"] and last["why"] and "judgement" not in last["stages"]
    assert store.record(last["stages"]["evaluation"]).body["split"] == "dev"
    assert "brought nothing to promote: rl kept no update" in burnish("status", recipe)
    burnish("run", recipe, code=1)


def test_seeds_are_pooled_and_one_without_an_update_counts_as_no_difference(turned: Path) -> None:
    from burnish.pipeline.repeat import pooled

    tested = store_of(turned).records("tiny", "evaluation")[-1]
    assert tested.body["split"] == "test"
    body = tested.body
    own, start = body["items"][body["candidate"]]["loss"], body["items"][body["start"]]["loss"]
    gain = sum(a - b for a, b in zip(own, start, strict=True)) / len(own)
    both = pooled([tested, None], "loss")
    assert both is not None and both.value == pytest.approx(gain / 2)
    assert pooled([None, None], "loss") is None


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"score.utility": (0.1, 0.3), "loss": (0.1, 0.2)}, "the gain holds over seeds and prompts, by score.utility"),
        (
            {"score.utility": (-0.1, 0.3), "m:right": (0.1, 0.3)},
            "no gain holds over seeds and prompts, by score.utility",
        ),
        ({"m:right": (0.1, 0.3), "loss": (-0.1, 0.2)}, "the gain holds over seeds and prompts, by m:right"),
        ({"m:right": (0.0, 0.3), "loss": (-0.2, -0.1)}, "no gain holds over seeds and prompts, by m:right"),
        ({"loss": (-0.2, -0.1)}, "the gain holds over seeds and prompts, by loss"),
        ({"loss": (0.1, 0.2)}, "no gain holds over seeds and prompts, by loss"),
        ({}, "no gain: no seed's candidate was tested"),
    ],
)
def test_the_gain_is_that_of_the_most_telling_metric(figures: dict[str, tuple[float, float]], said: str) -> None:
    from burnish.pipeline.repeat import concluded

    measured = {name: Figure(sum(ends) / 2, *ends) for name, ends in figures.items()}
    assert concluded(("score.utility", "m:right", "loss"), measured) == said


def test_two_runs_on_one_store(turned: Path) -> None:
    store = store_of(turned)
    with store.run_lock("burnish run"):
        said = burnish("run", turned, code=2)
    assert "burnish run" in said and str(os.getpid()) in said
