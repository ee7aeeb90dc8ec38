"""The algorithms of reinforcement learning: a row of a table each.

Rewards go into a row's credit and come out as trees; its terms are what is minimised on them. Axes: N prompts, G
answers to a prompt, L tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Literal

from burnish.config.algorithms import Aggregate, Knobs
from burnish.objectives import METHODS, Term, Tree, entropy_term, kl_term, likelihood_term, policy_term, value_term
from burnish.training.credit import dapo, dr_grpo, gae, grpo, pairs, reinforce_pp, rloo
from burnish.training.credit.whiten import whitened
from burnish.training.measured import with_stream

PerAnswer = Callable[[Sequence[Sequence[float]]], Sequence[Sequence[float]]]
PerToken = Callable[[Sequence[Sequence[float]]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Graded:
    """Groups as trees, and what their answers earned.

    ``rewards_NG`` are those of whole answers. Of them ``dense_NGL`` was earned by single tokens (None: nothing), and
    ``penalty_NGL``, the KL where it is in the reward, comes on top.
    """

    trees: Sequence[Tree]
    rewards_NG: Sequence[Sequence[float]]
    dense_NGL: Sequence[Sequence[Sequence[float]]] | None = None
    penalty_NGL: Sequence[Sequence[Sequence[float]]] | None = None

    def per_answer(self) -> list[list[float]]:
        """The reward of each answer, the penalties of its tokens added up in it. [N][G]"""
        if self.penalty_NGL is None:
            return [list(rewards_G) for rewards_G in self.rewards_NG]
        return [
            [reward + sum(penalty_L) for reward, penalty_L in zip(*both, strict=True)]
            for both in zip(self.rewards_NG, self.penalty_NGL, strict=True)
        ]

    def per_token(self) -> list[list[float]]:
        """The reward of each token, of all answers in order: what no token earned comes with the last one. [N G][L]

        Tokens are those that are trained: an episode's, without what was read between its answers.
        """
        found = []
        for n, tree in enumerate(self.trees):
            for g, answer in enumerate(tree.answers):
                nothing = [0.0] * len(answer.ids)
                dense = answer.supervised(nothing if self.dense_NGL is None else self.dense_NGL[n][g])
                penalty = answer.supervised(nothing if self.penalty_NGL is None else self.penalty_NGL[n][g])
                rest = self.rewards_NG[n][g] - sum(dense)
                earned = [a + b for a, b in zip(dense, penalty, strict=True)]
                found.append([*earned[:-1], earned[-1] + rest])
        return found


Credit = Callable[[Graded], list[Tree]]


@dataclass(frozen=True)
class Algorithm:
    """A row: how rewards become a lesson, and the terms that learn it.

    ``credit`` makes the credit function of the recipe's keys. ``aggregate`` is fixed where the algorithm is defined by
    it, else the recipe's. ``ratio`` is whose probabilities the policy term compares: each token's or the answer's.
    ``learns`` says whether the terms are those of a policy, of pairs of answers, or of answers to be repeated.
    ``filter`` says which groups teach something, where others can be drawn in their place. ``critic`` says that a value
    head is trained beside the policy, and that answers carry its "value".
    """

    credit: Callable[[Knobs], Credit]
    aggregate: Aggregate | None = None
    ratio: Literal["token", "sequence"] = "token"
    learns: Literal["policy", "pairs", "answers"] = "policy"
    filter: Callable[[Sequence[float]], bool] = dapo.informative
    critic: bool = False

    def constant(self, knobs: Knobs, longest: int) -> int | None:
        """What each answer is divided by, whatever its length; None where tokens or answers are averaged."""
        return longest if (self.aggregate or knobs.aggregate) == "constant" else None

    def terms(self, knobs: Knobs, kl_weight: float, longest: int) -> list[Term]:
        """What is minimised, with this weight of the KL; ``longest`` is the longest answer that is sampled."""
        if self.learns != "policy":
            return METHODS["dpo"].terms({"beta": knobs.beta}) if self.learns == "pairs" else [likelihood_term()]
        how = self.aggregate or knobs.aggregate
        unit: Literal["token", "sequence"] = "sequence" if how == "sequence" else "token"
        bound, cap = None if knobs.value_clip == "off" else knobs.value_clip, knobs.importance_cap
        return [
            policy_term(clip=knobs.clip, unit=unit, ratio=self.ratio, longest=self.constant(knobs, longest), cap=cap),
            kl_term(kl_weight if knobs.kl_in == "loss" else 0.0, knobs.kl_estimator, cap),
            entropy_term(knobs.entropy),
            *([value_term(knobs.value_weight, bound)] if self.critic else []),
        ]


def per_answer(advantages: PerAnswer) -> Credit:
    """Credit by whole answers: each of an answer's tokens has the answer's advantage."""

    def credit(graded: Graded) -> list[Tree]:
        found_NG = advantages(graded.per_answer())
        flat = [
            float(advantage)
            for tree, advantages_G in zip(graded.trees, found_NG, strict=True)
            for answer, advantage in zip(tree.answers, advantages_G, strict=True)
            for _ in answer.supervised(answer.ids)
        ]
        return with_stream(graded.trees, "advantage", flat)

    return credit


def per_token(advantages: PerToken) -> Credit:
    """Credit by tokens, each with an advantage of its own."""

    def credit(graded: Graded) -> list[Tree]:
        found = advantages(graded.per_token())
        return with_stream(graded.trees, "advantage", list(chain(*found)))

    return credit


def _by_values(knobs: Knobs) -> Credit:
    """PPO's: generalised advantages against the value function, and the returns that it learns."""

    def credit(graded: Graded) -> list[Tree]:
        rewards = graded.per_token()
        if "rewards" in knobs.whiten:
            rewards = whitened(rewards, shift=False)
        values = [answer.supervised(answer.streams["value"]) for tree in graded.trees for answer in tree.answers]
        found = [
            gae.advantages(rewards_L, values_L, knobs.discount, knobs.gae_lambda)
            for rewards_L, values_L in zip(rewards, values, strict=True)
        ]
        returns = [[a + v for a, v in zip(*both, strict=True)] for both in zip(found, values, strict=True)]
        if "advantages" in knobs.whiten:
            found = whitened(found)
        trees = with_stream(graded.trees, "return", list(chain(*returns)))
        return with_stream(trees, "advantage", list(chain(*found)))

    return credit


