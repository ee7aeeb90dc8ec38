"""Losses of pairs: which of two answers is the better one.

Every loss here is p' l(m) + (1 - p') l(-m) a vote: l falls in the margin m by which the first answer leads, p is the
share of the votes that it won (1, 0, 0.5 for a tie), and p' is p after label smoothing. Axes: S supervised positions,
A answers, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.errors import TrainingError
from burnish.objectives import reading
from burnish.objectives.reading import Pairs
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult, likelihood

Margin = Literal["sigmoid", "hinge", "ipo"]
Smoothing = Literal["conservative", "robust"]


def smoothed(preference_P: Tensor, label_smoothing: float, smoothing: Smoothing = "conservative") -> Tensor:
    """The share p' that a loss takes for p where a share eps of the votes is wrong (``label_smoothing``). [P]

    conservative: p' = (1 - eps) p + eps (1 - p), the expected vote (Mitchell 2023, ericmitchell.ai/cdpo.pdf), so that
    the best margin is finite. robust: p' = (p - eps) / (1 - 2 eps), from 0 - to 1 + eps / (1 - 2 eps): the loss whose
    expectation under flipped votes is the loss of the true ones (Chowdhury et al. 2024, arXiv:2403.00409).

    Raises:
        TrainingError: ``label_smoothing`` is not from 0 to below 0.5.
    """
    if not 0 <= label_smoothing < 0.5:
        raise TrainingError(f"label_smoothing is {label_smoothing}", mend="a share of wrong votes: 0 to below 0.5")
    if smoothing == "robust":
        return (preference_P - label_smoothing) / (1 - 2 * label_smoothing)
    return preference_P + label_smoothing * (1 - 2 * preference_P)


def pairwise(
    a_P: Tensor, b_P: Tensor, preference_P: Tensor, votes_P: Tensor | None = None, margin_P: Tensor | None = None
) -> TermResult:
    """Bradley-Terry: sum of -v [p log s(d) + (1 - p) log s(-d)], d = a - b, s the logistic function. Unit: pair.

    ``preference_P`` is 1 where a won, 0 where b won, 0.5 for a tie (or the share of a's votes), ``votes_P`` counts
    the votes of a pair (None: one each). Bradley and Terry 1952. ``margin_P`` >= 0 is how much better the winner
    is: d falls short by it, d = a - b - margin where a won, a - b + margin where b won (Llama 2, Touvron et al.
    2023, arXiv:2307.09288 eq. 2); a tie has none. Metrics: "accuracy" (a tie counts a half), "margin" = |a - b|.
    """
    votes = torch.ones_like(preference_P) if votes_P is None else votes_P
    difference = a_P - b_P
    asked = difference if margin_P is None else difference - margin_P * (2 * preference_P - 1).sign()
    loss = -(preference_P * F.logsigmoid(asked) + (1 - preference_P) * F.logsigmoid(-asked))
    metrics = {
        "accuracy": _accuracy(difference, preference_P, votes),
        "margin": (votes * difference.detach().abs()).sum(),
    }
    return TermResult((votes * loss).sum(), metrics, float(votes.sum()))


def preference_margin(
    margin_P: Tensor,
    kind: Margin,
    beta: float = 0.1,
    preference_P: Tensor | None = None,
    votes_P: Tensor | None = None,
    label_smoothing: float = 0.0,
    smoothing: Smoothing = "conservative",
) -> TermResult:
    """Losses of m, by how much the first answer's log pi - log reference leads the second's. Unit: pair.

    sigmoid: l(m) = -log s(beta m) (DPO, Rafailov et al. 2023, arXiv:2305.18290); hinge: max(0, 1 - beta m) (SLiC,
    Zhao et al. 2023, arXiv:2305.10425); both with the sum over an answer's tokens. ipo: (m - 1 / (2 beta))^2 (Azar et
    al. 2023, arXiv:2310.12036 eq. 17), with their mean, as its authors ran it: a goal in nats a token.
    ``preference_P``: None where the first answer always won; ``votes_P``: None is one each. Metrics: "accuracy" (a
    tie counts a half), "margin", the votes' mean of (2 p - 1) m in nats: 0 exactly where the policy is the reference.
    """
    kinds: dict[Margin, Callable[[Tensor], Tensor]] = {
        "sigmoid": lambda m: -F.logsigmoid(beta * m),
        "hinge": lambda m: F.relu(1 - beta * m),
        "ipo": lambda m: (m - 1 / (2 * beta)) ** 2,
    }
    return _both_ways(kinds[kind], margin_P, preference_P, votes_P, label_smoothing, smoothing)


def simpo(
    a_P: Tensor,
    b_P: Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
    preference_P: Tensor | None = None,
    votes_P: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> TermResult:
    """SimPO: l(m) = -log s(beta m - gamma), m = a - b, each the mean log pi of an answer's tokens. Unit: pair.

    Meng et al. 2024, arXiv:2405.14734 eq. 6; no reference. ``gamma`` >= 0 is by how much the reward beta a of the
    better answer should lead. Label smoothing leaves that goal where it is: -(1 - eps) log s(beta m - gamma) - eps log
    s(gamma - beta m). Votes and metrics are those of ``preference_margin``.

    Raises:
        TrainingError: ``label_smoothing`` is not from 0 to below 0.5.
    """
    kept = smoothed(torch.ones_like(a_P), label_smoothing)

    def loss(m_P: Tensor) -> Tensor:
        asked = beta * m_P - gamma
        return -(kept * F.logsigmoid(asked) + (1 - kept) * F.logsigmoid(-asked))

    return _both_ways(loss, a_P - b_P, preference_P, votes_P)


def orpo(
    a_P: Tensor,
    b_P: Tensor,
    preference_P: Tensor | None = None,
    votes_P: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> TermResult:
    """ORPO's odds ratio: l(m) = -log s(m), m = log odds(a) - log odds(b), odds = e^x / (1 - e^x). Unit: pair.

    a and b are the mean log pi of an answer's tokens. Hong et al. 2024, arXiv:2403.07691; no reference. It
    is ORPO's second summand: the first is the likelihood of the better answer. Votes and metrics are those of
    ``preference_margin``. Not finite where an answer has probability 1 in fp32.
    """
    odds_a, odds_b = (x_P - torch.log(-torch.expm1(x_P)) for x_P in (a_P, b_P))
    return _both_ways(lambda m: -F.logsigmoid(m), odds_a - odds_b, preference_P, votes_P, label_smoothing)


def pairwise_term(weight: float = 1.0, criterion: str | None = None) -> Term:
    """Bradley-Terry on pairs that carry "preference", and perhaps "votes" and "margin". Unit: pair.

    A pair is a tree of two answers; or these are figures of a tree's answers, and each is compared with the next one
    (a chain: an answer in two pairs is run once, as all pairs of a prompt are in Ouyang et al. 2022, arXiv:2203.02155).
    With a ``criterion`` it reads the scores by it, "preference:NAME" and "votes:NAME" of the trees whose voters spoke
    about it, and its mean is over these votes alone: its name is then "pairwise:NAME".

    Raises (from ``count``, before any forward):
        TrainingError: A tree with a preference has not two answers (in a chain: the last one has one), it is outside
            [0, 1], the votes are not above 0, or the margin is negative.
    """

    by = "" if criterion is None else f":{criterion}"

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        scores_A = outputs.scores_A if criterion is None else outputs.by_criterion_A.get(criterion)
        scores, pairs = reading.given(scores_A), reading.pairs(stream, by)
        return pairwise(scores[pairs.a_P], scores[pairs.b_P], pairs.preference_P, pairs.votes_P, pairs.margin_P)

    return Term(f"pairwise{by}", "pair", weight, lambda trees: reading.count_compared(trees, by), loss)


def preference_term(
    kind: Margin,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    smoothing: Smoothing = "conservative",
    weight: float = 1.0,
) -> Term:
    """``preference_margin`` on the answers of trees that carry "preference", each with "reference_logp". Unit: pair.

    An answer's log ratio is the sum over its tokens, for "ipo" their mean. Only Bradley-Terry reads "margin". Metrics:
    those of the loss, and "chosen_reward" and "rejected_reward": the mean of beta times the log ratio of the answer
    that a vote chose, and of the other (a tie counts a half of each).

    Raises (from ``count``, before any forward):
        TrainingError: As ``pairwise_term``; an answer has no supervised token or no "reference_logp".
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights = reading.weights(stream, having="reference_logp")
        ratio_S = reading.given(outputs.logp_S) - reading.figure(stream, "reference_logp", weights)
        ratio_A, pairs = reading.sums(ratio_S, weights, stream), reading.pairs(stream)
        if kind == "ipo":
            ratio_A = ratio_A / reading.sums(torch.ones_like(weights), weights, stream)
        a, b = ratio_A[pairs.a_P], ratio_A[pairs.b_P]
        found = preference_margin(a - b, kind, beta, pairs.preference_P, pairs.votes_P, label_smoothing, smoothing)
        return _with_rewards(found, beta * a.detach(), beta * b.detach(), pairs)

    return _pair_term(weight, loss, ("reference_logp",))


