"""What a recipe makes of an algorithm: the credit and the terms, and how a rollout is paid, cut and repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import pvariance

from burnish.config import Rl
from burnish.objectives import Answer, Term, Tree, chord_schedule, chord_term, likelihood_term, shaped_term, sharing
from burnish.parts import Part
from burnish.training.algorithms import ALGORITHMS, Algorithm, Credit, Graded, per_answer
from burnish.training.credit import dapo, kl
from burnish.training.measured import Measured


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
    critic: bool = False

    def lesson(self, measured: Measured, kl_weight: float) -> tuple[list[Tree], dict[str, float]]:
        """The trees to learn from, with their credit, and its figures; ``kl_weight`` is that of the KL in the reward.

        Raises:
            TrainingError: A reward is of no use to the algorithm.
        """
        figures: dict[str, float] = {}
        rewards, drawn = measured.scores.total, measured.own()
        if self.shaping is not None:
            added = [[self.shaping(len(s.drawn)) if s.logprobs else 0.0 for s in group] for group in measured.samples]
            rewards = [[a + b for a, b in zip(*both, strict=True)] for both in zip(rewards, added, strict=True)]
            figures["reward/overlong"] = sum(map(sum, added)) / sum(map(len, drawn.samples))
        penalty = None
        if self.kl.in_reward:
            figures["kl_weight"] = kl_weight
            penalty = [[_penalty(answer, kl_weight) for answer in tree.answers] for tree in measured.trees]
        trees = self.credit(Graded(measured.trees, rewards, measured.scores.tokens, penalty))
        if self.critic:
            figures["value_explained"] = _explained(trees)
        return _told_apart(trees), {**figures, "idle_share": _idle(drawn.trees, trees)}


def plan_of(rl: Rl, kl_weight: float, longest: int, own: Part | None = None) -> Plan:
    """The recipe's algorithm; ``own`` is the function that it names in the place of one.

    Args:
        kl_weight: The weight of the KL.
        longest: The longest answer that is sampled, in tokens; an episode has up to ``rl.turns`` of them.
    """
    longest *= rl.turns if rl.environment is not None else 1
    knobs = rl.knobs()
    row = ALGORITHMS[rl.algorithm] if own is None else Algorithm(lambda _: per_answer(own))
    return Plan(
        credit=row.credit(knobs),
        terms=tuple(_with_demonstrations(rl, row.terms(knobs, kl_weight, longest), row.constant(knobs, longest))),
        filter=row.filter,
        shaping=partial(dapo.overlong, longest=longest, share=knobs.overlong) if knobs.overlong else None,
        kl=Leash(kl_weight, knobs.kl_in == "reward", None if knobs.kl_target == "off" else knobs.kl_target),
        inner=Inner(knobs.inner_epochs, knobs.minibatches),
        draws=knobs.dynamic_sampling,
        critic=row.critic,
    )


def _with_demonstrations(rl: Rl, terms: list[Term], constant: int | None) -> list[Term]:
    """The terms, and those of written answers: with a fixed weight, a scheduled share, or within the groups.

    ``constant`` is what the policy term divides each answer by, None where it has no such constant.
    """
    if rl.luffy is not None:
        return [*sharing(terms[0], shaped_term(rl.luffy.gamma, constant)), *terms[1:]]
    if rl.chord is not None:
        mu = chord_schedule(*rl.chord.mu, updates=rl.updates, warmup=rl.chord.warmup)
        written = chord_term() if rl.chord.phi else likelihood_term()
        return [*(replace(term, schedule=lambda step: 1 - mu(step)) for term in terms), replace(written, schedule=mu)]
    weight = rl.given().get("demonstrations")
    return [*terms, likelihood_term(weight)] if weight else terms


def _penalty(answer: Answer, weight: float) -> list[float]:
    """The KL of each token of a drawn answer; a written one has none."""
    if "old_logp" not in answer.streams:
        return [0.0] * len(answer.ids)
    return kl.penalty(answer.streams["old_logp"], answer.streams["reference_logp"], weight)


def _told_apart(trees: Sequence[Tree]) -> list[Tree]:
    """The advantages of written answers under a name of their own, so that another term reads them."""

    def own(answer: Answer) -> Answer:
        if "old_logp" in answer.streams:
            return answer
        return replace(answer, streams={"demonstrated_advantage": answer.streams["advantage"]})

    return [replace(tree, answers=tuple(map(own, tree.answers))) for tree in trees]


def _explained(trees: Sequence[Tree]) -> float:
    """1 - var(return - value) / var(return) over all tokens: 1 where the value foresees all, 0 where nothing."""
    answers = [answer for tree in trees for answer in tree.answers]
    returns = [r for answer in answers for r in answer.supervised(answer.streams["return"])]
    values = [v for answer in answers for v in answer.supervised(answer.streams["value"])]
    spread = pvariance(returns)
    return 1 - pvariance([r - v for r, v in zip(returns, values, strict=True)]) / spread if spread else 0.0


def _idle(sampled: Sequence[Tree], trees: Sequence[Tree]) -> float:
    """The share of sampled tokens that teach nothing: left out, or with an advantage of zero."""
    tokens = sum(answer.units for tree in sampled for answer in tree.answers)
    answers = [answer for tree in trees for answer in tree.answers if "old_logp" in answer.streams]
    advantages = [answer.streams.get("advantage", answer.weights) for answer in answers]
    return 1 - sum(advantage != 0.0 for advantages_L in advantages for advantage in advantages_L) / tokens
