"""The gradient of one window of trees: the only place that divides.

A term returns a sum, and its declared count is taken over the whole window before the first forward. So the gradient
depends neither on how the window was cut into streams nor on how many workers shared it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.objectives.stream import Stream, Tree, pack_evenly
from burnish.objectives.terms import Outputs, Term
from burnish.training.optimizer import Parameters
from burnish.training.workers import Workers

Sums = dict[str, float]
Parts = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Objective:
    """What is minimised: each term's sum over its divisor, times its weight at the update.

    Args:
        parameters: What is trained, by name.
        forward: Stream to Outputs, with gradient.
        budget: The largest number of tokens in one forward of these trees.
        keep_last: Whether each answer's last token is laid out: a reward head reads it.
        workers: Who shares a window.
    """

    parameters: Parameters
    forward: Callable[[Stream], Outputs]
    terms: Sequence[Term]
    budget: Callable[[Sequence[Tree]], int]
    keep_last: bool
    workers: Workers

    def gradient(self, step: int, trees: Sequence[Tree]) -> tuple[dict[str, float], int]:
        """Leave the window's gradient in the parameters, which had none.

        Returns:
            Each figure as a mean over its term's units, and the tokens that were run; both of all workers.

        Raises:
            TrainingError: There is nothing to learn, the loss is not finite, or a term used other units than it
                declared.
        """
        counts, parts = {term.name: term.count(trees) for term in self.terms}, self._parts(step, trees)
        if not any(weight for weight, _ in parts.values()):
            raise TrainingError(f"update {step} has nothing to learn: no row of it holds a supervised token")
        streams = self._streams(trees)
        sums: Sums = {}
        for stream in streams:
            loss = self._loss(stream, parts, sums)
            if loss.requires_grad:
                loss.backward()
        tokens = sum(len(stream.ids_T) for stream in streams)
        sums, tokens = self._over_workers(sums, tokens)
        loss_now = sum(weight * sums[name] / divisor for name, (weight, divisor) in parts.items())
        if not math.isfinite(loss_now):
            raise self.blame(step, f"loss ({loss_now})", trees)
        _require_used(step, self.terms, counts, sums)
        return _means(sums, counts, parts), tokens

    @torch.no_grad()
    def value(self, trees: Sequence[Tree]) -> dict[str, float]:
        """What is minimised on these trees, as "loss", and each figure as a mean over its term's units; no gradient."""
        counts, parts = {term.name: term.count(trees) for term in self.terms}, self._parts(0, trees)
        sums = Sums()
        for stream in self._streams(trees):
            self._loss(stream, parts, sums)
        sums, _ = self._over_workers(sums, 0)
        loss = sum(weight * sums[name] / divisor for name, (weight, divisor) in parts.items())
        return {"loss": loss, **_means(sums, counts, parts)}

    def blame(self, step: int, what: str, trees: Sequence[Tree]) -> TrainingError:
        """The error of an update whose loss or gradient is not finite, with the rows that are so by themselves."""
        rows: list[int] = []
        parts = self._parts(step, trees)
        window = self._statistics(trees)
        for tree in self.workers.share(trees):
            for parameter in self.parameters.values():
                parameter.grad = None
            (stream,) = self._packed([tree], window)
            loss = self._loss(stream, parts, {})
            if loss.requires_grad:
                loss.backward()
            gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
            if not all(bool(value.isfinite().all()) for value in (loss, *gradients)):
                rows += stream.rows_A
        found = sorted({row for theirs in self.workers.exchange(rows) for row in theirs})
        together = sorted({answer.row for tree in trees for answer in tree.answers})
        named = ", ".join(map(str, (found or together)[:20]))
        alone = f"look at rows {named}" if found else f"none is so alone, only together: rows {named}"
        return TrainingError(
            f"the {what} of update {step} is not finite; the weights are as before it",
            mend=f"{alone}; a lower learning_rate may help",
        )

    def _parts(self, step: int, trees: Sequence[Tree]) -> Parts:
        """The weight at this update and the divisor over the whole window of each term that has a unit in it."""
        return {t.name: (t.at(step), t.divided_by(trees)) for t in self.terms if t.count(trees) > 0}

    def _loss(self, stream: Stream, parts: Parts, sums: Sums) -> Tensor:
        """The stream's part of the loss; what it sums up is added to ``sums``."""
        outputs = self.forward(stream)
        loss = torch.zeros(())
        for term in self.terms:
            result = term.loss(outputs, stream)
            if term.name in parts:
                weight, divisor = parts[term.name]
                loss = loss + weight * result.total / divisor
            found = {"": float(result.total.detach()), "/used": result.units}
            found |= {f"/{name}": float(value) for name, value in result.metrics.items()}
            for name, value in found.items():
                sums[term.name + name] = sums.get(term.name + name, 0.0) + value
        return loss

    def _streams(self, trees: Sequence[Tree]) -> list[Stream]:
        """This worker's share of the trees, laid out, with what terms know of the whole window."""
        return self._packed(self.workers.share(trees), self._statistics(trees))

    def _packed(self, trees: Sequence[Tree], window: Mapping[str, float]) -> list[Stream]:
        streams = pack_evenly(trees, self.budget(trees), keep_last=self.keep_last)
        for stream in streams:
            stream.window = window
        return streams

    @torch.no_grad()
    def _statistics(self, trees: Sequence[Tree]) -> dict[str, float]:
        """What terms know of the whole window before its first gradient, by the term's name."""
        found: dict[str, float] = {}
        for term in self.terms:
            if term.statistic is not None:
                total = units = 0.0
                for stream in self._packed(self.workers.share(term.statistic.trees(trees)), {}):
                    result = term.statistic.read(self.forward(stream), stream)
                    total, units = total + float(result.total), units + result.units
                everyone = self.workers.exchange([total, units])
                total, units = (sum(part) for part in zip(*everyone, strict=True))
                found[term.name] = total / units if units else 0.0
        return found

    def _over_workers(self, sums: Sums, tokens: int) -> tuple[Sums, int]:
        """The sums and tokens of all workers; their gradients are summed up in place."""
        touched = [name for name, parameter in self.parameters.items() if parameter.grad is not None]
        everyone = self.workers.exchange({"sums": sums, "tokens": tokens, "touched": touched})
        anywhere = {name for theirs in everyone for name in theirs["touched"]}
        self.workers.sum_gradients([p for name, p in self.parameters.items() if name in anywhere])
        together: Sums = {term.name: 0.0 for term in self.terms}
        for theirs in everyone:
            for name, value in theirs["sums"].items():
                together[name] = together.get(name, 0.0) + value
        return together, sum(theirs["tokens"] for theirs in everyone)


def _means(sums: Mapping[str, float], counts: Mapping[str, float], parts: Parts) -> dict[str, float]:
    """Each term's sum over its divisor, each of its metrics over its count."""
    return {
        name: total / (parts[name][1] if name in parts else counts[name.split("/")[0]])
        for name, total in sums.items()
        if counts[name.split("/")[0]] and not name.endswith("/used")
    }


def _require_used(step: int, terms: Sequence[Term], counts: Mapping[str, float], sums: Mapping[str, float]) -> None:
    """The declared count is the units that were used, or a denominator is wrong and the loss with it."""
    for term in terms:
        used = sums.get(f"{term.name}/used", 0.0)
        if not math.isclose(used, counts[term.name], rel_tol=1e-5, abs_tol=1e-6):
            raise TrainingError(
                f"update {step}: the term {term.name} declared {counts[term.name]} {term.unit}s and used {used}",
                mend="this is a bug of the term; please report it",
            )
