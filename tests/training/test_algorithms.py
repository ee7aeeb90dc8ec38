"""The table of algorithms: what each row makes of rewards, by hand, and one gradient however a window is cut."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.config import Rl
from burnish.config.algorithms import READS
from burnish.models.language import LanguageModel
from burnish.models.value import Critic
from burnish.objectives import Answer, Outputs, Tree, pack
from burnish.parts import Part
from burnish.progress import Silent
from burnish.rewards.scores import Scores
from burnish.sampling import Sample
from burnish.training.algorithms import ALGORITHMS, Graded
from burnish.training.credit.whiten import whitened
from burnish.training.loop import Loop, Settings
from burnish.training.measured import Measured, with_stream
from burnish.training.plan import Inner, Leash, Plan, plan_of

LONGEST = 10


def answer(length: int, row: int = 0) -> Answer:
    old = [-1.0 - 0.1 * i for i in range(length)]
    reference = [-1.5 + 0.2 * i for i in range(length)]
    return Answer(range(3, 3 + length), [1.0] * length, {"old_logp": old, "reference_logp": reference}, row)


def trees() -> list[Tree]:
    return [Tree([1, 2], (answer(2), answer(3))), Tree([2], (answer(1, 1), answer(4, 1), answer(2, 1)))]


REWARDS = [[1.0, 0.0], [0.0, 2.0, 1.0]]


def measured(values: float | None = None) -> Measured:
    samples = [[Sample(tuple(a.ids), tuple(a.streams["old_logp"]), "stop") for a in t.answers] for t in trees()]
    valued = trees() if values is None else with_stream(trees(), "value", [values] * 12)
    return Measured(samples, Scores(REWARDS, {}, [[0, 1], [0, 1, 2]]), valued)


def plan(**keys: Any) -> Plan:
    return plan_of(Rl(**keys), 0.1, LONGEST)


def advantages(found: list[Tree]) -> list[list[float]]:
    return [list(answer.streams["advantage"]) for tree in found for answer in tree.answers]


def test_the_table_and_what_recipes_may_say_are_the_same_names() -> None:
    assert set(ALGORITHMS) == set(READS)
    for name, keys in READS.items():  # the cap is for a sampler that is not exact
        assert Rl(algorithm=name).given() == {key: keys[key] for key in keys if key != "importance_cap"}


def test_rewards_of_answers_and_of_tokens_by_hand() -> None:
    dense = [[[0.25, 0.5], [0.0, 0.0, -1.0]]]
    penalty = [[[-0.1, 0.0], [0.0, 0.2, 0.0]]]
    graded = Graded(trees()[:1], REWARDS[:1], dense, penalty)
    assert graded.per_answer() == [[pytest.approx(0.9), pytest.approx(0.2)]]
    # the first answer earned 1.0, of which 0.75 by its tokens; the rest comes with the last one
    assert graded.per_token()[0] == pytest.approx([0.15, 0.75])
    assert graded.per_token()[1] == pytest.approx([0.0, 0.2, 0.0])
    assert sum(graded.per_token()[1]) == pytest.approx(graded.per_answer()[0][1])


def test_a_reward_of_zero_is_a_reward() -> None:
    found = advantages(plan(algorithm="rloo", kl=0.0).credit(Graded(trees(), [[0.0, 1.0], [0.0, 0.0, 3.0]])))
    assert found[0] == [-1.0, -1.0] and found[4] == [3.0, 3.0] and found[2] == [-1.5]


def test_what_each_row_makes_of_the_rewards() -> None:
    spread = math.sqrt(2 / 3)
    group = [1.0, -1.0, -1 / spread, 1 / spread, 0.0]
    lengths = [2, 3, 1, 4, 2]
    wanted = {"grpo": group, "dapo": group, "gspo": group, "dr_grpo": [0.5, -0.5, -1.0, 1.0, 0.0]}
    for name, values in wanted.items():
        shaped = {"overlong": 0.0} if name == "dapo" else {}
        found, figures = plan(algorithm=name, **shaped).lesson(measured(), 0.1)
        assert advantages(found) == [pytest.approx([v] * n) for v, n in zip(values, lengths, strict=True)], name
        assert figures == {"idle_share": pytest.approx(2 / 12)}


DENSE = [[[0.75, 0.0], [0.0, -0.5, 0.5]], [[0.0], [0.5, 0.0, 0.0, 1.0], [0.0, 0.0]]]


def by_tokens(values: float | None = None) -> Measured:
    """Answers that earned REWARDS, some of it by single tokens; the last answer's comes from other parts alone."""
    found = measured(values)
    return replace(found, scores=replace(found.scores, tokens=DENSE))


