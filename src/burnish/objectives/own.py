"""Losses of the user's as methods and terms like ours: a function sees pairs or tokens, and returns a loss for each.

Axes: S supervised positions, A answers, P judged pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from burnish.errors import PartError
from burnish.objectives import reading
from burnish.objectives.contract import Kind, term_contract
from burnish.objectives.methods import Method, Values
from burnish.objectives.preference import chosen_term, smoothed
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult
from burnish.parts import Part

OPTIONS = ("beta", "gamma")  # keys of the recipe that the function may take, with its own defaults


@dataclass(frozen=True)
class PairLogps:
    """What a preference loss sees of P pairs. Each field is one number for each pair. [P]

    ``chosen`` and ``rejected`` are log pi of the whole answer: the sum over its supervised tokens, of which there are
    ``chosen_tokens`` and ``rejected_tokens``. ``reference_...`` are the same under the start version, without gradient;
    None where the loss says that it does not read them.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    def at(self, index: Tensor) -> PairLogps:
        """The pairs where ``index`` [P] is true."""
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: None if x_P is None else x_P[index] for name, x_P in whole.items()}
        return PairLogps(**taken)

    def swapped(self) -> PairLogps:
        """The same pairs as if the other answer had won."""
        return PairLogps(
            self.rejected,
            self.chosen,
            self.reference_rejected,
            self.reference_chosen,
            self.rejected_tokens,
            self.chosen_tokens,
        )


def own_method(part: Part) -> Method:
    """The row of the table of methods that a function makes: ``loss(pairs, beta=0.1) -> [P]``.

    A pair's share of votes p enters as for ours: p' of the loss, and 1 - p' of the loss with the answers swapped. The
    options that the function takes, and their defaults, are those of the method. A function that says
    ``reads_reference = False`` of itself gets no reference, and none is computed.

    Raises:
        PartError: The function does not take pairs alone, and perhaps beta and gamma with a default.
    """
    defaults = {**_options(part), "label_smoothing": 0.0, "sft": 0.0}
    summary = f"an own loss of pairs, {part.source.rpartition(' ')[0]}"
    reference = _reads_reference(part)
    margin = "preference/margin" if reference else None
    return Method(part.name, summary, "pairs", reference, defaults, partial(_terms, part), margin)


def own_contract(part: Part, given: Values) -> list[str]:
    """Try an own loss with these settings; returns the contracts that it kept.

    A function that says ``stops_gradient = True`` of itself is not compared with finite differences.

    Raises:
        PartError: It breaks a contract, or raises.
        TrainingError: It takes no such setting.
    """
    return _tried(part, own_method(part).terms(given), "pairs")


def own_token_contract(part: Part) -> list[str]:
    """As ``own_contract``, for an own loss of supervised tokens.

    Raises:
        PartError: It does not take logprobs alone, breaks a contract, or raises.
    """
    return _tried(part, [own_token_term(part)], "demonstrations")


def own_preference(
    part: Part, logps: PairLogps, share_P: Tensor, votes_P: Tensor, options: Mapping[str, Any]
) -> TermResult:
    """Sum of v [p' l(chosen, rejected) + (1 - p') l(rejected, chosen)], l the own loss. Unit: pair.

    ``share_P`` is p', ``votes_P`` v. A way round that no vote went is not asked for. Metrics: "accuracy" (a tie counts
    a half) and "margin", the votes' mean of (2 p' - 1) m, m the lead of the chosen answer in log pi / reference; in log
    pi where there is no reference.

    Raises:
        PartError: The function raised, or returned anything but one loss for each pair.
    """
    total = logps.chosen[:0].sum()
    for pairs, weight_P in ((logps, votes_P * share_P), (logps.swapped(), votes_P * (1 - share_P))):
        on = weight_P != 0
        if on.any():
            losses = _one_each(part, part(pairs.at(on), **options), int(on.sum()), "pair")
            total = total + (weight_P[on] * losses).sum()
    with torch.no_grad():
        lead_P = logps.chosen - logps.rejected
        if logps.reference_chosen is not None and logps.reference_rejected is not None:
            lead_P = lead_P - logps.reference_chosen + logps.reference_rejected
        side_P = 2 * share_P - 1
        metrics = {
            "accuracy": (votes_P * (1 + lead_P.sign() * side_P.sign()) / 2).sum(),
            "margin": (votes_P * side_P * lead_P).sum(),
        }
    return TermResult(total, metrics, float(votes_P.sum()))


