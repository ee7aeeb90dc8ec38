"""Marked pieces of an answer: whether marks can be what a rater meant, and which answer a rater marks next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from burnish.errors import FeedbackError
from burnish.feedback.comparisons import comparisons
from burnish.feedback.votes import votes
from burnish.records import Exchange, Mark
from burnish.store import Store, digest_of

MOST = 200  # marks on one answer
LONGEST_KIND = 80


def overlap(marks: Sequence[Mark]) -> tuple[Mark, Mark] | None:
    """Two marks of one kind that lie on the same characters, one error counted twice; None where there are none."""
    ordered = sorted(marks, key=lambda mark: (mark.kind, mark.start))
    return next(((a, b) for a, b in pairwise(ordered) if a.kind == b.kind and b.start < a.stop), None)


def require_marks(marks: Sequence[Mark]) -> None:
    """Refuse what no answer can have marked.

    Raises:
        FeedbackError: Too many, a kind without a name, an empty piece, or two of one kind that overlap.
    """
    if len(marks) > MOST:
        raise FeedbackError(f"{len(marks)} marks on one answer, and {MOST} are the most")
    for mark in marks:
        if not isinstance(mark.kind, str) or not 1 <= len(mark.kind.strip()) <= LONGEST_KIND:
            raise FeedbackError(f"a mark's type is a word of at most {LONGEST_KIND} characters, not {mark.kind!r}")
        if type(mark.start) is not int or type(mark.stop) is not int or not 0 <= mark.start < mark.stop:
            raise FeedbackError(
                f"a mark from {mark.start!r} to {mark.stop!r} holds no character",
                mend="give the place of the first character, and the place after the last",
            )
    both = overlap(marks)
    if both is not None:
        what = f'two marks of type "{both[0].kind}" overlap at character {both[1].start}'
        raise FeedbackError(what, mend="make one mark of them")


def require_inside(marks: Sequence[Mark], answer: str) -> None:
    """Refuse marks that lie outside the answer.

    Raises:
        FeedbackError: One does.
    """
    outside = next((mark for mark in marks if mark.stop > len(answer)), None)
    if outside is not None:
        raise FeedbackError(
            f"a mark from {outside.start} to {outside.stop}, and the answer has {len(answer)} characters",
            mend="count characters (code points), not bytes and not UTF-16 units",
        )


def next_to_mark(store: Store, project: str, rater: str, skipped: Collection[str] = ()) -> tuple[Exchange | None, int]:
    """The answer that a rater marks next, and how many are left for them.

    The answers of comparisons that train, those with the fewest marks first; among equals each rater has an order of
    their own, so that two who mark at the same time do not meet. Skipped ones come last.
    """
    cast = votes(store, project, kinds=["span"])
    given = Counter(vote.exchange for vote in cast)
    mine = {vote.exchange for vote in cast if vote.rater == rater}
    train = [item for item in comparisons(store, project) if item.purpose == "train"]
    open_ = {id for item in train for id in (item.a, item.b)} - mine
    order = sorted(open_, key=lambda id: (id in skipped, given[id], digest_of([rater, id])))
    for place, id in enumerate(order):
        found = store.exchanges.many([id])  # erased ones are missing
        if id in found:
            return found[id], len(order) - place
    return None, 0
