"""Votes as pairs, each with the share that its first answer won, and as labels, with the share that called it good."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from burnish.config import OVERALL
from burnish.data import Renderer
from burnish.objectives.stream import Answer, Tree
from burnish.records import Row, Vote
from burnish.store import Store
from burnish.tasks.chat import ChatTask

LONGEST_CHAIN = 7  # pairs on one prompt that are run at once: eight answers
WON = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Share(NamedTuple):
    """The share of ``votes`` that the first answer won, a tie counting a half."""

    preference: float
    votes: int

    def turned(self) -> Share:
        """The share of the other answer."""
        return Share(1 - self.preference, self.votes)


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. ``preference`` is the share of ``votes`` that a won, a tie counting a half.

    ``cluster`` is equal for pairs on the same prompt, ``id`` names the comparison, or the corrected exchange.
    ``criteria`` are the shares by each criterion that somebody spoke about.
    """

    id: str
    prompt_ids: tuple[int, ...]
    a_ids: tuple[int, ...]
    b_ids: tuple[int, ...]
    preference: float
    votes: int
    cluster: str
    criteria: Mapping[str, Share] = field(default_factory=dict)

    def tree(self, task: ChatTask, row: int = 0) -> Tree:
        """The pair on one prompt, as the terms of preference optimisation read it."""
        return task.pair(self.prompt_ids, self.a_ids, self.b_ids, self.preference, float(self.votes), row)

    def turned(self) -> Pair:
        """The same pair from the other side."""
        criteria = {name: share.turned() for name, share in self.criteria.items()}
        return replace(self, a_ids=self.b_ids, b_ids=self.a_ids, preference=1 - self.preference, criteria=criteria)

    def by(self, name: str) -> Share | None:
        """The votes by a criterion, or the choices of the better answer; None where nobody spoke about it."""
        return Share(self.preference, self.votes) if name == OVERALL else self.criteria.get(name)


@dataclass(frozen=True)
class Chain:
    """Pairs on one prompt, each of which begins with the answer that the last one ends with."""

    pairs: tuple[Pair, ...]

    @property
    def cluster(self) -> str:
        """What is equal for chains on the same prompt."""
        return self.pairs[0].cluster

    def tree(self, row: int = 0) -> Tree:
        """Prompt and answers, each with the share that it won against the next one, as the pairwise term reads it."""
        ids = [self.pairs[0].a_ids, *(pair.b_ids for pair in self.pairs)]
        figures = _figures([pair.by(OVERALL) for pair in self.pairs])
        for name in sorted({name for pair in self.pairs for name in pair.criteria}):
            figures |= _figures([pair.by(name) for pair in self.pairs], f":{name}")
        answers = tuple(Answer(each, [1.0] * len(each), row=row) for each in ids)
        return Tree(self.pairs[0].prompt_ids, answers, figures)


def _figures(shares: Sequence[Share | None], by: str = "") -> dict[str, list[float | None]]:
    """What was said of each answer but the last: the share that it won against the next, and how many votes say so."""
    return {
        f"preference{by}": [*(share and share.preference for share in shares), None],
        f"votes{by}": [*(share and float(share.votes) for share in shares), None],
    }


