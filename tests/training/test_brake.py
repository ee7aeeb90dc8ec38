"""The brake: its figures by hand, its budgets, and that looking changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.config.algorithms import Knobs
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Engine, Params, Sample
from burnish.training.algorithms import ALGORITHMS
from burnish.training.brake import Brake, Budgets, distinct, repetition
from burnish.training.held_out import Stop
from burnish.training.plan import Plan
from burnish.training.rollouts import Rollouts

WIDE = Budgets(1.0, 1.0, 1.0, 1.0)
START = {"dev_kl": 0.0, "dev_repetition": 0.1, "dev_distinct": 0.8}


def length(moved: float, low: float, high: float) -> dict[str, float]:
    return {"dev_length_moved": moved, "dev_length_moved_low": low, "dev_length_moved_high": high}


START |= length(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    return base.sibling(lora=Lora(4), trainable=True, seed=3)


def asked(*prompts: list[int]) -> list[Asked]:
    return [Asked(ids, Row((Message("user", str(ids)),), None, n)) for n, ids in enumerate(prompts, 1)]


def by_variety(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], scales: Any, rollout: int | None) -> Scores:
    rewards = [[float(len(set(sample.ids))) for sample in group] for group in samples]
    return Scores(rewards, {"variety": rewards}, [list(range(len(group))) for group in rewards])


def brake_of(model: LanguageModel, budgets: Budgets = WIDE, **changed: Any) -> Brake:
    rollouts = Rollouts(
        sampler=lambda: Engine(model, slots=8),
        reference=model.frozen_copy(),
        score=by_variety,
        plan=Plan(ALGORITHMS["grpo"].credit(Knobs())),
        keep=lambda step, chosen, groups: [],
        prompts=asked([5, 6, 7], [8, 9], [10, 11, 12, 13], [3]),
        prompts_per_rollout=2,
        group=3,
        params=Params(1.0, 1.0, 6, 0, (294,)),
        seed=11,
    )
    return Brake(rollouts, asked([4, 4], [9, 3, 2], [12]), budgets, **changed)


def test_repetition_and_diversity_by_hand() -> None:
    twice = [1, 2, 3, 4, 1, 2, 3, 4]  # 1234 2341 3412 4123 1234: four distinct of five
    assert repetition([twice, [1, 2, 3, 4], [5]]) == pytest.approx(1 - (4 + 1) / (5 + 1))
    assert distinct([[1, 2, 3], [1, 2, 4]]) == pytest.approx(3 / 4)  # 12 23 | 12 24
    assert repetition([[1, 2]]) == distinct([[1]]) == 0.0


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"dev_kl": 0.2}, "KL to the start is 0.200"),
        ({"dev_kl": math.nan}, "KL"),
        (length(0.4, 0.31, 0.5), r"length moved by +40% [+31%, +50%], over rl.stop_length = 30%"),
        (length(-0.4, -0.5, -0.31), "length moved by -40%"),
        (length(math.nan, math.nan, math.nan), "length"),
        ({"dev_repetition": 0.35}, "4-grams rose by 25%"),
        ({"dev_repetition": math.nan}, "4-grams"),
        ({"dev_distinct": 0.36}, "2-grams fell by 55%"),
        ({"dev_distinct": math.nan}, "2-grams"),
    ],
)
def test_budgets_stop(moved: dict[str, float], said: str) -> None:
    budgets = Budgets(0.15, 0.3, 0.2, 0.5)
    assert said in (budgets.exceeded(START | moved, START) or "")
    inside = {"dev_kl": 0.1, "dev_repetition": 0.29, "dev_distinct": 0.41}
    for near in (length(0.4, 0.29, 0.5), length(-0.4, -0.5, -0.29)):  # may as well be inside
        assert budgets.exceeded(inside | near, START) is None


def test_a_start_without_two_tokens_has_no_diversity_to_lose() -> None:
    assert WIDE.exceeded(START | {"dev_distinct": 0.0}, START | {"dev_distinct": 0.0}) is None


def test_a_look_changes_no_rollout(model: LanguageModel) -> None:
    looked, plain = brake_of(model), brake_of(model)
    looked.look(0)
    assert looked.rollouts.window(0) == plain.rollouts.window(0)


def test_kl_to_the_start_is_zero_before_any_update(model: LanguageModel) -> None:
    brake = brake_of(model)
    assert brake.look(0)["dev_kl"] == pytest.approx(0.0, abs=1e-5)
    brake.rollouts.window(0)
    assert brake.rollouts.figures()["kl"] == pytest.approx(0.0, abs=1e-5)


def test_budgets_are_checked_on_prompts_that_do_not_change(model: LanguageModel) -> None:
    """Rollouts of other prompts have other lengths: that alone must not stop training."""
    brake = brake_of(model, Budgets(1.0, 0.0, 1.0, 1.0))
    for step in (0, 2, 4):
        seen = brake.look(step)
        brake.rollouts.window(step)
    assert brake.before["dev_length"] == seen["dev_length"]
    assert [seen[f"dev_length_moved{end}"] for end in ("", "_low", "_high")] == [0.0, 0.0, 0.0]
    brake.rollouts.state["dev_lengths"] = [2 * length for length in brake.rollouts.state["dev_lengths"]]
    with pytest.raises(Stop, match=r"length moved by -50% \[-5"):
        brake.look(6)


def test_outside_its_budgets_training_stops(model: LanguageModel) -> None:
    with pytest.raises(Stop, match="KL") as stop:
        brake_of(model, Budgets(-1.0, 0.3, 0.2, 0.5)).look(0)
    assert stop.value.figures["dev_kl"] == pytest.approx(0.0, abs=1e-5)


def test_a_second_model_judges_by_wins_against_the_start(model: LanguageModel) -> None:
    """Rewards of 1, 2, 3 and then of 1, 2 + log 3, 3 - log 3: shares of 1/2, 3/4, 1/4."""
    told = iter([[[1.0], [2.0], [3.0]], [[1.0], [2.0 + math.log(3)], [3.0 - math.log(3)]], [[2.0], [3.0], [4.0]]])
    brake = brake_of(model, watch=lambda prompts, answers: next(told))
    first, second, third = (brake.look(step) for step in (0, 2, 4))
    assert first["held_out"] == 0.5 and first["dev_held_out_reward"] == 2.0 and first["dev_held_out_gain"] == 0.0
    assert brake.rollouts.state["predicted"]["2"] == pytest.approx([0.5, 0.75, 0.25])
    assert second["held_out"] == pytest.approx(0.5)
    assert third["held_out"] == pytest.approx(1 / (1 + math.exp(-1))) and third["dev_held_out_gain"] == 1.0
    assert first["dev_reward"] == third["dev_reward"] != third["dev_held_out_reward"]  # the policy did not move


def test_without_a_second_model_the_reward_itself_judges(model: LanguageModel) -> None:
    look = brake_of(model).look(0)
    assert look["held_out"] == 0.5 and look["dev_gain"] == 0.0 and "dev_held_out_reward" not in look


def test_when_the_held_out_judgement_turns_training_stops(model: LanguageModel) -> None:
    dev = asked(*([n, n + 1] for n in range(3, 27)))
    told = iter([0.0, 2.0, 1.5, -3.0, -3.0])

    def watch(prompts: Any, answers: Any) -> list[list[float]]:
        level = next(told)
        return [[level * (1 + 0.01 * n)] for n, _ in enumerate(prompts)]

    brake = brake_of(model, watch=watch)
    brake.dev = dev
    for step in (0, 2):
        brake.look(step)
    brake.rollouts.state["predicted"]["2"][:12] = [0.1] * 12  # the second look won on half of the prompts alone
    brake.look(4)  # and is no worse now
    brake.look(6)  # once may be chance
    with pytest.raises(Stop, match=r"the held-out reward model turned: -.*since 4 updates") as stop:
        brake.look(8)
    assert stop.value.figures["held_out"] < 0.1