def test_what_single_tokens_earned_goes_to_them_where_credit_is_by_token() -> None:
    """PPO with lambda 1 and no value: an advantage is what is earned from the token on."""
    found, _ = plan(algorithm="ppo", kl=0.0, gae_lambda=1.0, whiten=()).lesson(by_tokens(0.0), 0.0)
    assert advantages(found) == [
        pytest.approx([1.0, 0.25]),
        pytest.approx([0.0, 0.0, 0.5]),
        pytest.approx([0.0]),
        pytest.approx([2.0, 1.5, 1.5, 1.5]),
        pytest.approx([1.0, 1.0]),
    ]
    # lambda 0: an advantage is the token's own reward, and what no token earned comes with the last one
    found, _ = plan(algorithm="ppo", kl=0.0, gae_lambda=0.0, whiten=()).lesson(by_tokens(0.0), 0.0)
    assert advantages(found)[0] == pytest.approx([0.75, 0.25])
    assert advantages(found)[3] == pytest.approx([0.5, 0.0, 0.0, 1.5])
    found, _ = plan(algorithm="reinforce++", kl=0.0).lesson(by_tokens(), 0.0)
    flat = torch.tensor([1.0, 0.25, 0.0, 0.0, 0.5, 0.0, 2.0, 1.5, 1.5, 1.5, 1.0, 1.0])
    wanted = (flat - flat.mean()) / flat.std(correction=0)
    assert [a for found_L in advantages(found) for a in found_L] == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in READS if name not in ("ppo", "reinforce++")])
def test_credit_by_groups_takes_the_sum_of_what_tokens_earned(name: str) -> None:
    ours = plan(algorithm=name)
    dense, plain = (ours.lesson(answers, 0.1)[0] for answers in (by_tokens(), measured()))
    assert [tree.streams for tree in dense] == [tree.streams for tree in plain]
    assert [a.streams.get("advantage") for t in dense for a in t.answers] == [
        a.streams.get("advantage") for t in plain for a in t.answers
    ]


def test_the_kl_in_the_reward_by_hand() -> None:
    """log pi - log reference is 0.5, 0.2, -0.1, -0.4 at the places of an answer."""
    found, figures = plan(algorithm="rloo").lesson(measured(), 0.1)
    first, second = 1.0 - 0.1 * (0.5 + 0.2), -0.1 * (0.5 + 0.2 - 0.1)
    assert advantages(found)[:2] == [pytest.approx([first - second] * 2), pytest.approx([second - first] * 3)]
    assert figures["kl_weight"] == 0.1
    found, _ = plan(algorithm="reinforce++").lesson(measured(), 0.1)
    earned = Graded(trees(), REWARDS, None, [[[-0.1 * (0.5 - 0.3 * i) for i in range(len(a.ids))] for a in t.answers]
                                             for t in trees()]).per_token()  # fmt: skip
    assert earned[0] == pytest.approx([-0.05, 1.0 - 0.02])
    flat = torch.tensor([sum(rewards_L[t:]) for rewards_L in earned for t in range(len(rewards_L))])
    wanted = (flat - flat.mean()) / flat.std(correction=0)
    assert [a for found_L in advantages(found) for a in found_L] == pytest.approx(wanted.tolist(), abs=1e-5)


def test_ppo_by_hand() -> None:
    """Values of 0.5, no KL: with lambda 1 an advantage is the reward less the value, and the return is the reward."""
    ours = plan(algorithm="ppo", kl=0.0, gae_lambda=1.0, whiten=())
    found, figures = ours.lesson(measured(0.5), 0.0)
    assert advantages(found) == [
        pytest.approx([r - 0.5] * n) for r, n in zip((1, 0, 0, 2, 1), (2, 3, 1, 4, 2), strict=True)
    ]
    assert [list(a.streams["return"]) for a in found[0].answers] == [pytest.approx([1.0] * 2), pytest.approx([0.0] * 3)]
    assert figures["value_explained"] == pytest.approx(0.0)  # a constant foresees nothing
    perfect = with_stream(found, "value", [r for t in found for a in t.answers for r in a.streams["return"]])
    assert ours.lesson(replace(measured(), trees=perfect), 0.0)[1]["value_explained"] == pytest.approx(1.0)
    # one step ahead: the last token's error, with lambda 0, is no other token's business
    short, _ = plan(algorithm="ppo", kl=0.0, gae_lambda=0.0, discount=0.9, whiten=()).lesson(measured(0.5), 0.0)
    assert advantages(short)[0] == pytest.approx([0.9 * 0.5 - 0.5, 1.0 - 0.5])


def test_ppo_whitens_what_it_is_told_to() -> None:
    plain, _ = plan(algorithm="ppo", kl=0.0, whiten=()).lesson(measured(0.0), 0.0)
    white, _ = plan(algorithm="ppo", kl=0.0).lesson(measured(0.0), 0.0)
    assert advantages(white) == whitened(advantages(plain))
    scaled, _ = plan(algorithm="ppo", kl=0.0, whiten=("rewards",)).lesson(measured(0.0), 0.0)
    rewards = torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1])
    shift = rewards.mean() - rewards.mean() / rewards.std(correction=0)
    first = [rewards[1] / rewards.std(correction=0) + shift, shift]
    assert advantages(scaled)[0] == pytest.approx([float(first[1] + 0.95 * first[0]), float(first[0])], abs=1e-5)


