"""Learning rates by hand, and a warm-up that does not fit."""

from __future__ import annotations

import json

import pytest

from burnish.config import Recipe
from burnish.errors import TrainingError
from burnish.training.loop import Settings
from burnish.training.schedule import share
from burnish.training.settings import paced, rl_settings, sft_settings


def recipe(**tables: object) -> Recipe:
    return Recipe.model_validate_json(
        json.dumps({"name": "x", "task": "chat", "base": "b", "data": {"train": "r.jsonl"}, **tables})
    )


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1 / 3, 2 / 3, 1.0, 0.775, 0.55, 0.325]),  # a quarter of 0.9 less at each of four updates
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.868198, 0.55, 0.231802]),  # 0.1 + 0.45 (1 + cos 0, 45, 90, 135 degrees)
        ("wsd", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),  # the last tenth of four updates begins after the last one
    ],
)
def test_rates_by_hand(schedule: str, rates: list[float]) -> None:
    assert [share(schedule, step, updates=6, warmup=2) for step in range(6)] == pytest.approx(rates, abs=1e-6)


def test_stable_then_decay_by_hand() -> None:
    """Twenty updates: the last tenth is two of them, one at its start and one half way down."""
    rates = [share("wsd", step, updates=20, warmup=0) for step in range(20)]
    assert rates == pytest.approx([1.0] * 19 + [0.55])
    rates = [share("wsd", step, updates=40, warmup=0) for step in range(40)]
    assert rates == pytest.approx([1.0] * 37 + [0.775, 0.55, 0.325])


def test_settings_multiply_the_peak() -> None:
    settings = Settings(updates=12, learning_rate=1e-3, schedule="linear", warmup=2)
    assert [settings.rate(step) for step in (0, 2, 7)] == pytest.approx([1e-3 / 3, 1e-3, 0.55e-3])


def test_a_warm_up_longer_than_the_run_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        TrainingError, match=r"sft.warmup: warmup = 40 .* a run of 32 updates\n.* 31 at most"
    ) as refused:
        sft_settings(recipe(sft={"warmup": 40, "epochs": 4}), rows=64)
    assert refused.value.exit_code == 2
    with pytest.raises(TrainingError, match=r"rl.warmup: warmup = 12 .* run of 12"):
        rl_settings(recipe(reward={}, rl={"warmup": 12}))
    with pytest.raises(TrainingError, match="warmup = 5 does not fit"):
        Settings(updates=5, learning_rate=1.0, warmup=5)


def test_what_auto_becomes() -> None:
    plain = recipe(reward={}, rl={})
    assert plain.rl is not None
    sft, rl = paced(plain.sft, "sft", 24), paced(plain.rl, "rl", 24, steady=True)
    assert (sft["schedule"].value, sft["warmup"].value) == ("linear", 3)
    assert paced(plain.sft, "sft", 320)["warmup"].value == 4
    assert (rl["schedule"].value, rl["warmup"].value) == ("constant", 0)
    given = paced(recipe(sft={"schedule": "wsd", "warmup": 7}).sft, "sft", 24)
    assert (given["schedule"].value, given["warmup"].value, given["warmup"].why) == ("wsd", 7, "recipe")
