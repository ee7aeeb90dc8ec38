"""What a set of votes looks like: whose they are, how far raters agree, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from burnish.errors import EvaluationError
from burnish.feedback.raters import raters
from burnish.records import Figure, Json, Vote
from burnish.statistics import agreement
from burnish.store import Store


def summary(store: Store, project: str, votes: Sequence[Vote], seed: int = 0) -> dict[str, Json]:
    """Counts and shares of votes, as JSON.

    Returns:
        ``votes``; ``by_source``, ``by_kind`` and ``by_rater`` (name, source, votes and share, most first);
        ``largest_share`` of one rater; ``ties`` and ``left``, shares of the comparisons that ended in a tie
        and, of those that did not, with the left answer; ``agreement`` of raters who saw the same item, a
        figure with its interval. What cannot be known is None.
    """
    named = raters(store, project)
    compared = [vote for vote in votes if vote.kind == "compare"]
    decided = [vote for vote in compared if vote.choice != "tie"]
    by_rater = [
        {
            "rater": id,
            "name": named[id].name,
            "source": named[id].source,
            "votes": number,
            "share": number / len(votes),
        }
        for id, number in Counter(vote.rater for vote in votes).most_common()
    ]
    return {
        "votes": len(votes),
        "by_source": dict(Counter(vote.source for vote in votes)),
        "by_kind": dict(Counter(vote.kind for vote in votes)),
        "by_rater": by_rater,
        "largest_share": by_rater[0]["share"] if by_rater else None,
        "ties": 1 - len(decided) / len(compared) if compared else None,
        "left": sum(vote.choice == vote.left for vote in decided) / len(decided) if decided else None,
        "agreement": _agreement(compared, seed),
    }


def _agreement(compared: Sequence[Vote], seed: int) -> dict[str, Json] | None:
    try:
        figure: Figure = agreement(
            [(vote.comparison, vote.rater, vote.choice) for vote in compared if vote.choice], seed=seed
        )
    except EvaluationError:
        return None  # no item has two votes that took a side: agreement is unknown, not zero
    return {"value": figure.value, "low": figure.low, "high": figure.high, "items": figure.clusters}