def test_the_value_function_is_a_term_of_ppo_alone() -> None:
    weights = {term.name: term.weight for term in plan(algorithm="ppo", value_weight=0.3).terms}
    assert weights == {"policy": 1.0, "kl": 0.0, "entropy": 0.0, "value": 0.3}
    assert plan(algorithm="ppo").inner.updates == 4 and plan(algorithm="ppo").critic and not plan().critic


def test_overlong_answers_are_paid_less_and_the_figure_says_how_much() -> None:
    """The last half of 10 tokens: an answer of 6 is a fifth down the slope."""
    long = [Tree([1], (answer(5), answer(6)))]
    samples = [[Sample(tuple(a.ids), tuple(a.streams["old_logp"]), "stop") for a in t.answers] for t in long]
    given = Measured(samples, Scores([[1.0, 1.0]], {}, [[0, 1]]), long)
    found, figures = plan(algorithm="dr_grpo", overlong=0.5).lesson(given, 0.0)
    assert advantages(found) == [pytest.approx([0.1] * 5), pytest.approx([-0.1] * 6)]
    assert figures["reward/overlong"] == pytest.approx(-0.1)


def test_plans_say_what_the_recipe_says() -> None:
    ours = plan(algorithm="rloo", kl_target=0.05, inner_epochs=3, minibatches=4, demonstrations=0.5)
    assert (ours.kl, ours.inner, ours.draws) == (Leash(0.1, True, 0.05), Inner(3, 4), 0) and ours.inner.updates == 12
    weights = {term.name: term.weight for term in ours.terms}
    assert weights == {"policy": 1.0, "kl": 0.0, "entropy": 0.0, "likelihood": 0.5}  # the KL is in the reward
    assert {t.name: t.weight for t in plan(entropy=0.01).terms} == {"policy": 1.0, "kl": 0.1, "entropy": 0.01}
    assert plan(algorithm="dapo").draws == 3 and plan(algorithm="dapo").shaping is not None


@pytest.mark.parametrize(
    ("keys", "unit", "count", "divisor"),
    [
        ({}, "token", 12, 12),
        ({"aggregate": "sequence"}, "sequence", 5, 5),
        ({"aggregate": "constant"}, "token", 12, 5 * LONGEST),
        ({"algorithm": "dr_grpo"}, "token", 12, 5 * LONGEST),
        ({"algorithm": "gspo"}, "sequence", 5, 5),
    ],
)
def test_how_tokens_add_up(keys: dict[str, Any], unit: str, count: float, divisor: float) -> None:
    found, _ = plan(**keys).lesson(measured(), 0.0)
    term = plan(**keys).terms[0]
    assert (term.unit, term.count(found), term.divided_by(found)) == (unit, count, divisor)


def test_an_own_credit_function_is_a_row_too() -> None:
    own = Part("mine:credit", lambda rewards_NG: [[r * 10 for r in group] for group in rewards_NG], "", ())
    ours = plan_of(Rl(algorithm="mine:credit"), 0.1, LONGEST, own)
    assert advantages(ours.lesson(measured(), 0.0)[0])[3] == [20.0] * 4


def critic_on(model: LanguageModel) -> Critic:
    """With a head that has grown: at zero nothing of its loss would reach the trunk."""
    critic = Critic(model)
    critic.head_D.data += torch.linspace(-0.1, 0.1, len(critic.head_D))
    return critic


@pytest.mark.parametrize("name", READS)
def test_one_gradient_however_the_window_is_cut(name: str, model: LanguageModel, tmp_path: Path) -> None:
    """All groups in one forward, or one at a time; and the first step goes down."""
    given = plan(algorithm=name)
    window, _ = given.lesson(measured(0.25), 0.1)
    learner = critic_on(model) if given.critic else model

    def forward(stream: Any) -> Outputs:
        return learner.logp(stream, entropy=True)

    found = []
    for budget in (1000, 1):
        settings = Settings(1, 1e-3, "constant", budget=budget)
        loop = Loop(learner.parameters(), forward, None, given.terms, settings, tmp_path, Silent())  # type: ignore[arg-type]
        figures, _ = loop.objective.gradient(0, window)
        found.append({name: p.grad.clone() for name, p in learner.parameters().items() if p.grad is not None})
        loop.optimizer.clear()
    assert max(float(grad.abs().max()) for grad in found[0].values()) > 1e-5
    for parameter, grad in found[0].items():
        torch.testing.assert_close(found[1][parameter], grad, rtol=1e-3, atol=1e-6)
    assert set(found[0]) == set(learner.parameters())
    assert {term.name for term in given.terms} <= set(figures) and all(map(math.isfinite, figures.values()))
    assert len(pack(window, 1, keep_last=False)) == 2
