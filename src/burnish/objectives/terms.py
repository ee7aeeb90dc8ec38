"""Loss terms: pure functions of logprobs or scores.

A term declares its unit and its count; the count comes from the trees of the whole batch, before the first
forward. It returns sums over its units (of the loss and of each metric); only the loop divides, by the
declared count. Axes: S supervised positions, A answers, N trees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from burnish.objectives import reading
from burnish.objectives.stream import Stream, Tree

Unit = Literal["token", "sequence", "pair"]
Estimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class Outputs:
    """What a model says about a stream: scores, by criterion too, values and the log-odds of each type of error where
    it has heads for them, the KL beside a teacher."""

    logp_S: Tensor | None = None
    entropy_S: Tensor | None = None
    scores_A: Tensor | None = None
    by_criterion_A: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_kl_S: Tensor | None = None
    value_S: Tensor | None = None
    errors_SK: Tensor | None = None


@dataclass(frozen=True)
class TermResult:
    """Sums over the units of one stream: the loss, each metric, and how many units there were."""

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    units: float = 0.0


@dataclass(frozen=True)
class Statistic:
    """A mean over the whole window under the current parameters, known before the first gradient.

    The loop runs ``trees`` of the window's trees without gradient, adds up what ``read`` says of each stream over
    all workers, and hands total / units (0 without units) to the term as ``stream.window[term.name]``. So the
    value, and the gradient that depends on it, are the same however the window is cut.
    """

    trees: Callable[[Sequence[Tree]], Sequence[Tree]]
    read: Callable[[Outputs, Stream], TermResult]


@dataclass(frozen=True)
class Term:
    """One summand of the objective: ``weight`` times (sum of ``loss`` over the batch / its ``divisor``).

    The divisor is the term's own ``count``, which is checked against the units that were used, unless the method says
    otherwise: a constant (Dr. GRPO), or the count of two terms (LUFFY). Metrics are always means over the count.
    ``entropy`` says that ``loss`` reads ``outputs.entropy_S``. ``statistic`` is what it reads from ``stream.window``.
    ``schedule`` gives the share of its weight at each update (None: all of it at every one).
    """

    name: str
    unit: Unit
    weight: float
    count: Callable[[Sequence[Tree]], float]
    loss: Callable[[Outputs, Stream], TermResult]
    entropy: bool = False
    statistic: Statistic | None = None
    divisor: Callable[[Sequence[Tree]], float] | None = None
    schedule: Callable[[int], float] | None = None

    def divided_by(self, trees: Sequence[Tree]) -> float:
        """What the sum over these trees is divided by."""
        return self.count(trees) if self.divisor is None else self.divisor(trees)

    def at(self, step: int) -> float:
        """The weight at update ``step``."""
        return self.weight if self.schedule is None else self.weight * self.schedule(step)


def likelihood(logp_S: Tensor, weights_S: Tensor) -> TermResult:
    """Weighted negative log-likelihood: sum of -w log pi(y). Unit: token, counted by weight."""
    on = weights_S != 0
    weights = weights_S[on]
    return TermResult(-(weights * logp_S[on]).sum(), {}, float(weights.sum()))


def policy(
    logp_S: Tensor,
    old_logp_S: Tensor,
    advantage_S: Tensor,
    weights_S: Tensor,
    clip: tuple[float, float] = (0.2, 0.28),
    importance_S: Tensor | None = None,
) -> TermResult:
    """Clipped surrogate: sum of -w i min(r A, clamp(r, 1 - low, 1 + high) A), r = exp(logp - old_logp).

    PPO (Schulman et al. 2017, arXiv:1707.06347) with GRPO's advantages (Shao et al. 2024, arXiv:2402.03300)
    and an upper bound of its own (DAPO, Yu et al. 2025, arXiv:2503.14476). ``old_logp_S`` is under the
    sampling policy at the sampling temperature, and so must ``logp_S`` be. i (``importance_S``, 1 where not given)
    corrects for another policy's samples; it changes weights and no count. Metrics: "clip_share" (units whose
    gradient the clip removed), "ratio".
    """
    on = weights_S != 0
    weights, advantage = weights_S[on], advantage_S[on]
    ratio = (logp_S[on] - old_logp_S[on]).exp()
    bounded = ratio.clamp(1 - clip[0], 1 + clip[1])
    loss = -torch.minimum(ratio * advantage, bounded * advantage)
    if importance_S is not None:
        loss = importance_S[on] * loss
    with torch.no_grad():
        clipped = bounded * advantage < ratio * advantage
        metrics = {"clip_share": (weights * clipped).sum(), "ratio": (weights * ratio).sum()}
    return TermResult((weights * loss).sum(), metrics, float(weights.sum()))


def truncated_importance(old_logp_S: Tensor, sampled_logp_S: Tensor, cap: float) -> Tensor:
    """min(exp(old_logp - sampled_logp), cap), without gradient [S]: samples of one model as lessons for another.

    ``old_logp_S`` is what the trainer gives the ids before the first update, ``sampled_logp_S`` what the sampler drew
    them with. Without a cap the weighted mean is that over the trainer's own samples, with a variance that knows no
    bound; the cap bounds both it and what a token may weigh. IMPALA's rho (Espeholt et al. 2018, arXiv:1802.01561,
    section 4.1), for a sampler that computes otherwise than its trainer: Yao et al. 2025, "On the Rollout-Training
    Mismatch in Modern RL Systems".
    """
    return (old_logp_S - sampled_logp_S).detach().exp().clamp(max=cap)


def kl(
    logp_S: Tensor,
    reference_logp_S: Tensor,
    weights_S: Tensor,
    old_logp_S: Tensor | None = None,
    estimator: Estimator = "k3",
    importance_S: Tensor | None = None,
) -> TermResult:
    """KL(policy || reference) per token from samples of the policy, inside the loss. Metric: "kl", its value.

    The estimator (Schulman 2020, joschu.net/blog/kl-approx.html) names the value, with d = logp -
    reference_logp: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. The gradient is that of the KL itself whatever
    the estimator, E[r d grad logp]: differentiating k1 gives zero in expectation and k3 the other direction's
    KL. r = exp(logp - old_logp) corrects for samples of an older policy (``old_logp_S``; None: on policy, r =
    1); the value is that under r too. ``importance_S`` multiplies r.
    """
    on = weights_S != 0
    weights, logp = weights_S[on], logp_S[on]
    fixed = logp.detach()
    difference = fixed - reference_logp_S[on]
    ratio = torch.ones_like(fixed) if old_logp_S is None else (fixed - old_logp_S[on]).exp()
    if importance_S is not None:
        ratio = ratio * importance_S[on]
    if estimator == "k1":
        value = difference
    elif estimator == "k2":
        value = difference**2 / 2
    else:
        value = torch.expm1(-difference) + difference
    value = weights * ratio * value
    # (logp - fixed) is zero: it carries the gradient and leaves the value alone.
    total = (value + weights * ratio * difference * (logp - fixed)).sum()
    return TermResult(total, {"kl": value.sum()}, float(weights.sum()))


def entropy(entropy_S: Tensor, weights_S: Tensor) -> TermResult:
    """Sum of -w H, with a gradient that raises entropy. Unit: token. Metric: "entropy", in nats."""
    on = weights_S != 0
    weights = weights_S[on]
    total = (weights * entropy_S[on]).sum()
    return TermResult(-total, {"entropy": total.detach()}, float(weights.sum()))


def likelihood_term(weight: float = 1.0) -> Term:
    """Likelihood of demonstrations: written answers that nobody judged. Unit: token.

    Answers with an advantage and the answers of trees with a "preference" or a "label" are not among them;
    ``chosen_term`` learns the likelihood of the better answer of a judged tree.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return likelihood(reading.given(outputs.logp_S), reading.demonstration_weights(stream))

    def count(trees: Sequence[Tree]) -> float:
        return sum(answer.units for answer in reading.demonstrations(trees))

    return Term("likelihood", "token", weight, count, loss)