def simpo_term(beta: float = 2.0, gamma: float = 1.0, label_smoothing: float = 0.0, weight: float = 1.0) -> Term:
    """``simpo`` on the answers of trees that carry "preference"; a reward is beta times the mean log pi. Unit: pair.

    Metrics and errors are those of ``preference_term``.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        mean_A, pairs = _means(outputs, stream), reading.pairs(stream)
        a, b = mean_A[pairs.a_P], mean_A[pairs.b_P]
        found = simpo(a, b, beta, gamma, pairs.preference_P, pairs.votes_P, label_smoothing)
        return _with_rewards(found, beta * a.detach(), beta * b.detach(), pairs)

    return _pair_term(weight, loss)


def orpo_term(label_smoothing: float = 0.0, weight: float = 0.1) -> Term:
    """``orpo`` on the answers of trees that carry "preference"; a reward is the mean log pi. Unit: pair.

    ``weight`` is the paper's lambda. Metrics and errors are those of ``preference_term``.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        mean_A, pairs = _means(outputs, stream), reading.pairs(stream)
        a, b = mean_A[pairs.a_P], mean_A[pairs.b_P]
        found = orpo(a, b, pairs.preference_P, pairs.votes_P, label_smoothing)
        return _with_rewards(found, a.detach(), b.detach(), pairs)

    return _pair_term(weight, loss)