@dataclass(frozen=True)
class Label:
    """One answer that was called good by the share ``good`` of ``votes``; ``cluster`` is equal for equal prompts."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    good: float
    votes: int
    cluster: str

    def tree(self, task: ChatTask, row: int = 0) -> Tree:
        """The answer on its prompt, as a term that reads labels wants it."""
        return task.labelled(self.prompt_ids, self.answer_ids, self.good, float(self.votes), row)


def labels_of(store: Store, votes: Sequence[Vote], max_length: int) -> list[Label]:
    """The answers that thumbs speak about, in the order of their first vote.

    Votes on erased answers, and answers longer than ``max_length`` tokens with their prompt, are left out.
    """
    thumbs: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.kind == "thumb" and vote.value is not None:
            thumbs[vote.exchange].append(1.0 if vote.value > 0 else 0.0)
    exchanges = store.exchanges.many(sorted(thumbs))
    labels = []
    for id, said in thumbs.items():
        answered = exchanges.get(id)
        if answered is not None and len(answered.prompt_ids) + len(answered.answer_ids) <= max_length:
            good, cluster = sum(said) / len(said), cluster_of(answered.prompt_ids)
            labels.append(Label(answered.prompt_ids, answered.answer_ids, good, len(said), cluster))
    return labels


def pairs_of(
    store: Store, votes: Sequence[Vote], renderer: Renderer, max_length: int, criteria: Sequence[str] = ()
) -> list[Pair]:
    """The pairs that these votes speak about, in the order of their first vote, with their shares by ``criteria``.

    Comparisons give a pair of the two answers; an edit gives the corrected text over the answer it corrects. Votes on
    erased answers, and pairs longer than ``max_length`` tokens, are left out.
    """
    ids = {v.exchange for v in votes} | {v.other for v in votes if v.other}
    exchanges = store.exchanges.many(sorted(ids))
    grouped: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        if vote.kind == "compare" and vote.choice is not None:
            grouped[vote.comparison or f"{vote.exchange}:{vote.other}"].append(vote)
        elif vote.kind == "edit":
            grouped[f"edit:{vote.sequence}"].append(vote)
    pairs = []
    for name, said in grouped.items():
        first = exchanges.get(said[0].exchange)
        if first is None:
            continue
        if said[0].kind == "edit":
            better, worse, preference = tuple(renderer.answer(said[0].text or "")), first.answer_ids, 1.0
        else:
            other = exchanges.get(said[0].other or "")
            if other is None:
                continue
            better, worse = first.answer_ids, other.answer_ids
            preference = sum(WON[v.choice or "tie"] for v in said) / len(said)
        longest = len(first.prompt_ids) + max(len(better), len(worse))
        if longest <= max_length and better != worse:
            cluster = cluster_of(first.prompt_ids)
            shares = {criterion: share for criterion in criteria if (share := _share(said, criterion)) is not None}
            pairs.append(Pair(name, first.prompt_ids, better, worse, preference, len(said), cluster, shares))
    return pairs


def _share(votes: Sequence[Vote], criterion: str) -> Share | None:
    won = [WON[vote.criteria[criterion]] for vote in votes if criterion in vote.criteria]
    return Share(sum(won) / len(won), len(won)) if won else None


def chains_of(pairs: Sequence[Pair]) -> list[Chain]:
    """The pairs, joined where they share an answer, so that it is run once; in the order of the prompts' first pairs.

    Four answers of which each was compared with the next are one chain, whatever the order of the votes.
    """
    by_prompt: dict[tuple[int, ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt_ids].append(pair)
    found = []
    for left in by_prompt.values():
        while left:
            found.append(_longest_walk(left))
    return found


def _longest_walk(left: list[Pair]) -> Chain:
    """A chain of pairs, taken off those that are ``left``: from an answer in an odd number of them, if there is one."""
    number = Counter(ids for pair in left for ids in (pair.a_ids, pair.b_ids))
    at = next((ids for ids, pairs in number.items() if pairs % 2), left[0].a_ids)
    walked: list[Pair] = []
    while len(walked) < LONGEST_CHAIN:
        place = next((n for n, pair in enumerate(left) if at in (pair.a_ids, pair.b_ids)), None)
        if place is None:
            break
        pair = left.pop(place)
        walked.append(pair if pair.a_ids == at else pair.turned())
        at = walked[-1].b_ids
    return Chain(tuple(walked))


def row_pair(row: Row, task: ChatTask) -> Pair:
    """A row of preferences that has both answers, the better one first."""
    prompt = tuple(task.prompt_ids(row))
    better, worse = (tuple(task.renderer.answer(text or "")) for text in (row.answer, row.rejected))
    return Pair(f"row:{row.number}", prompt, better, worse, 1.0, 1, cluster_of(prompt))


def cluster_of(prompt_ids: Sequence[int]) -> str:
    """What is equal for answers to one prompt."""
    return hashlib.sha256(repr(tuple(prompt_ids)).encode()).hexdigest()[:16]
