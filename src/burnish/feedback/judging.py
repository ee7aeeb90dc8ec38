"""A judge compares answers as a further source of votes: kept beside people's, never taken for theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from burnish.feedback.comparisons import comparisons, left_side
from burnish.feedback.raters import ensure_rater
from burnish.feedback.votes import votes
from burnish.feedback.voting import Seen, record_vote
from burnish.records import Figure, Row, Vote
from burnish.statistics import mean_interval
from burnish.store import Store

CHOICES: dict[float, Literal["a", "b", "tie"]] = {1.0: "a", 0.5: "tie", 0.0: "b"}

Case = tuple[Row, str, str]
Compare = Callable[[Sequence[Case]], tuple[Sequence[float | None], str | None]]


class Judged(NamedTuple):
    """What became of a campaign's comparisons that the judge had not voted on yet, and why it failed at one, if so."""

    voted: int
    failed: int
    why: str | None


def judge_votes(store: Store, project: str, campaign: str, name: str, compare: Compare) -> Judged:
    """Let the judge ``name`` vote on every comparison of a campaign that it has not judged.

    ``compare`` says of (row, first answer, second answer) 1 where the first is better, 0 where the second is, 0.5 for a
    tie, and None where it has no answer; then no vote is cast, and the next call asks again. Keys follow from judge and
    item, so a run that was killed and repeated doubles nothing.
    """
    rater = ensure_rater(store, project, name, "judge")
    items = comparisons(store, project, campaign)
    texts = store.exchanges.many(id for item in items for id in (item.a, item.b))
    cast = votes(store, project, kinds=["compare"], campaign=campaign)
    known = {vote.comparison for vote in cast if vote.rater == rater}
    due = [item for item in items if item.id not in known and item.a in texts and item.b in texts]
    cases: list[Case] = []
    for item in due:
        first = texts[item.a]
        cases.append((Row(first.prompt, None, 1, documents=first.documents), first.answer, texts[item.b].answer))
    found, why = compare(cases) if cases else ((), None)
    for item, value in zip(due, found, strict=True):
        if value is not None:
            choice = _seen(CHOICES[value], left_side(item.id, rater))
            record_vote(store, project, rater, "compare", key=f"{rater}:{item.id}", comparison=item.id, choice=choice)
    failed = sum(value is None for value in found)
    return Judged(len(due) - failed, failed, why)


def judge_agreement(votes: Sequence[Vote], seed: int = 0) -> Figure | None:
    """How often a judge and a person who both took a side on one comparison took the same; None where none did."""
    decided = [vote for vote in votes if vote.kind == "compare" and vote.choice in ("a", "b")]
    people = [vote for vote in decided if vote.source == "human"]
    both = [
        (float(mine.choice == theirs.choice), theirs.comparison)
        for mine in decided
        if mine.source == "judge"
        for theirs in people
        if theirs.comparison == mine.comparison
    ]
    return mean_interval([same for same, _ in both], [item for _, item in both], seed=seed) if both else None


def _seen(choice: Literal["a", "b", "tie"], left: Literal["a", "b"]) -> Seen:
    """The choice as votes are taken: by the side on which an answer stood."""
    return "tie" if choice == "tie" else "left" if choice == left else "right"
