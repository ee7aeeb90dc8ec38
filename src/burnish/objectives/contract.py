"""What a term promises, tried on made-up trees: the contracts that ours keep, and that an own loss must.

The model is left out: logprobs, entropies, a teacher's KL and scores are parameters, one for each token or answer, so
that the gradient of a loss can be compared with finite differences. Axes: S supervised positions, K tokens of all
answers, A answers, P parameters (3 K + A).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from burnish.errors import PartError
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term

Kind = Literal["pairs", "labels", "groups", "demonstrations"]

WHOLE = 10_000  # tokens: everything in one stream
NUDGE = 1e-9
STEP = {torch.float64: 1e-6, torch.float32: 1e-2}
CLOSE = {torch.float64: 1e-5, torch.float32: 2e-2}
STOPS = "where the gradient stops on purpose, say so beside the function: NAME.stops_gradient = True"


@dataclass(frozen=True)
class Found:
    """A term's sum over all trees, the units that it used, and the gradient [P]."""

    total: float
    units: float
    gradient: Tensor


@dataclass
class Trial:
    """A term on trees that are cut by ``budget``. Where ``masked``, tokens without weight lie in the streams too."""

    term: Term
    trees: Sequence[Tree]
    budget: int = WHOLE
    masked: bool = False
    streams: list[Stream] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)  # of each stream: which of the K its positions are

    def __post_init__(self) -> None:
        weights_K = torch.tensor([w for tree in self.trees for answer in tree.answers for w in answer.weights])
        self.size, self.answers = len(weights_K), sum(len(tree.answers) for tree in self.trees)
        trees = [_all_weighted(tree) for tree in self.trees] if self.masked else self.trees
        taken = torch.arange(self.size) if self.masked else weights_K.nonzero()[:, 0]
        window = self._window()
        for stream in pack(trees, self.budget, keep_last=False):
            here, taken = taken[: len(stream.take_S)], taken[len(stream.take_S) :]
            stream.weights_S, stream.window = weights_K[here], window
            self.streams.append(stream)
            self.tokens.append(here)

    def run(self, parameters_P: Tensor) -> Found:
        """The term at these logprobs [K], entropies [K], KL to a teacher [K] and scores [A]."""
        leaf = parameters_P.detach().clone().requires_grad_()
        *token_figures, scores_A = leaf.split([self.size] * 3 + [self.answers])
        total, units, first = leaf[:0].sum(), 0.0, 0
        for stream, here in zip(self.streams, self.tokens, strict=True):
            last = first + len(stream.tree_A)
            logp_S, entropy_S, teacher_kl_S = (figure_K[here] for figure_K in token_figures)
            result = self.term.loss(Outputs(logp_S, entropy_S, scores_A[first:last], teacher_kl_S=teacher_kl_S), stream)
            if result.total.shape != ():
                raise PartError(f"the term {self.term.name} returned a sum of shape {tuple(result.total.shape)}")
            total, units, first = total + result.total, units + result.units, last
        (gradient,) = torch.autograd.grad(total, leaf)
        return Found(float(total.detach()), units, gradient)

    def _window(self) -> dict[str, float]:
        """The term's statistic, from logprobs that are no parameters."""
        statistic = self.term.statistic
        if statistic is None:
            return {}
        streams = pack(statistic.trees(self.trees), WHOLE, keep_last=False)
        results = [statistic.read(Outputs(torch.full((len(s.take_S),), -1.0)), s) for s in streams]
        return {self.term.name: sum(float(r.total) for r in results) / sum(r.units for r in results)}


def term_contract(name: str, terms: Sequence[Term], kind: Kind, differentiable: bool = True) -> list[str]:
    """Try each of the terms on a mixed window of made-up trees; returns the contracts that all of them kept.

    ``differentiable=False`` leaves finite differences out, for a term whose gradient is by design not that of its
    value; what it is instead needs a test of its own.

    Raises:
        PartError: A contract is broken: says which, with the numbers.
    """
    trees = [*example_trees(kind), *example_trees("pairs" if kind == "demonstrations" else "demonstrations")]
    kept: list[str] = []
    for term in terms:
        kept = [
            _finite(name, term, trees),
            _deterministic(name, term, trees),
            *([_differences(name, term, trees)] if differentiable else []),
            _cut(name, term, trees),
            _masked(name, term, trees, kind),
        ]
    return kept


