"""A turn whose comparisons come from a judge's endpoint: learned from where the recipe names it, never unasked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish import config
from burnish.errors import ConfigError, TrainingError
from burnish.feedback import raters, votes
from burnish.pipeline import Project
from burnish.pipeline.summary import status_lines
from burnish.rewards import judge
from pipeline.conftest import make_project
from pipeline.test_parts import Heard
from rewards.conftest import Bench, bench  # noqa: F401
from rewards.test_judge import sides

JUDGE = '[feedback]\njudge = { model = "some-model", criterion = "Shorter is better." }\n'


@pytest.fixture
def judged(
    tmp_path: Path,
    tiny_model_folder: Path,
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Project]:
    """A tiny project that learns a reward from a judge, who likes the shorter answer."""

    def shorter(question: str, before: int) -> tuple[int, str]:
        a, b = sides(question)
        return 200, "TIE" if len(a) == len(b) else "A" if len(a) < len(b) else "B"

    bench.reply = shorter
    monkeypatch.setenv("BURNISH_JUDGE_URL", bench.url)
    monkeypatch.setattr(judge, "ATTEMPTS", 1)  # the waits between attempts are tested where the judge is

    def make(sources: str = '["judge"]', **changed: str) -> Project:
        recipe = make_project(tmp_path, tiny_model_folder)
        text = re.sub(
            r"\[feedback\].*?pairs = 60", f"{JUDGE}sources = {sources}\npairs = 30", recipe.read_text(), flags=re.S
        )
        text = text.replace("min_comparisons = 40", "min_comparisons = 8").replace("epochs = 2", "epochs = 1")
        recipe.write_text(text)
        return Project(recipe, progress=Heard())

    return make


def test_a_reward_is_learned_from_a_judge_that_the_recipe_names(judged: Callable[..., Project], bench: Bench) -> None:  # noqa: F811
    project = judged()
    made = project.train("reward").records
    cast = votes(project.store, "tiny")
    assert made["reward"].body["votes"] == {"judge": len(cast)} and len(cast) >= 8
    assert {vote.source for vote in cast} == {"judge"}
    (rater,) = raters(project.store, "tiny").values()
    assert rater.name.startswith("some-model by ")
    texts = project.store.exchanges.many(id for vote in cast for id in (vote.exchange, vote.other or ""))
    for vote in cast:
        a, b = (len(texts[id].answer) for id in (vote.exchange, vote.other))
        assert vote.choice == ("a" if a < b else "b" if b < a else "tie")
    assert all("Shorter is better." in body["messages"][0]["content"] for body in bench.asked)
    asked = len(bench.asked)
    project.train("reward")
    assert len(bench.asked) == asked  # what was said is not asked again
    assert f"votes: {len(cast)} judge" in status_lines(project)


def test_a_judge_that_is_not_named_as_a_source_teaches_nothing(judged: Callable[..., Project]) -> None:
    project = judged('["human"]')
    outcome = project.train("reward")
    assert outcome.state == "waiting" and outcome.why == "waiting for feedback: 0 of 8"
    assert votes(project.store, "tiny") != []


def test_what_the_judge_does_not_answer_is_no_vote_and_is_told(judged: Callable[..., Project], bench: Bench) -> None:  # noqa: F811
    project = judged()
    bench.reply = lambda question, before: (503, "down")
    assert project.train("reward").why == "waiting for feedback: 0 of 8"
    assert votes(project.store, "tiny") == []
    (told,) = [line for line in project.progress.lines if line.startswith("judge: no vote on")]  # type: ignore[attr-defined]
    assert "answered 503" in told and "the next run asks again" in told


def test_a_judge_that_refuses_stops_the_run(judged: Callable[..., Project], bench: Bench) -> None:  # noqa: F811
    bench.reply = lambda question, before: (401, "who are you?")
    with pytest.raises(TrainingError, match="answered 401"):
        judged().train("reward")


def test_nothing_is_spent_where_the_host_names_no_endpoint(
    judged: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BURNISH_JUDGE_URL")
    project = judged()
    with pytest.raises(ConfigError, match=r"feedback\.judge is a judge, and BURNISH_JUDGE_URL is"):
        project.train("reward")
    assert project.store.records("tiny", "version") == []


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ('sources = ["judge"]', r"say which in \[feedback.judge\]"),
        ('judge = { model = "m" }', "no stage learns from votes"),
        ('judge = { criterion = "x" }', '"feedback.judge.model" is missing'),
        ("sources = []", "feedback.sources"),
    ],
)
def test_a_judge_without_use_or_name_is_an_error(tmp_path: Path, table: str, why: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "r"\ntask = "chat"\nbase = "b"\n[data]\ntrain = "t"\n[feedback]\n{table}\n')
    with pytest.raises(ConfigError, match=why):
        config.load(recipe)
