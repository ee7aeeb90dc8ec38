"""The algorithms of reinforcement learning: a row of a table each, and what a recipe makes of its row.

A stage reads a ``Plan`` and knows no algorithm: rewards go into ``credit`` and come out as trees, ``terms`` are what is
minimised on them. Axes: N prompts, G answers to a prompt, L tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from burnish.config import Rl
from burnish.config.algorithms import Aggregate, Knobs
from burnish.objectives import Term, Tree, entropy_term, kl_term, likelihood_term, policy_term
from burnish.parts import Part
from burnish.training.credit import dapo, dr_grpo, grpo, kl, reinforce_pp, rloo
from burnish.training.measured import Measured, with_stream

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
        """The reward of each token, of all answers in order: what no token earned comes with the last one. [N G][L]"""
        found = []
        for n, tree in enumerate(self.trees):
            for g, answer in enumerate(tree.answers):
                dense = [0.0] * len(answer.ids) if self.dense_NGL is None else list(self.dense_NGL[n][g])
                penalty = [0.0] * len(answer.ids) if self.penalty_NGL is None else self.penalty_NGL[n][g]
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
    ``filter`` says which groups teach something, where others can be drawn in their place.
    """

    credit: Callable[[Knobs], Credit]
    aggregate: Aggregate | None = None
    ratio: Literal["token", "sequence"] = "token"
    filter: Callable[[Sequence[float]], bool] = dapo.informative

    def terms(self, knobs: Knobs, kl_weight: float, longest: int) -> list[Term]:
        """What is minimised, with this weight of the KL; ``longest`` is the longest answer that is sampled."""
        how = self.aggregate or knobs.aggregate
        unit: Literal["token", "sequence"] = "sequence" if how == "sequence" else "token"
        divisor = longest if how == "constant" else None
        return [
            policy_term(clip=knobs.clip, unit=unit, ratio=self.ratio, longest=divisor),
            kl_term(kl_weight if knobs.kl_in == "loss" else 0.0, knobs.kl_estimator),
            entropy_term(knobs.entropy),
        ]


@dataclass(frozen=True)
class Inner:
    """How often a rollout is learned from: passes over its groups, and updates in each."""

    epochs: int = 1
    minibatches: int = 2

    @property
    def updates(self) -> int:
        """Updates of a rollout."""
        return self.epochs * self.minibatches


@dataclass(frozen=True)
class Leash:
    """The KL to the start version: its weight, whether it is in the reward, and what the weight is adapted to."""

    weight: float = 0.0
    in_reward: bool = False
    target: float | None = None


@dataclass(frozen=True)
class Plan:
    """An algorithm as a recipe has it.

    ``draws`` is how often prompts are drawn again in the place of groups that ``filter`` refuses, ``shaping`` what is
    added to the reward of an answer for its length (None: nothing).
    """

    credit: Credit
    terms: tuple[Term, ...] = ()
    filter: Callable[[Sequence[float]], bool] = dapo.informative
    shaping: Callable[[int], float] | None = None
    kl: Leash = Leash()
    inner: Inner = Inner()
    draws: int = 0

    def lesson(self, measured: Measured, kl_weight: float) -> tuple[list[Tree], dict[str, float]]:
        """The trees to learn from, with their credit, and its figures; ``kl_weight`` is that of the KL in the reward.

        Raises:
            TrainingError: A reward is of no use to the algorithm.
        """
        figures: dict[str, float] = {}
        rewards = measured.scores.total
        if self.shaping is not None:
            added = [[self.shaping(len(sample.ids)) for sample in group] for group in measured.samples]
            rewards = [[a + b for a, b in zip(*both, strict=True)] for both in zip(rewards, added, strict=True)]
            figures["reward/overlong"] = sum(map(sum, added)) / sum(map(len, added))
        penalty = None
        if self.kl.in_reward:
            figures["kl_weight"] = kl_weight
            penalty = [
                [kl.penalty(a.streams["old_logp"], a.streams["reference_logp"], kl_weight) for a in tree.answers]
                for tree in measured.trees
            ]
        trees = self.credit(Graded(measured.trees, rewards, measured.scores.tokens, penalty))
        return trees, {**figures, "idle_share": _idle(measured.trees, trees)}


def plan_of(rl: Rl, kl_weight: float, longest: int, own: Part | None = None) -> Plan:
    """The recipe's algorithm; ``own`` is the function that it names in the place of one.

    Args:
        kl_weight: The weight of the KL.
        longest: The longest answer that is sampled, in tokens.
    """
    knobs, given = rl.knobs(), rl.given()
    row = ALGORITHMS[rl.algorithm] if own is None else Algorithm(lambda _: per_answer(own))
    terms = row.terms(knobs, kl_weight, longest)
    if given["demonstrations"]:
        terms.append(likelihood_term(float(str(given["demonstrations"]))))
    return Plan(
        credit=row.credit(knobs),
        terms=tuple(terms),
        filter=row.filter,
        shaping=partial(dapo.overlong, longest=longest, share=knobs.overlong) if knobs.overlong else None,
        kl=Leash(kl_weight, knobs.kl_in == "reward", None if knobs.kl_target == "off" else knobs.kl_target),
        inner=Inner(knobs.inner_epochs, knobs.minibatches),
        draws=knobs.dynamic_sampling,
    )


def _idle(sampled: Sequence[Tree], trees: Sequence[Tree]) -> float:
    """The share of sampled tokens that teach nothing: left out, or with an advantage of zero."""
    tokens = sum(len(answer.ids) for tree in sampled for answer in tree.answers)
    advantages = [answer.streams.get("advantage", [1.0] * len(answer.ids)) for tree in trees for answer in tree.answers]
    return 1 - sum(advantage != 0.0 for advantages_L in advantages for advantage in advantages_L) / tokens


def per_answer(advantages: PerAnswer) -> Credit:
    """Credit by whole answers: each of an answer's tokens has the answer's advantage."""

    def credit(graded: Graded) -> list[Tree]:
        found_NG = advantages(graded.per_answer())
        flat = [
            float(advantage)
            for tree, advantages_G in zip(graded.trees, found_NG, strict=True)
            for answer, advantage in zip(tree.answers, advantages_G, strict=True)
            for _ in answer.ids
        ]
        return with_stream(graded.trees, "advantage", flat)

    return credit


def per_token(advantages: PerToken) -> Credit:
    """Credit by tokens, each with an advantage of its own."""

    def credit(graded: Graded) -> list[Tree]:
        found = advantages(graded.per_token())
        return with_stream(graded.trees, "advantage", [a for advantages_L in found for a in advantages_L])

    return credit


def _of_group(knobs: Knobs) -> Credit:
    return per_answer(partial(grpo.advantages, scale=knobs.scale))


ALGORITHMS: Mapping[str, Algorithm] = {
    "grpo": Algorithm(_of_group),
    "dr_grpo": Algorithm(lambda _: per_answer(dr_grpo.advantages), aggregate="constant"),
    "dapo": Algorithm(_of_group, aggregate="token"),
    "gspo": Algorithm(_of_group, aggregate="sequence", ratio="sequence"),
    "rloo": Algorithm(lambda _: per_answer(rloo.advantages)),
    "reinforce++": Algorithm(lambda _: per_token(reinforce_pp.advantages)),
}