def example_trees(kind: Kind) -> list[Tree]:
    """Made-up trees of mixed lengths, some tokens without weight.

    "pairs" and "labels" are judged (a tie and several votes among them) and carry a reference, "groups" are sampled and
    carry advantages, "demonstrations" are written.
    """
    generator = torch.Generator().manual_seed(0)

    def answer(length: int, row: int, *names: str) -> Answer:
        figures = {name: (-0.1 - 3 * torch.rand(length, generator=generator)).tolist() for name in names}
        if "old_logp" in names:
            figures["advantage"] = [float(row - length)] * length
        weights = [0.0 if place == 1 and length > 2 else 1.0 for place in range(length)]
        return Answer(list(range(2, 2 + length)), weights, figures, row)

    if kind == "pairs":
        judged = ((3, 5, 1.0, 1.0), (1, 4, 0.0, 1.0), (6, 2, 0.5, 2.0), (2, 2, 2 / 3, 3.0))
        return [
            Tree([1] * row, tuple(answer(n, row, "reference_logp") for n in (a, b)), {"preference": p, "votes": v})
            for row, (a, b, p, v) in enumerate(judged, 1)
        ]
    if kind == "labels":
        labels = ((3, 1.0, 1.0), (1, 0.0, 2.0), (5, 0.5, 2.0), (2, 0.0, 1.0))
        other = answer(2, 9, "reference_logp")
        return [
            Tree([1] * row, (answer(n, row, "reference_logp"),), {"label": p, "votes": v}, mismatched=other)
            for row, (n, p, v) in enumerate(labels, 1)
        ]
    if kind == "groups":
        return [
            Tree([1] * row, tuple(answer(n, row, "old_logp", "reference_logp", "sampled_logp") for n in lengths))
            for row, lengths in enumerate(((3, 5), (1, 4, 6), (2, 6)), 1)
        ]
    return [Tree([1] * row, (answer(n, row),)) for row, n in enumerate((3, 1, 5), 1)]


def parameters(trees: Sequence[Tree]) -> Tensor:
    """Logprobs, entropies and KL [K], and scores [A], of no particular value; the same for the same trees. [P]"""
    generator = torch.Generator().manual_seed(1)
    size, answers = sum(len(a.ids) for t in trees for a in t.answers), sum(len(t.answers) for t in trees)
    logp_K = -0.1 - 3 * torch.rand(size, generator=generator)
    others = 0.1 + 3 * torch.rand(2 * size, generator=generator)
    return torch.cat([logp_K, others, torch.randn(answers, generator=generator)])


def _finite(name: str, term: Term, trees: Sequence[Tree]) -> str:
    """Also where the policy is the reference, as in the first update; and the declared count is what was used."""
    trial, somewhere = Trial(term, trees), parameters(trees)
    reference = [v for t in trees for a in t.answers for v in a.streams.get("reference_logp", [-1.0] * len(a.ids))]
    start = torch.cat([torch.tensor(reference), somewhere[len(reference) :]])
    for place, at in (("", somewhere), (" where the policy is the reference", start)):
        found = trial.run(at)
        if not math.isfinite(found.total) or not found.gradient.isfinite().all():
            shown = [round(g, 4) for g in found.gradient[: trial.size].tolist()[:6]]
            raise _broken(name, "finite", f"{place.strip() or 'on made-up rows'} the loss is {found.total}, its "
                                          f"gradient {shown} ...")  # fmt: skip
        count = term.count(trees)
        if not math.isclose(found.units, count, rel_tol=1e-5, abs_tol=1e-6):
            raise _broken(name, "count", f"it declared {count:g} {term.unit}s and used {found.units:g}")
    return "finite"


def _deterministic(name: str, term: Term, trees: Sequence[Tree]) -> str:
    first, again = (Trial(term, trees).run(parameters(trees)) for _ in range(2))
    if first.total != again.total or not torch.equal(first.gradient, again.gradient):
        raise _broken(name, "determinism", f"the same rows gave {first.total!r}, then {again.total!r}")
    return "determinism"