def _of_group(knobs: Knobs) -> Credit:
    return per_answer(partial(grpo.advantages, scale=knobs.scale))


def _best_against_worst(graded: Graded) -> list[Tree]:
    """Pairs for online DPO; where all rewards are equal the first two answers are a tie."""
    found = []
    for tree, rewards_G in zip(graded.trees, graded.per_answer(), strict=True):
        places = pairs.best_and_worst(rewards_G)
        first, second = places or (0, 1)
        both = (tree.answers[first], tree.answers[second])
        found.append(replace(tree, answers=both, streams={"preference": 1.0 if places else 0.5}))
    return found


def _best_alone(graded: Graded) -> list[Tree]:
    """The best answer of each group, to be repeated."""
    best = [max(range(len(rewards_G)), key=lambda g: rewards_G[g]) for rewards_G in graded.per_answer()]
    return [replace(tree, answers=(tree.answers[place],)) for tree, place in zip(graded.trees, best, strict=True)]


ALGORITHMS: Mapping[str, Algorithm] = {
    "ppo": Algorithm(_by_values, critic=True),
    "grpo": Algorithm(_of_group),
    "dr_grpo": Algorithm(lambda _: per_answer(dr_grpo.advantages), aggregate="constant"),
    "dapo": Algorithm(_of_group, aggregate="token"),
    "gspo": Algorithm(_of_group, aggregate="sequence", ratio="sequence"),
    "rloo": Algorithm(lambda _: per_answer(rloo.advantages)),
    "reinforce++": Algorithm(lambda _: per_token(reinforce_pp.advantages)),
    "online_dpo": Algorithm(lambda _: _best_against_worst, learns="pairs"),
    "rejection": Algorithm(lambda _: _best_alone, learns="answers"),
}
