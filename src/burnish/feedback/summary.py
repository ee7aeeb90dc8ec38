"""What a set of votes looks like: whose they are, how far raters agree, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from burnish.errors import EvaluationError
from burnish.feedback.raters import raters
from burnish.records import Choice, Figure, Json, Vote
from burnish.statistics import agreement
from burnish.store import Store


def summary(store: Store, project: str, votes: Sequence[Vote], seed: int = 0) -> dict[str, Json]:
    """Counts and shares of votes, as JSON.

    Returns:
        ``votes``; ``by_source``, ``by_kind`` and ``by_rater`` (name, source, votes and share, most first);
        ``largest_share`` of one rater; ``ties`` and ``left``, shares of the comparisons that ended in a tie
        and, of those that did not, with the left answer; ``agreement`` of raters who saw the same item, a
        figure with its interval; ``criteria``: votes, ties and agreement by each. What cannot be known is None.
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
        "agreement": _agreement([(vote.comparison, vote.rater, vote.choice) for vote in compared], seed),
        "criteria": _by_criterion(compared, seed),
    }


def _by_criterion(compared: Sequence[Vote], seed: int) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name in sorted({name for vote in compared for name in vote.criteria}):
        said = [(vote.comparison, vote.rater, vote.criteria[name]) for vote in compared if name in vote.criteria]
        ties = sum(choice == "tie" for _, _, choice in said) / len(said)
        found[name] = {"votes": len(said), "ties": ties, "agreement": _agreement(said, seed)}
    return found


def _agreement(said: Sequence[tuple[str | None, str, Choice | None]], seed: int) -> dict[str, Json] | None:
    """How far raters agree who chose on the same comparison."""
    try:
        figure: Figure = agreement([(item, rater, choice) for item, rater, choice in said if choice], seed=seed)
    except EvaluationError:
        return None  # no item has two votes that took a side: agreement is unknown, not zero
    return {"value": figure.value, "low": figure.low, "high": figure.high, "items": figure.clusters}
