"""Marked answers as what a dense reward learns from, and the dense reward as a scorer of sampled answers.

Axes: L tokens of an answer, K types of error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from burnish.data.render import Renderer
from burnish.data.segments import Characters, ends, segments, wrong
from burnish.models.spans import SpanModel
from burnish.objectives import NOWHERE, span_stream
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.records import Mark, Row, Segment, Vote
from burnish.rewards.pairs import cluster_of
from burnish.rewards.scores import Asked, Groups, Paid
from burnish.store import Store
from burnish.tasks.chat import ChatTask

Odds = Mapping[str, list[tuple[int, float]]]  # of each type: the last token of each segment, and how likely it is wrong
BUDGET = 2048  # tokens in a forward without gradient


@dataclass(frozen=True)
class MarkedAnswer:
    """An answer whose errors a person marked. ``offsets`` are the characters of ``text`` that each id stands for.

    ``cluster`` is equal for answers to one prompt.
    """

    prompt_ids: Sequence[int]
    ids: Sequence[int]
    text: str
    offsets: Sequence[Characters]
    marks: Sequence[Mark]
    cluster: str

    def tree(self, sizes: Mapping[str, Segment], row: int = 0) -> Tree:
        """The answer as the span terms read it: at the last token of each segment, whether it is wrong."""
        streams = _before_end(self.ids)
        weights = [0.0] * len(self.ids)
        for kind, size in sizes.items():
            places = segments(self.text, size)
            told = [NOWHERE] * len(self.ids)
            for end, bad in zip(ends(places, self.offsets, size), wrong(places, self.marks, kind), strict=True):
                if end is not None:
                    told[end], weights[end] = max(told[end], float(bad)), 1.0
            streams[span_stream(kind)] = told
        return Tree(self.prompt_ids, (Answer(self.ids, weights, streams, row),))


def row_marked(row: Row, task: ChatTask) -> MarkedAnswer:
    """A row of preferences whose answer somebody looked for errors in."""
    prompt, text, render = task.prompt_ids(row), row.answer or "", task.renderer
    return MarkedAnswer(prompt, render.answer(text), text, render.offsets(text), row.marks or (), cluster_of(prompt))


def votes_marked(store: Store, votes: Sequence[Vote], renderer: Renderer, max_length: int) -> list[MarkedAnswer]:
    """The answers that people marked, one for each rater that marked it, in the order of the votes.

    Erased answers, those longer than ``max_length`` tokens with their prompt, and those that this renderer does not
    read as they were written are left out.
    """
    cast = [vote for vote in votes if vote.marks is not None]
    exchanges = store.exchanges.many(sorted({vote.exchange for vote in cast}))
    found = []
    for vote in cast:
        said = exchanges.get(vote.exchange)
        if said is None or len(said.prompt_ids) + len(said.answer_ids) > max_length:
            continue
        if renderer.text(said.answer_ids) == said.answer:
            places, cluster = renderer.places(said.answer_ids), cluster_of(said.prompt_ids)
            marks = vote.marks or ()
            found.append(MarkedAnswer(said.prompt_ids, said.answer_ids, said.answer, places, marks, cluster))
    return found


@dataclass
class SpanReader:
    """How likely each segment of sampled answers has an error of each type."""

    model: SpanModel
    renderer: Renderer
    _last: tuple[Groups, list[list[Odds]]] | None = field(default=None, repr=False)

    def __call__(self, asked: Sequence[Asked], samples: Groups) -> list[list[Odds]]:
        """Of every answer; the parts of a reward that ask about the same samples share one forward."""
        if self._last is None or self._last[0] is not samples:
            self._last = (samples, self._read(asked, samples))
        return self._last[1]

    @torch.no_grad()
    def _read(self, asked: Sequence[Asked], samples: Groups) -> list[list[Odds]]:
        ends_NG = [[last_tokens(sample.ids, self.renderer, self.model.sizes) for sample in group] for group in samples]
        trees = [
            Tree(prompt.ids, tuple(_told_at(sample.ids, of) for sample, of in zip(group, ends_G, strict=True)))
            for prompt, group, ends_G in zip(asked, samples, ends_NG, strict=True)
        ]
        read = iter([wrong_K for stream in pack(trees, BUDGET) for wrong_K in self._chances(stream)])
        return [[self._of(ends_K, read) for ends_K in ends_G] for ends_G in ends_NG]

    def _chances(self, stream: Stream) -> list[list[float]]:
        """Of each token where a segment ends, in order, how likely it is wrong [K]."""
        found: list[list[float]] = self.model.logits(stream).sigmoid().tolist() if len(stream.take_S) else []
        return found

    def _of(self, ends_K: Mapping[str, list[int]], read: Iterator[list[float]]) -> Odds:
        """What was read of one answer, whose tokens come next in ``read``."""
        wrong_at = {token: next(read) for token in sorted({token for ends in ends_K.values() for token in ends})}
        kinds = enumerate(self.model.sizes)
        return {kind: [(token, wrong_at[token][column]) for token in ends_K[kind]] for column, kind in kinds}


def last_tokens(ids: Sequence[int], renderer: Renderer, sizes: Mapping[str, Segment]) -> dict[str, list[int]]:
    """Of each type the last tokens of a sampled answer's segments, in order; two may end with one token."""
    text, offsets = renderer.text(ids), renderer.places(ids)
    found = {kind: ends(segments(text, size), offsets, size) for kind, size in sizes.items()}
    return {kind: [token for token in tokens if token is not None] for kind, tokens in found.items()}