def chosen_term(weight: float = 1.0) -> Term:
    """Likelihood of the better answers of judged trees, once each whatever the votes. Unit: token.

    Of a tree with "preference" the first answer where it is above 0.5, the second where it is below; of a tree with
    "label" its answer where that is above 0.5; a tie trains none.
    """

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        better_A = torch.zeros(len(stream.tree_A), dtype=torch.bool, device=stream.tree_A.device)
        pairs = reading.pairs(stream)
        better_A[pairs.a_P], better_A[pairs.b_P] = pairs.preference_P > 0.5, pairs.preference_P < 0.5
        judged = reading.marked(stream, "label")
        if len(judged):
            better_A[reading.first_answers(stream)[judged]] = stream.figures["label"][judged] > 0.5
        return likelihood(reading.given(outputs.logp_S), stream.weights_S * better_A[stream.answer_S])

    def count(trees: Sequence[Tree]) -> float:
        total = 0.0
        for tree in trees:
            shares = [tree.streams[name] for name in reading.JUDGED if name in tree.streams]
            if shares and shares[0] != 0.5:
                first = shares[0] > 0.5  # type: ignore[operator]
                better = tree.answers[:1] if first else tree.answers[1:2]
                total += sum(answer.units for answer in better)
        return total

    return Term("chosen", "token", weight, count, loss)


def _pair_term(weight: float, loss: Callable[[Outputs, Stream], TermResult], streams: Sequence[str] = ()) -> Term:
    def count(trees: Sequence[Tree]) -> float:
        votes = reading.count_votes(trees, "preference", 2)
        reading.require(trees, "preference", streams)
        return votes

    return Term("preference", "pair", weight, count, loss)


def _both_ways(
    loss: Callable[[Tensor], Tensor],
    margin_P: Tensor,
    preference_P: Tensor | None,
    votes_P: Tensor | None,
    label_smoothing: float = 0.0,
    smoothing: Smoothing = "conservative",
) -> TermResult:
    preference = torch.ones_like(margin_P) if preference_P is None else preference_P
    votes = torch.ones_like(margin_P) if votes_P is None else votes_P
    share = smoothed(preference, label_smoothing, smoothing)
    total = (votes * (share * loss(margin_P) + (1 - share) * loss(-margin_P))).sum()
    margin = margin_P.detach()
    metrics = {
        "accuracy": _accuracy(margin, preference, votes),
        "margin": (votes * (2 * preference - 1) * margin).sum(),
    }
    return TermResult(total, metrics, float(votes.sum()))


def _accuracy(margin_P: Tensor, preference_P: Tensor, votes_P: Tensor) -> Tensor:
    return (votes_P * (1 + margin_P.detach().sign() * (2 * preference_P - 1).sign()) / 2).sum()


def _with_rewards(result: TermResult, a_P: Tensor, b_P: Tensor, pairs: Pairs) -> TermResult:
    share, votes = pairs.preference_P, pairs.votes_P
    rewards = {
        "chosen_reward": (votes * (share * a_P + (1 - share) * b_P)).sum(),
        "rejected_reward": (votes * (share * b_P + (1 - share) * a_P)).sum(),
    }
    return TermResult(result.total, result.metrics | rewards, result.units)


def _means(outputs: Outputs, stream: Stream) -> Tensor:
    """The weighted mean log pi of each answer's supervised tokens [A]; NaN where an answer has none."""
    logp_S = reading.given(outputs.logp_S)
    whole_A = reading.sums(torch.ones_like(logp_S), stream.weights_S, stream)
    return reading.sums(logp_S, stream.weights_S, stream) / whole_A
