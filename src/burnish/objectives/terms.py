"""Loss terms: pure functions of logprobs or scores.

A term declares its unit and its count; the count comes from the trees of the whole batch, before the first
forward. It returns sums over its units (of the loss and of each metric); only the loop divides, by the
declared count. Axes: S supervised positions, A answers, N trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.errors import TrainingError
from burnish.objectives.stream import Answer, Stream, Tree

Unit = Literal["token", "sequence", "pair"]
Estimator = Literal["k1", "k2", "k3"]
Margin = Literal["sigmoid", "hinge", "ipo"]


@dataclass(frozen=True)
class Outputs:
    """What a model says about a stream; scores are there where the model has a reward head."""

    logp_S: Tensor | None = None
    entropy_S: Tensor | None = None
    scores_A: Tensor | None = None


@dataclass(frozen=True)
class TermResult:
    """Sums over the units of one stream: the loss, each metric, and how many units there were."""

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    units: float = 0.0


@dataclass(frozen=True)
class Term:
    """One summand of the objective: ``weight`` times (sum of ``loss`` over the batch / its ``count``).

    ``entropy`` says that ``loss`` reads ``outputs.entropy_S``.
    """

    name: str
    unit: Unit
    weight: float
    count: Callable[[Sequence[Tree]], float]
    loss: Callable[[Outputs, Stream], TermResult]
    entropy: bool = False


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
) -> TermResult:
    """Clipped surrogate: sum of -w min(r A, clamp(r, 1 - low, 1 + high) A), r = exp(logp - old_logp).

    PPO (Schulman et al. 2017, arXiv:1707.06347) with GRPO's advantages (Shao et al. 2024, arXiv:2402.03300)
    and an upper bound of its own (DAPO, Yu et al. 2025, arXiv:2503.14476). ``old_logp_S`` is under the
    sampling policy at the sampling temperature, and so must ``logp_S`` be. Metrics: "clip_share" (units whose
    gradient the clip removed), "ratio".
    """
    on = weights_S != 0
    weights, advantage = weights_S[on], advantage_S[on]
    ratio = (logp_S[on] - old_logp_S[on]).exp()
    bounded = ratio.clamp(1 - clip[0], 1 + clip[1])
    loss = -torch.minimum(ratio * advantage, bounded * advantage)
    with torch.no_grad():
        clipped = bounded * advantage < ratio * advantage
        metrics = {"clip_share": (weights * clipped).sum(), "ratio": (weights * ratio).sum()}
    return TermResult((weights * loss).sum(), metrics, float(weights.sum()))


def kl(
    logp_S: Tensor,
    reference_logp_S: Tensor,
    weights_S: Tensor,
    old_logp_S: Tensor | None = None,
    estimator: Estimator = "k3",
) -> TermResult:
    """KL(policy || reference) per token from samples of the policy, inside the loss. Metric: "kl", its value.

    The estimator (Schulman 2020, joschu.net/blog/kl-approx.html) names the value, with d = logp -
    reference_logp: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. The gradient is that of the KL itself whatever
    the estimator, E[r d grad logp]: differentiating k1 gives zero in expectation and k3 the other direction's
    KL. r = exp(logp - old_logp) corrects for samples of an older policy (``old_logp_S``; None: on policy, r =
    1); the value is that under r too.
    """
    on = weights_S != 0
    weights, logp = weights_S[on], logp_S[on]
    fixed = logp.detach()
    difference = fixed - reference_logp_S[on]
    ratio = torch.ones_like(fixed) if old_logp_S is None else (fixed - old_logp_S[on]).exp()
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


def pairwise(a_N: Tensor, b_N: Tensor, preference_N: Tensor, votes_N: Tensor | None = None) -> TermResult:
    """Bradley-Terry: sum of -v [p log s(a - b) + (1 - p) log s(b - a)], s the logistic function. Unit: pair.

    ``preference_N`` is 1 where a won, 0 where b won, 0.5 for a tie (or the share of a's votes), ``votes_N``
    counts the votes of a pair (None: one each). Bradley and Terry 1952. Metrics: "accuracy" (a tie counts a
    half), "margin" = |a - b|.
    """
    votes = torch.ones_like(preference_N) if votes_N is None else votes_N
    difference = a_N - b_N
    loss = -(preference_N * F.logsigmoid(difference) + (1 - preference_N) * F.logsigmoid(-difference))
    with torch.no_grad():
        agreement = (1 + difference.sign() * (2 * preference_N - 1).sign()) / 2
        metrics = {"accuracy": (votes * agreement).sum(), "margin": (votes * difference.abs()).sum()}
    return TermResult((votes * loss).sum(), metrics, float(votes.sum()))


def preference_margin(margin_N: Tensor, kind: Margin, beta: float = 0.1) -> TermResult:
    """Losses of the margin between chosen and rejected, each as log pi - log reference of the whole answer.

    sigmoid: -log s(beta m) (DPO, Rafailov et al. 2023, arXiv:2305.18290); hinge: max(0, 1 - beta m) (SLiC,
    Zhao et al. 2023, arXiv:2305.10425); ipo: (m - 1 / (2 beta))^2 (Azar et al. 2023, arXiv:2310.12036). Unit:
    pair.
    """
    if kind == "sigmoid":
        loss = -F.logsigmoid(beta * margin_N)
    elif kind == "hinge":
        loss = F.relu(1 - beta * margin_N)
    else:
        loss = (margin_N - 1 / (2 * beta)) ** 2
    metrics = {"accuracy": (margin_N.detach() > 0).float().sum(), "margin": margin_N.detach().sum()}
    return TermResult(loss.sum(), metrics, float(len(margin_N)))


def likelihood_term(weight: float = 1.0) -> Term:
    """Likelihood of written answers: those that carry no "advantage". Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return likelihood(_given(outputs.logp_S), _weights(stream, without="advantage"))

    return Term("likelihood", "token", weight, lambda trees: _tokens(trees, without="advantage"), loss)


def policy_term(
    weight: float = 1.0, clip: tuple[float, float] = (0.2, 0.28), unit: Literal["token", "sequence"] = "token"
) -> Term:
    """Clipped surrogate on sampled answers: those that carry "advantage", and with it "old_logp".

    Unit "token" weighs every token alike (DAPO); "sequence" takes each answer's mean first (GRPO as
    published).
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = _weights(stream, having="advantage")
        old, advantage = _figure(stream, "old_logp", weights), _figure(stream, "advantage", weights)
        if unit == "sequence":
            whole = weights.new_zeros(len(stream.tree_A)).index_add(0, stream.answer_S, weights)
            weights = torch.where(weights != 0, weights / whole[stream.answer_S], 0.0)
        return policy(_given(outputs.logp_S), old, advantage, weights, clip)

    def count(trees: Sequence[Tree]) -> float:
        if unit == "token":
            return _tokens(trees, having="advantage")
        return float(sum(answer.units > 0 for answer in _answers(trees, having="advantage")))

    return Term("policy", unit, weight, count, loss)


def kl_term(weight: float, estimator: Estimator = "k3") -> Term:
    """KL to the reference on answers that carry "reference_logp", and perhaps "old_logp". Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = _weights(stream, having="reference_logp")
        old = _figure(stream, "old_logp", weights) if "old_logp" in stream.streams else None
        return kl(_given(outputs.logp_S), _figure(stream, "reference_logp", weights), weights, old, estimator)

    return Term("kl", "token", weight, lambda trees: _tokens(trees, having="reference_logp"), loss)


def entropy_term(weight: float = 0.0) -> Term:
    """Entropy on sampled answers: those that carry "advantage". Weight 0 only measures it. Unit: token."""

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return entropy(_given(outputs.entropy_S), _weights(stream, having="advantage"))

    return Term("entropy", "token", weight, lambda trees: _tokens(trees, having="advantage"), loss, entropy=True)


def pairwise_term(weight: float = 1.0) -> Term:
    """Bradley-Terry on two-answer trees that carry "preference", and perhaps "votes". Unit: pair.

    Raises (from ``count``, before any forward):
        TrainingError: A tree with a preference has not two answers, or the preference is outside [0, 1].
    """

    def count(trees: Sequence[Tree]) -> float:
        total = 0.0
        for tree in trees:
            if "preference" in tree.streams:
                preference, votes = tree.streams["preference"], tree.streams.get("votes", 1.0)
                if len(tree.answers) != 2 or not isinstance(preference, float | int) or not 0 <= preference <= 1:
                    what = f"a preference of {preference} on {len(tree.answers)} answers"
                    raise TrainingError(what, where=f"row {tree.answers[0].row}", mend="it is 0 to 1, on two answers")
                total += float(votes)  # type: ignore[arg-type]
        return total

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        scores = _given(outputs.scores_A)
        first = torch.searchsorted(stream.tree_A, torch.arange(stream.trees))
        on = stream.present.get("preference", torch.zeros(stream.trees, dtype=torch.bool))
        a, first = scores[first[on]], first[on]
        preference = stream.figures["preference"][on] if len(first) else a.detach()
        votes = None
        if "votes" in stream.figures:
            votes = torch.where(stream.present["votes"], stream.figures["votes"], 1.0)[on]
        return pairwise(a, scores[first + 1], preference, votes)

    return Term("pairwise", "pair", weight, count, loss)


def _given(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TrainingError("a term reads an output that the model was not asked for")
    return tensor


def _answers(trees: Sequence[Tree], having: str | None = None, without: str | None = None) -> list[Answer]:
    answers = [answer for tree in trees for answer in tree.answers]
    return [a for a in answers if (having is None or having in a.streams) and without not in a.streams]


def _tokens(trees: Sequence[Tree], having: str | None = None, without: str | None = None) -> float:
    return sum(answer.units for answer in _answers(trees, having, without))


def _weights(stream: Stream, having: str | None = None, without: str | None = None) -> Tensor:
    """The stream's weights, zero where a term has no unit."""
    weights = stream.weights_S
    nowhere = torch.zeros_like(weights, dtype=torch.bool)
    if having is not None:
        weights = torch.where(stream.present.get(having, nowhere), weights, 0.0)
    if without is not None:
        weights = torch.where(stream.present.get(without, nowhere), 0.0, weights)
    return weights


def _figure(stream: Stream, name: str, weights_S: Tensor) -> Tensor:
    """A named figure [S], which every position with a weight must carry."""
    nowhere = torch.zeros_like(weights_S, dtype=torch.bool)
    missing = ((weights_S != 0) & ~stream.present.get(name, nowhere)).nonzero()
    if len(missing):
        row = stream.rows_A[int(stream.answer_S[missing[0]])]
        raise TrainingError(f'an answer carries no "{name}"', where=f"row {row}")
    return stream.streams.get(name, torch.zeros_like(weights_S))
