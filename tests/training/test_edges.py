"""What the algorithms make of answers at the edge: empty ones, cut ones, equal ones, and prompts without room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.config import Rl
from burnish.config.algorithms import ALONE, READS
from burnish.errors import SamplingError
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.value import Critic
from burnish.progress import Silent
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Engine, Params, Sample
from burnish.training.loop import Loop, Settings
from burnish.training.plan import plan_of
from burnish.training.rollouts import Rollouts

STOP = 293
LONGEST = 6


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    return LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))


class Always:
    """A sampler that gives every prompt the same answers."""

    def __init__(self, *answers: Sample) -> None:
        self.answers = answers

    def sample(self, prompts: Sequence[Any], n: int, params: Params, progress: Any = None) -> list[list[Sample]]:
        return [[self.answers[i % len(self.answers)] for i in range(n)] for _ in prompts]


def stopped_at_once() -> Sample:
    return Sample((STOP,), (-0.01,), "stop")


def cut() -> Sample:
    return Sample((5, 6, 7, 8, 9, 10), (-1.0,) * LONGEST, "length")


def one_update(
    base: LanguageModel,
    folder: Path,
    sampler: Any,
    rewards: Sequence[float],
    prompt: Sequence[int] = (4, 5),
    **keys: Any,
) -> tuple[dict[str, Any], float]:
    """The figures of one update, and how far it moved the parameters."""
    policy = base.sibling(lora=Lora(4), trainable=True, seed=3)
    table = Rl(prompts=2, group=2, **keys)
    plan = plan_of(table, 0.0, LONGEST)
    learner = Critic(policy) if plan.critic else policy

    def score(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], *_: Any) -> Scores:
        total = [list(rewards[: len(group)]) for group in samples]
        return Scores(total, {}, [list(range(len(group))) for group in total])

    rollouts = Rollouts(
        sampler=lambda: sampler or Engine(policy, slots=4),
        reference=policy.frozen_copy(),
        score=score,
        plan=plan,
        keep=lambda *_: [],
        prompts=[Asked(prompt, Row((Message("user", "x"),), None, n)) for n in (1, 2)],
        prompts_per_rollout=2,
        group=2,
        params=Params(1.0, 1.0, LONGEST, 0, (STOP,)),
        seed=1,
        critic=learner.logp if isinstance(learner, Critic) else None,
    )
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    settings = Settings(1, 1e-3, "constant")
    loop = Loop(
        learner.parameters(), lambda s: learner.logp(s, entropy=True), rollouts, plan.terms, settings, folder, Silent()
    )
    figures = loop.update(0, rollouts.window(0))
    moved = sum(float((p - before[name]).detach().abs().sum()) for name, p in learner.parameters().items())
    return figures, moved


@pytest.mark.parametrize("name", READS)
def test_a_policy_that_samples_only_the_stop_token(name: str, base: LanguageModel, tmp_path: Path) -> None:
    """Answers of one id, empty to a reader: the update is finite, and the figures say that nothing is left to learn."""
    figures, _ = one_update(base, tmp_path, Always(stopped_at_once()), [0.0, 0.0], algorithm=name)
    assert math.isfinite(figures["loss"]) and math.isfinite(figures["gradient_norm"])
    assert (figures["length"], figures["diversity"], figures["cut_share"]) == (1.0, 0.5, 0.0)


@pytest.mark.parametrize("name", [name for name in READS if name not in {"rejection", "online_dpo"} | ALONE])
def test_groups_of_equal_rewards_move_nothing(name: str, base: LanguageModel, tmp_path: Path) -> None:
    """Whatever the reward is, 0.0 among them."""
    for rewards in ([0.0, 0.0], [2.5, 2.5]):
        figures, moved = one_update(base, tmp_path, Always(stopped_at_once(), cut()), rewards, algorithm=name, **FLAT)
        assert figures["idle_share"] == 1.0 and moved == 0.0


@pytest.mark.parametrize("name", READS)
def test_an_answer_that_the_limit_cut_beside_an_empty_one(name: str, base: LanguageModel, tmp_path: Path) -> None:
    """The empty answer earns exactly 0.0, which is a reward like any other."""
    figures, moved = one_update(base, tmp_path, Always(stopped_at_once(), cut()), [0.0, -1.0], algorithm=name)
    assert figures["cut_share"] == 0.5 and figures["reward"] == -0.5 and moved > 0
    assert math.isfinite(figures["loss"])


FLAT: dict[str, Any] = {"overlong": 0.0}  # DAPO's slope tells a cut answer from a short one


def test_a_prompt_without_room_for_an_answer_is_refused_with_both_numbers(base: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="the prompt has 512 tokens; the context of 512 leaves no room"):
        one_update(base, tmp_path, None, [0.0, 1.0], prompt=[7] * 512)