def pay(found: Sequence[tuple[int, float]], length: int, per: Literal["segment", "answer"]) -> list[float]:
    """What each of an answer's ``length`` tokens is paid for one type of error: 1 - 2p at the last token of a segment.

    Wu et al. 2023 (arXiv:2306.01693, section 4.2) pay 1 for a segment without the error and -1 for one with it, by the
    likelier of both; this is what that pays on average, where the segment has the error with probability p. As there,
    an answer earns more the more good segments it has; "answer" divides by their number, so that length earns nothing.

    Args:
        found: The last token of each segment, and p.
    """
    tokens_L = [0.0] * length
    for token, chance in found:
        tokens_L[token] += (1 - 2 * chance) / (len(found) if per == "answer" else 1)
    return tokens_L


@dataclass(frozen=True)
class Dense:
    """One type of error as a part of a reward: it pays single tokens, and an answer their sum."""

    read: SpanReader
    kind: str
    per: Literal["segment", "answer"]

    def __call__(self, asked: Sequence[Asked], samples: Groups) -> Paid:
        found_NG = [[odds[self.kind] for odds in group] for group in self.read(asked, samples)]
        tokens = [
            [pay(found, len(sample.ids), self.per) for found, sample in zip(found_G, group, strict=True)]
            for found_G, group in zip(found_NG, samples, strict=True)
        ]
        chances = [[chance for _, chance in found] for found_G in found_NG for found in found_G]
        count, wrong = sum(map(len, chances)), sum(map(sum, chances))
        figures = {"segments": count / max(1, len(chances)), "wrong": wrong / max(1, count)}
        return Paid([[sum(tokens_L) for tokens_L in group] for group in tokens], figures=figures, tokens=tokens)


def _told_at(ids: Sequence[int], ends_K: Mapping[str, list[int]]) -> Answer:
    """A sampled answer, with a weight where a segment of any type ends."""
    told = {token for ends in ends_K.values() for token in ends}
    return Answer(ids, [float(token in told) for token in range(len(ids))], _before_end(ids))


def _before_end(ids: Sequence[int]) -> dict[str, list[float]]:
    """How many ids follow each: from the answer's last one the model finds them."""
    return {"before_end": [float(len(ids) - 1 - token) for token in range(len(ids))]}