def policy_term(
    weight: float = 1.0,
    clip: tuple[float, float] = (0.2, 0.28),
    unit: Literal["token", "sequence"] = "token",
    ratio: Literal["token", "sequence"] = "token",
    longest: int | None = None,
    cap: float | None = None,
) -> Term:
    """Clipped surrogate on sampled answers: those that carry "advantage", and with it "old_logp".

    Unit "token" weighs every token alike (DAPO); "sequence" takes each answer's mean first (GRPO as published).
    ``ratio`` "sequence" takes one ratio for all tokens of an answer, exp(mean(logp - old_logp)) (GSPO, Zheng et al.
    2025, arXiv:2507.18071 eq. 7). ``longest`` divides by a constant, answers times the longest that one may be, so that
    a token weighs the same in a short and in a long answer (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783). With a
    ``cap`` the answers carry "sampled_logp" too, and each token is weighed by ``truncated_importance``; metrics:
    "importance", its mean, and "truncated_share", how much of the weight the cap holds down.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.weights(stream, having="advantage")
        old, advantage = reading.figure(stream, "old_logp", weights), reading.figure(stream, "advantage", weights)
        logp = reading.given(outputs.logp_S)
        if ratio == "sequence":
            logp = old + reading.means(logp - old, weights, stream)[stream.answer_S]
        if unit == "sequence":
            whole = reading.sums(torch.ones_like(weights), weights, stream)
            weights = torch.where(weights != 0, weights / whole[stream.answer_S], 0.0)
        if cap is None:
            return policy(logp, old, advantage, weights, clip)
        importance = truncated_importance(old, reading.figure(stream, "sampled_logp", weights), cap)
        result = policy(logp, old, advantage, weights, clip, importance)
        on = weights != 0
        metrics = {
            "importance": (weights[on] * importance[on]).sum(),
            "truncated_share": (weights[on] * (importance[on] >= cap)).sum(),
        }
        return replace(result, metrics={**result.metrics, **metrics})

    def answers(trees: Sequence[Tree]) -> float:
        return float(sum(answer.units > 0 for answer in reading.answers(trees, having="advantage")))

    def tokens(trees: Sequence[Tree]) -> float:
        return reading.tokens(trees, having="advantage")

    divisor = None if longest is None else lambda trees: longest * answers(trees)
    return Term("policy", unit, weight, tokens if unit == "token" else answers, loss, divisor=divisor)


def kl_term(weight: float, estimator: Estimator = "k3", cap: float | None = None) -> Term:
    """KL to the reference on answers that carry "reference_logp", and perhaps "old_logp". Unit: token.

    With a ``cap`` they carry both and "sampled_logp", and are weighed by ``truncated_importance``.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.weights(stream, having="reference_logp")
        old = reading.figure(stream, "old_logp", weights) if cap is not None or "old_logp" in stream.streams else None
        reference = reading.figure(stream, "reference_logp", weights)
        importance = None
        if cap is not None and old is not None:
            importance = truncated_importance(old, reading.figure(stream, "sampled_logp", weights), cap)
        return kl(reading.given(outputs.logp_S), reference, weights, old, estimator, importance)

    return Term("kl", "token", weight, lambda trees: reading.tokens(trees, having="reference_logp"), loss)


def entropy_term(weight: float = 0.0) -> Term:
    """Entropy on sampled answers: those that carry "advantage". Weight 0 only measures it. Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return entropy(reading.given(outputs.entropy_S), reading.weights(stream, having="advantage"))

    def count(trees: Sequence[Tree]) -> float:
        return reading.tokens(trees, having="advantage")

    return Term("entropy", "token", weight, count, loss, entropy=True)