def _differences(name: str, term: Term, trees: Sequence[Tree]) -> str:
    """Central differences, in fp64 where the term computes in it, else in fp32 with a looser bound."""
    trial, at = Trial(term, trees), parameters(trees)
    at = at.double() if _takes_fp64(trial, at.double()) else at
    step, close = STEP[at.dtype], CLOSE[at.dtype]
    gradient = trial.run(at).gradient
    for place in range(len(at)):
        moved = torch.zeros_like(at)
        moved[place] = step
        wanted = (trial.run(at + moved).total - trial.run(at - moved).total) / (2 * step)
        said = float(gradient[place])
        if not math.isclose(wanted, said, rel_tol=close, abs_tol=close):
            what = f"by logprob {place} it is {said:.6g}, and finite differences say {wanted:.6g}"
            raise _broken(name, "gradient against finite differences", what, mend=STOPS)
    return "gradient against finite differences"


def _takes_fp64(trial: Trial, at: Tensor) -> bool:
    """Whether a nudge that fp32 would round away is seen."""
    try:
        totals = {trial.run(at + times * NUDGE).total for times in range(5)}
    except (PartError, RuntimeError):  # dtypes that do not fit
        return False
    return len(totals) > 2


def _cut(name: str, term: Term, trees: Sequence[Tree]) -> str:
    """The sum over micro-batches is that of the whole, and so is the gradient."""
    at = parameters(trees)
    whole = Trial(term, trees).run(at)
    for budget in (1, 2 * max(tree.tokens() for tree in trees)):
        trial = Trial(term, trees, budget)
        cut = trial.run(at)
        same = math.isclose(cut.total, whole.total, rel_tol=1e-4, abs_tol=1e-5)
        if not same or not torch.allclose(cut.gradient, whole.gradient, rtol=1e-4, atol=1e-5):
            what = f"{whole.total:.6g} as one batch, {cut.total:.6g} as {len(trial.streams)} (sums over all rows)"
            if same:
                apart = float((cut.gradient - whole.gradient).abs().max())
                what = f"the gradient of {len(trial.streams)} batches differs by {apart:.6g} from that of one"
            raise _broken(name, "micro-batch invariance", what, mend="a row's loss depends on that row alone")
    return "micro-batch invariance"


def _masked(name: str, term: Term, trees: Sequence[Tree], kind: Kind) -> str:
    """Neither a token without weight nor a row of another kind has an effect, even if it is not a number."""
    at = parameters(trees)
    wanted = Trial(term, trees).run(at)
    own = len(example_trees(kind))
    hidden = [
        number >= own or not weight
        for number, tree in enumerate(trees)
        for answer in tree.answers
        for weight in answer.weights
    ]
    at[: len(hidden)][torch.tensor(hidden)] = math.nan
    found = Trial(term, trees, masked=True).run(at)
    if found.total != wanted.total and not math.isclose(found.total, wanted.total, rel_tol=1e-5):
        what = f"the loss was {wanted.total:.6g}, and is {found.total:.6g} with other logprobs where no weight is"
        raise _broken(name, "masked tokens without effect", what, mend="select with torch.where, do not multiply")
    if not torch.allclose(found.gradient, wanted.gradient, rtol=1e-4, atol=1e-6):
        where = int((found.gradient - wanted.gradient).abs().nan_to_num(math.inf).argmax())
        what = f"the gradient by logprob {where} was {wanted.gradient[where]:.6g}, and is {found.gradient[where]:.6g}"
        raise _broken(name, "masked tokens without effect", what, mend="select with torch.where, do not multiply")
    return "masked tokens without effect"


def _all_weighted(tree: Tree) -> Tree:
    return replace(tree, answers=tuple(replace(a, weights=[1.0] * len(a.ids)) for a in tree.answers))


def _broken(name: str, contract: str, what: str, mend: str | None = None) -> PartError:
    return PartError(f'"{name}" breaks the contract "{contract}": {what}', mend=mend)
