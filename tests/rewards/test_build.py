"""The reward that a recipe's rows ask for, by hand; and rows that make no sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from burnish.config import Recipe, load
from burnish.errors import ConfigError, PartError
from burnish.parts import Part, Parts
from burnish.records import Message, Reply, Row
from burnish.rewards import build, learned
from burnish.rewards.scores import Asked
from burnish.sampling import Sample

ROWS = [Row((Message("user", "two"),), "2", 1), Row((Message("user", "three"),), "3", 2)]
SAMPLES = [[Sample((7, 1), (-1.0, -1.0), "stop"), Sample((8,), (-1.0,), "length")], [Sample((9,), (-1.0,), "length")]]
OWN = '[[rl.rewards]]\nkind = "own"\nfunction = "mine:own"\n'
LEARNED = '[[rl.rewards]]\nkind = "learned"\n'


def own(reply: Reply) -> float:
    if reply.answer == "8":
        raise KeyError("eight")
    return 10.0 * reply.finished + float(reply.written or 0) + reply.tokens / 100


def recipe(folder: Path, rewards: str, learns: bool = False) -> Recipe:
    path = folder / "bot.toml"
    tables = "[reward]\n" if learns else ""
    path.write_text(f'task = "chat"\nbase = "b"\n[data]\ntrain = "rows.csv"\n{tables}[rl]\n{rewards}')
    return load(path)


MODEL: Any = SimpleNamespace(names=("overall",), weights_H=torch.ones(1))


def scores(folder: Path, monkeypatch: pytest.MonkeyPatch, rewards: str, learns: bool = False) -> Any:
    by_head = lambda model, prompts, ids: [[[float(i[0])] for i in g] for g in ids]  # noqa: E731
    monkeypatch.setattr(learned, "scores_by_head", by_head)

    def text(ids: tuple[int, ...]) -> str:
        return " ".join(map(str, ids))

    def reply(row: Row, said: Sample) -> Reply:
        return Reply(row.prompt, text(said.ids), said.finish_reason == "stop", len(said.ids), row.answer)

    task: Any = SimpleNamespace(reply=reply, renderer=SimpleNamespace(text=text))
    parts = Parts(rewards={"mine:own": Part("mine:own", own, "mine.py 0", ())})
    start: Any = None
    means = build.Means(parts, task, [MODEL] if learns else [], [0.5], start, folder)
    reward = build.reward_of(recipe(folder, rewards, learns), means)
    return reward([Asked([1], row) for row in ROWS], SAMPLES, {}, 0)


COUNTED = OWN + 'failures = "count"\n'


@pytest.mark.parametrize(
    ("rewards", "learns", "wanted"),
    [
        ("", True, [[7.0, 8.0], [9.0]]),
        (COUNTED, False, [[12.02], [3.01]]),
        (LEARNED + COUNTED + "weight = -1.0\n", True, [[7.0 - 12.02], [9.0 - 3.01]]),
        ('[[rl.rewards]]\nkind = "length"\nlongest = 1\n', False, [[-1.0, 0.0], [0.0]]),
        ('[[rl.rewards]]\nkind = "format"\npattern = "[78].*"\n', False, [[1.0, 1.0], [0.0]]),
        ('[[rl.rewards]]\nkind = "format"\njson_object = true\n', False, [[0.0, 0.0], [0.0]]),
    ],
)
def test_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewards: str, learns: bool, wanted: list[list[float]]
) -> None:
    assert [pytest.approx(group) for group in wanted] == scores(tmp_path, monkeypatch, rewards, learns).total


def test_a_reward_that_raises_stops_the_run_or_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PartError, match="raised on row 1 KeyError"):
        scores(tmp_path, monkeypatch, OWN)
    found = scores(tmp_path, monkeypatch, COUNTED)
    assert found.failed == {"mine:own": 1} and "KeyError" in found.why


@pytest.mark.parametrize(
    ("rewards", "learns", "said"),
    [
        ('[[rl.rewards]]\nkind = "own"\n', False, 'kind = "own" needs function'),
        ('[[rl.rewards]]\nkind = "length"\n', False, 'kind = "length" needs longest'),
        (
            '[[rl.rewards]]\nkind = "length"\nlongest = 3\nshortest = 4\n',
            False,
            "shortest = 4 is more than longest = 3",
        ),
        ('[[rl.rewards]]\nkind = "format"\n', False, "needs one of pattern and json_object"),
        ('[[rl.rewards]]\nkind = "format"\npattern = "("\n', False, 'pattern "(" is no regular expression'),
        ('[[rl.rewards]]\nkind = "format"\npattern = "a"\nlongest = 3\n', False, 'longest belongs to kind = "length"'),
        (OWN + "clip = [1.0, -1.0]\n", False, "clip is the lowest and the highest number"),
        (OWN + "weight = 0.0\n", False, "a weight of 0 pays nothing"),
        (OWN + OWN, False, "two parts of the reward are called mine:own"),
        (OWN, True, "no part of rl.rewards pays the learned [reward]"),
        ('[[rl.rewards]]\nkind = "judge"\n', False, 'kind = "judge" needs model'),
        (LEARNED, False, "[rl] needs a [reward] table"),
        ('[[rl.rewards]]\nkind = "lenght"\n', False, "rl.rewards.kind"),
    ],
)
def test_rows_that_make_no_sense(tmp_path: Path, rewards: str, learns: bool, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(tmp_path, rewards, learns)
    assert said in str(caught.value)