def own_tokens(part: Part, logp_S: Tensor, weights_S: Tensor) -> TermResult:
    """Sum of w l(log pi(y)), l the own loss of a supervised token. Unit: token, counted by weight.

    Raises:
        PartError: The function raised, or returned anything but one loss for each token.
    """
    on = weights_S != 0
    logp, weights = logp_S[on], weights_S[on]
    if not len(logp):
        return TermResult(logp.sum())
    losses = _one_each(part, part(logp), len(logp), "token")
    return TermResult((weights * losses).sum(), {}, float(weights.sum()))


def own_token_term(part: Part, weight: float = 1.0) -> Term:
    """``own_tokens`` on demonstrations: ``loss(logp) -> [S]`` in the place of -logp. Unit: token.

    Raises:
        PartError: The function does not take logprobs alone.
    """
    try:
        inspect.signature(part.function).bind(None)
    except (TypeError, ValueError) as error:
        raise PartError(
            f'"{part.name}" is no loss of tokens: {error}', mend="it is loss(logp), and gets [S]"
        ) from error

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        return own_tokens(part, reading.given(outputs.logp_S), reading.demonstration_weights(stream))

    def count(trees: Sequence[Tree]) -> float:
        return sum(answer.units for answer in reading.demonstrations(trees))

    return Term("objective", "token", weight, count, loss)


def _tried(part: Part, terms: Sequence[Term], kind: Kind) -> list[str]:
    stops = bool(getattr(part.function, "stops_gradient", False))
    kept = term_contract(part.name, terms, kind, differentiable=not stops)
    return [*kept, "its gradient stops on purpose, so finite differences were left out"] if stops else kept


def _one_each(part: Part, found: Any, wanted: int, unit: str) -> Tensor:
    """What the function returned, once it is one loss for each unit."""
    if not isinstance(found, Tensor) or tuple(found.shape) != (wanted,):
        got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        what = f'"{part.name}" breaks the contract "one loss for each {unit}": {got}, and there are {wanted} {unit}s'
        raise PartError(what, mend=f"return one loss for each {unit}: Burnish weighs, sums and divides them")
    return found


def _terms(part: Part, values: Values) -> list[Term]:
    options = {name: value for name, value in values.items() if name in OPTIONS}
    needed = ("reference_logp",) if _reads_reference(part) else ()

    def loss(outputs: Outputs, stream: Stream) -> TermResult:
        weights_S, pairs = stream.weights_S, reading.pairs(stream)

        def sides(values_S: Tensor) -> tuple[Tensor, Tensor]:
            sum_A = reading.sums(values_S, weights_S, stream)
            return sum_A[pairs.a_P], sum_A[pairs.b_P]

        reference: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if needed:
            weights_S = reading.weights(stream, having="reference_logp")
            reference = sides(reading.figure(stream, "reference_logp", weights_S))
        (chosen, rejected), lengths = sides(reading.given(outputs.logp_S)), sides(torch.ones_like(weights_S))
        logps = PairLogps(chosen, rejected, reference[0], reference[1], lengths[0], lengths[1])
        share_P = smoothed(pairs.preference_P, values["label_smoothing"])
        return own_preference(part, logps, share_P, pairs.votes_P, options)

    def count(trees: Sequence[Tree]) -> float:
        votes = reading.count_votes(trees, "preference", 2)
        reading.require(trees, "preference", needed)
        return votes

    extra = [chosen_term(values["sft"])] if values["sft"] else []
    return [Term("preference", "pair", 1.0, count, loss), *extra]


def _reads_reference(part: Part) -> bool:
    return bool(getattr(part.function, "reads_reference", True))


def _options(part: Part) -> dict[str, float]:
    """The function's options with its own defaults."""
    try:
        names = list(inspect.signature(part.function).parameters.values())
    except (TypeError, ValueError):
        names = []
    options: dict[str, Any] = {p.name: p.default for p in names[1:]}
    odd = [name for name, value in options.items() if name not in OPTIONS or not isinstance(value, float | int)]
    if not names or odd:
        takes = f"it takes {', '.join(p.name for p in names)}" if names else "its parameters cannot be read"
        mend = "a preference loss is loss(pairs), or loss(pairs, beta=0.1): of the options it may take beta and gamma"
        raise PartError(f'"{part.name}" is no preference loss: {takes}', mend=mend)
    return {name: float(value) for name, value in options.items()}
