"""What raters are shown: the next pair or answer without its version, how far they are, what the reward foresaw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from burnish import feedback
from burnish.records import Exchange, Figure, Json
from burnish.statistics import mean_interval, share_interval
from burnish.store import Store

FEWEST_FORESEEN = 5  # fewer votes say nothing about the reward model


def next_pair(store: Store, project: str, rater: str, skipped: Sequence[str]) -> dict[str, Json]:
    """The rater's next pair, both texts and nothing else; None where nothing is left. Skipped pairs come last."""
    id = feedback.ensure_rater(store, project, rater)
    offer = feedback.next_comparison(store, project, id, skipped=skipped)
    offer = offer or (feedback.next_comparison(store, project, id) if skipped else None)
    done, left = _progress(store, project, id)
    total = done + max(left, 1 if offer else 0)
    return {"item": offer and _blind(offer), "done": done, "total": total, "foreseen": foreseen(store, project)}


def _blind(offer: feedback.Offer) -> dict[str, Json]:
    """What a rater may see: the texts. The system prompt is the house's, and tells nothing about the answers."""
    return {
        "comparison": offer.comparison,
        **_asked(offer),
        "left": offer.left,
        "right": offer.right,
    }


def _asked(said: feedback.Offer | Exchange) -> dict[str, Json]:
    return {
        "prompt": [asdict(message) for message in said.prompt if message.role != "system"],
        "documents": [{"title": document.title, "text": document.text} for document in said.documents],
    }


def next_answer(store: Store, project: str, rater: str, skipped: Sequence[str]) -> dict[str, Json]:
    """The next answer for the rater to mark, without its version, None where nothing is left; and how many are."""
    found, left = feedback.next_to_mark(store, project, feedback.ensure_rater(store, project, rater), skipped)
    if found is None:
        return {"item": None, "left": 0}
    return {"item": {"id": found.id, **_asked(found), "answer": found.answer}, "left": left}


def open_pairs(store: Store, project: str) -> int:
    """Pairs that still want a vote."""
    given = Counter(
        vote.comparison for vote in feedback.votes(store, project, kinds=["compare"], sources=feedback.RATERS)
    )
    return sum(given[item.id] < item.votes_wanted for item in feedback.comparisons(store, project))


def foreseen(store: Store, project: str) -> str | None:
    """How many of the people's votes the reward model foresaw, in a sentence; None while there are too few.

    A prediction is the probability that a wins, made for a pair that the model did not learn from. Ties take no
    side and are left out; so are simulated votes.
    """
    predicted: dict[str, float] = {}
    for record in store.records(project):
        predicted |= record.body.get("predictions") or {}
    cast = feedback.votes(store, project, kinds=["compare"], sources=["human"])
    counted = [vote for vote in cast if vote.comparison in predicted and vote.choice in ("a", "b")]
    right = [(predicted[str(vote.comparison)] > 0.5) == (vote.choice == "a") for vote in counted]
    if len(right) < FEWEST_FORESEEN:
        return None
    share = _share(right, [vote.comparison for vote in counted])
    return (
        f"The reward model foresaw {sum(right)} of {len(right)} votes by people on pairs that it never learned from: "
        f"{share.value:.0%}, between {share.low:.0%} and {share.high:.0%} with 95 % confidence. A coin would get 50 %."
    )


def _share(right: Sequence[bool], pairs: Sequence[str | None]) -> Figure:
    """The share of right ones; votes on one pair are no independent trials."""
    if len(set(right)) == 1:  # a bootstrap of equal numbers would claim to be certain
        different = len(set(pairs))
        return share_interval(different * right[0], different)
    return mean_interval([float(value) for value in right], [str(pair) for pair in pairs], seed=0)


def _progress(store: Store, project: str, rater: str) -> tuple[int, int]:
    """Comparisons that the rater has judged, and those that are left for them."""
    cast = feedback.votes(store, project, kinds=["compare"], sources=feedback.RATERS)
    mine = {vote.comparison for vote in cast if vote.rater == rater}
    given = Counter(vote.comparison for vote in cast)
    left = sum(
        given[item.id] < item.votes_wanted and item.id not in mine for item in feedback.comparisons(store, project)
    )
    return len(mine), left
