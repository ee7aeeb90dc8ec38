"""What each part is for: Dr. GRPO and length, the upper clip and unlikely tokens, the value head and variance."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from statistics import mean, pvariance
from typing import Any

import pytest
import torch

from burnish.config import Rl
from burnish.objectives import Answer, Outputs, Tree, pack
from burnish.training.algorithms import Graded
from burnish.training.plan import plan_of

LONGEST = 10


def gradient(answers: list[tuple[int, float]], ratio: float = 1.0, **keys: Any) -> list[list[float]]:
    """The policy term's gradient with respect to each token's logprob, for answers of (tokens, advantage)."""
    made = [
        Answer(range(3, 3 + n), [1.0] * n, {"old_logp": [-2.0] * n, "advantage": [worth] * n}) for n, worth in answers
    ]
    trees = [Tree([1, 2], tuple(made))]
    term = plan_of(Rl(**keys), 0.0, LONGEST).terms[0]
    (stream,) = pack(trees, 100, keep_last=False)
    logp_S = (torch.full((len(stream.take_S),), -2.0) + torch.tensor(ratio).log()).requires_grad_()
    (term.loss(Outputs(logp_S=logp_S), stream).total / term.divided_by(trees)).backward()
    assert logp_S.grad is not None
    left = iter(logp_S.grad.tolist())
    return [[next(left) for _ in range(n)] for n, _ in answers]


def test_a_long_wrong_answer_gets_off_lightly_where_answers_are_averaged_and_not_by_dr_grpo() -> None:
    wrong = [(2, -1.0), (8, -1.0)]
    short, long = gradient(wrong, algorithm="grpo", aggregate="sequence")
    assert short == pytest.approx([1 / 4] * 2) and long == pytest.approx([1 / 16] * 8)  # 1 / (tokens x 2 answers)
    assert sum(long) == pytest.approx(sum(short))  # four times the tokens, no more blame
    short, long = gradient(wrong, algorithm="dr_grpo")
    assert short == pytest.approx([1 / 20] * 2) and long == pytest.approx([1 / 20] * 8)  # 1 / (longest x 2 answers)


def test_an_unlikely_token_that_paid_may_grow_further_where_the_upper_clip_is_higher() -> None:
    grown = [(1, 1.0)]
    assert gradient(grown, ratio=1.25, algorithm="dapo", clip=(0.2, 0.2)) == [[0.0]]
    assert gradient(grown, ratio=1.25, algorithm="dapo") == [[pytest.approx(-1.25)]]  # up to 1.28
    assert gradient(grown, ratio=1.3, algorithm="dapo") == [[0.0]]
    for clip in ((0.2, 0.2), (0.2, 0.28)):  # what did not pay is bounded as before
        assert gradient([(1, -1.0)], ratio=0.75, algorithm="dapo", clip=clip) == [[0.0]]


def test_a_value_of_what_has_happened_takes_its_luck_off_what_comes_after() -> None:
    """Two fair coins, paid with their sum after the second: the first one's luck is no merit of the second."""
    coins = list(product((0, 1), repeat=2))
    rewards = [[float(first + second) for first, second in coins]]

    def second_advantage(values: list[list[float]]) -> list[float]:
        valued = [{"old_logp": [-0.7] * 2, "value": value_L} for value_L in values]
        answers = [Answer(pair, [1.0] * 2, streams) for pair, streams in zip(coins, valued, strict=True)]
        credit = plan_of(Rl(algorithm="ppo", gae_lambda=1.0, whiten=()), 0.0, LONGEST).credit
        (tree,) = credit(Graded([Tree([1], tuple(answers))], rewards))
        return [answer.streams["advantage"][1] for answer in tree.answers]

    blind = second_advantage([[1.0, 1.0] for _ in coins])  # the mean reward, as without a value head
    seeing = second_advantage([[1.0, first + 0.5] for first, _ in coins])
    assert pvariance(blind) == pytest.approx(0.5) and pvariance(seeing) == pytest.approx(0.25)
    for found in (blind, seeing):  # what the gradient expects is the same
        assert mean(a * (second - 0.5) for a, (_, second) in zip(found, coins, strict=True)) == pytest.approx(0.25)


def test_a_value_head_that_has_learned_lowers_the_variance_of_a_delayed_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark, small; a perfect head would leave a little over a fifth of the variance."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    import variance

    monkeypatch.setattr(variance, "UPDATES", 80)
    monkeypatch.setattr(variance, "MEASURED", 12)
    found = variance.ratios(1.0, 0)
    assert found[0] > 1 and found[-1] < 0.6
