"""Rollouts: figures by hand, replay, and the leash between sampler and trainer."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from burnish.config import Rl
from burnish.config.algorithms import Knobs
from burnish.errors import TrainingError
from burnish.models.language import LanguageModel
from burnish.objectives.stream import pack
from burnish.objectives.terms import Outputs
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import MISMATCH_INT8, Engine, Params, Sample
from burnish.training.algorithms import ALGORITHMS
from burnish.training.plan import Inner, Leash, Plan, plan_of
from burnish.training.rollouts import Rollouts


def paid(rewards: list[list[float]]) -> Scores:
    return Scores(rewards, {"variety": rewards}, [list(range(len(group))) for group in rewards])


def by_length(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], scales: Any, rollout: int | None) -> Scores:
    return paid([[float(len(set(sample.ids))) for sample in group] for group in samples])


GRPO = Plan(ALGORITHMS["grpo"].credit(Knobs()))


def asked(*prompts: list[int]) -> list[Asked]:
    return [Asked(ids, Row((Message("user", str(ids)),), None, n)) for n, ids in enumerate(prompts, 1)]


def rollouts_of(model: LanguageModel, **changed: Any) -> Rollouts:
    values: dict[str, Any] = {
        "sampler": lambda: Engine(model, slots=8),
        "reference": model.frozen_copy(),
        "score": by_length,
        "plan": GRPO,
        "keep": lambda step, chosen, groups: [],
        "prompts": asked([5, 6, 7], [8, 9], [10, 11, 12, 13], [3]),
        "prompts_per_rollout": 2,
        "group": 3,
        "params": Params(1.0, 1.0, 6, 0, (294,)),
        "seed": 11,
    }
    return Rollouts(**{**values, **changed})


class Fixed:
    """A sampler that says what it was given."""

    def __init__(self, groups: list[list[Sample]]) -> None:
        self.groups = groups

    def sample(self, prompts: Any, n: int, params: Params, progress: Any = None) -> list[list[Sample]]:
        return self.groups


def test_figures_by_hand(model: LanguageModel) -> None:
    groups = [
        [Sample((5, 6), (-1.0, -2.0), "stop"), Sample((5, 6), (-1.0, -2.0), "stop")],
        [Sample((7,), (-0.5,), "length"), Sample((7, 8, 9), (-1.0, -1.0, -1.0), "stop")],
    ]
    measured = rollouts_of(model, sampler=lambda: Fixed(groups)).measure(asked([5], [6]), 2, 0)
    trees, learned = GRPO.lesson(measured, 0.0)
    figures = measured.figures()
    assert figures["reward"] == figures["reward/variety"] == pytest.approx((2 + 2 + 1 + 3) / 4)
    assert figures["length"] == 2.0
    assert figures["cut_share"] == 0.25
    assert figures["diversity"] == pytest.approx((0.5 + 1.0) / 2)
    assert learned["idle_share"] == 0.5  # the first group's rewards are equal: 4 of 8 tokens carry nothing
    reference = [r for t in trees for a in t.answers for r in a.streams["reference_logp"]]
    sampled = [-1.0, -2.0, -1.0, -2.0, -0.5, -1.0, -1.0, -1.0]
    assert figures["kl"] == pytest.approx(sum(s - r for s, r in zip(sampled, reference, strict=True)) / 8)
    assert [a.streams["advantage"][0] for t in trees for a in t.answers] == pytest.approx([0, 0, -1, 1])


def test_an_answer_without_a_reward_leaves_its_group(model: LanguageModel) -> None:
    groups = [[Sample((n,), (-1.0,), "stop") for n in (5, 6, 7)], [Sample((n,), (-1.0,), "stop") for n in (8, 9, 10)]]
    scores = Scores([[1.0, 3.0], [2.0]], {"judge": [[1.0, 3.0], [2.0]]}, [[0, 2], [1]], None, {"judge": 3}, "no answer")
    rollouts = rollouts_of(model, score=lambda *_: scores, sampler=lambda: Fixed(groups))
    measured = rollouts.measure(asked([5], [6]), 3, 0, 0)
    (trees, _), figures = GRPO.lesson(measured, 0.0), measured.figures()
    assert measured.drawn == groups  # people still read all of them
    assert [[a.ids for a in tree.answers] for tree in trees] == [[(5,), (7,)]]  # one answer alone teaches nothing
    assert [a.streams["advantage"][0] for a in trees[0].answers] == pytest.approx([-1.0, 1.0])
    assert (figures["reward"], figures["reward/judge"], figures["reward/judge/failed"]) == (2.0, 2.0, 3.0)
    look = Scores([[], [2.0]], {"judge": [[], [2.0]]}, [[], [0]], None, {"judge": 1})
    alone = Fixed([group[:1] for group in groups])
    looked = rollouts_of(model, score=lambda *_: look, sampler=lambda: alone).measure(asked([5], [6]), 1, 0)
    assert looked.figures()["reward"] == 2.0  # in a look no group is needed
    none = Scores([[], []], {"judge": [[], []]}, [[], []], None, {"judge": 6}, "the judge is not there")
    with pytest.raises(TrainingError, match="no prompt of 2 has 2 answers with a reward: the judge is not there"):
        rollouts_of(model, score=lambda *_: none, sampler=lambda: Fixed(groups)).measure(asked([5], [6]), 3, 0, 0)


def test_the_engine_and_its_weights_are_gone_before_anything_else_runs(model: LanguageModel) -> None:
    alive: list[weakref.ref[Engine]] = []

    def sampler() -> Engine:
        engine = Engine(model, slots=8)
        alive.append(weakref.ref(engine))
        return engine

    def score(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], *given: Any) -> Scores:
        assert [engine() for engine in alive] == [None] * len(alive)
        return by_length(asked, samples, *given)

    rollouts_of(model, sampler=sampler, score=score).window(0)
    assert len(alive) == 1


def test_what_the_engine_computed_is_kept_for_the_update_on_it_and_no_longer(model: LanguageModel) -> None:
    def sampler() -> Engine:
        return Engine(model, slots=8, trail=model.trail)

    rollouts = rollouts_of(model, sampler=sampler, learner=model)
    trees = rollouts.window(0)
    assert model.trail is not None and model.trail.holds(trees)
    streams = pack(trees, 100, keep_last=False)
    assert all(model.trail.inputs(stream) is not None for stream in streams)
    rollouts.measure(asked([5, 6]), 1, 0)  # a look: nothing is learned from its answers
    assert model.trail is None
    rollouts = rollouts_of(model, sampler=sampler, learner=model, plan=replace(GRPO, inner=Inner(1, 2)))
    assert rollouts.window(0) and model.trail is not None
    assert rollouts.window(1) and model.trail is None  # the policy has moved
    rollouts_of(model, sampler=sampler).window(0)
    assert model.trail is None


def test_a_rollout_is_replayed_whole(model: LanguageModel) -> None:
    first, again = rollouts_of(model), rollouts_of(model)
    first.window(0), first.window(1)
    expected = [first.window(2), first.window(3)]
    assert [again.window(2), again.window(3)] == expected
    assert first.boundary(2) and not first.boundary(3)


def test_every_prompt_is_used_once_a_pass(model: LanguageModel) -> None:
    rollouts = rollouts_of(model)
    assert sorted(rollouts._chosen(0) + rollouts._chosen(1)) == [0, 1, 2, 3]


def test_a_reward_that_is_not_finite_stops(model: LanguageModel) -> None:
    broken = rollouts_of(
        model,
        score=lambda p, a, *_: paid([[math.nan for _ in g] for g in a]),
    )
    with pytest.raises(TrainingError, match="not finite"):
        broken.window(0)


def test_a_rollout_is_cut_into_minibatches_and_passes(model: LanguageModel) -> None:
    plan = replace(GRPO, inner=Inner(epochs=2, minibatches=3))
    rollouts = rollouts_of(model, plan=plan, prompts_per_rollout=4)
    windows = [rollouts.window(step) for step in range(6)]
    assert [len(trees) for trees in windows] == [2, 1, 1, 2, 1, 1]  # all groups in each pass, none twice
    prompts = [[tuple(tree.prompt) for trees in part for tree in trees] for part in (windows[:3], windows[3:])]
    assert sorted(prompts[0]) == sorted(prompts[1]) and len(set(prompts[0])) == 4
    assert prompts[0] != prompts[1]  # in another order
    assert [rollouts.boundary(step) for step in range(7)] == [True, *[False] * 5, True]
    again = rollouts_of(model, plan=plan, prompts_per_rollout=4)
    again.window(0)
    assert again.window(4) == windows[4]


def equal_for(*silent: int) -> Any:
    """Rewards that are all equal on the prompts that begin with these ids."""

    def score(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], *_: Any) -> Scores:
        found = [
            [0.0 if prompt.ids[0] in silent else float(n * n) for n, _ in enumerate(group)]
            for prompt, group in zip(asked, samples, strict=True)
        ]
        return paid(found)

    return score


def test_groups_that_teach_nothing_are_replaced(model: LanguageModel) -> None:
    plan = replace(GRPO, draws=8)
    rollouts = rollouts_of(model, plan=plan, score=equal_for(5, 8))
    for step in (0, 2):
        trees = [*rollouts.window(step), *rollouts.window(step + 1)]
        assert len(trees) == 2 and all(tree.prompt[0] in (10, 3) for tree in trees)
    rollouts.window(0)
    first = rollouts.figures()
    assert first["idle_share"] == 0.0
    again = rollouts_of(model, plan=plan, score=equal_for(5, 8))
    again.window(0)
    assert again.figures() == first


def test_what_a_part_measures_is_a_mean_over_all_draws(model: LanguageModel) -> None:
    """Two prompts with an uncertainty of 1, then four drawn in their place with one of 4."""

    def score(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], *_: Any) -> Scores:
        found = [[0.0] * len(group) for group in samples]
        return replace(paid(found), more={"learned/uncertainty": float(len(asked) ** 2) / 4})

    two, four = ([Asked(prompt.ids, prompt.row) for prompt in asked(*[[5]] * n)] for n in (2, 4))
    rollouts = rollouts_of(model, score=score)
    together = rollouts.measure(two, 3, 0, 0) + rollouts.measure(four, 3, 1, 0)
    assert together.figures()["reward/learned/uncertainty"] == pytest.approx((6 * 1.0 + 12 * 4.0) / 18)


def test_where_no_group_teaches_anything_the_rollout_is_as_large_and_says_so(model: LanguageModel) -> None:
    rollouts = rollouts_of(model, plan=replace(GRPO, draws=2), score=equal_for(5, 8, 10, 3))
    assert len(rollouts.window(0)) + len(rollouts.window(1)) == 2
    rollouts.window(0)
    assert rollouts.figures()["redrawn_share"] == 2.0 and rollouts.figures()["idle_share"] == 1.0


def test_the_weight_of_the_kl_follows_its_target_and_a_replay_follows_it_too(model: LanguageModel) -> None:
    """The start is the policy: a KL of zero is too little, so that the weight falls by a fiftieth each rollout."""
    rollouts = rollouts_of(model, plan=replace(GRPO, kl=Leash(0.5, in_reward=True, target=0.1)))
    for step, wanted in ((0, 0.5), (2, 0.49), (2, 0.49), (4, 0.4802)):
        rollouts.window(step)
        assert rollouts.figures()["kl_weight"] == pytest.approx(wanted, abs=1e-6)


def rounded(model: LanguageModel, **changed: Any) -> Rollouts:
    """Rollouts of an 8-bit engine, whose answers the trainer gives logprobs of its own."""
    plan = plan_of(Rl(prompts=2, group=3, sampler="int8"), 0.1, 6)
    engine = partial(Engine, slots=8, weights="int8")
    return rollouts_of(model, sampler=lambda: engine(model.merged()), plan=plan, kind="int8", trainer=model, **changed)


def test_answers_of_a_rounded_sampler_carry_both_logprobs(model: LanguageModel) -> None:
    rollouts = rounded(model)
    trees = rollouts.window(0)
    stream = pack(trees, 1000, keep_last=False)[0]
    with torch.no_grad():
        logp_S = model.logp(stream).logp_S
    assert torch.allclose(stream.streams["old_logp"], logp_S, atol=1e-5)
    assert not torch.allclose(stream.streams["sampled_logp"], logp_S, atol=1e-5)  # the engine's, of rounded weights
    result = rollouts.plan.terms[0].loss(Outputs(logp_S, torch.zeros_like(logp_S)), stream)
    wanted = (logp_S - stream.streams["sampled_logp"]).exp().clamp(max=2.0).mean()
    assert float(result.metrics["importance"]) / result.units == pytest.approx(float(wanted), rel=1e-5)
    apart = rollouts.mismatch_term().loss(Outputs(logp_S), stream)
    assert 1.0 + 1e-6 < float(apart.total) / apart.units < MISMATCH_INT8  # of what was drawn, not of old and new
    again = rounded(model)
    assert again.window(0) == trees


def test_a_rounded_sampler_has_a_budget_of_its_own(model: LanguageModel) -> None:
    for rollouts, inside in ((rollouts_of(model), 1.009), (rounded(model), 1.14)):
        stream = pack(rollouts.window(0), 1000, keep_last=False)[0]
        with torch.no_grad():
            outputs = model.logp(stream)
        rollouts.state["mismatch"] = (1e6 * inside, 1_000_000)
        rollouts.mismatch_term().loss(outputs, stream)
        rollouts.state["mismatch"] = (1e6 * (inside + 0.02), 1_000_000)
        with pytest.raises(TrainingError, match="disagree") as error:
            rollouts.mismatch_term().loss(outputs, stream)
    assert 'set rl.sampler = "half" or "exact"' in str(error.value)


def test_sampler_and_trainer_agree_and_a_difference_stops(model: LanguageModel) -> None:
    rollouts = rollouts_of(model)
    trees = rollouts.window(0)
    stream = pack(trees, 1000, keep_last=False)[0]
    with torch.no_grad():
        outputs = model.logp(stream)
    term = rollouts.mismatch_term()
    result = term.loss(outputs, stream)
    assert float(result.total) / result.units == pytest.approx(1.0, abs=1e-3)
    rollouts.state["mismatch"] = (5000.0 * 1.02, 5000)
    with pytest.raises(TrainingError, match="disagree"):
        term.loss(outputs, stream)
    rollouts.window(1)  # the policy has moved by then: a difference is drift, not mismatch
    assert term.count(trees) == 0.0 and float(term.loss(outputs, stream).total) == 0.0
