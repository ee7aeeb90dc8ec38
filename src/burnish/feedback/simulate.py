"""Simulated raters vote through the same door as people, and carry their source with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from burnish.feedback.comparisons import comparisons, left_side
from burnish.feedback.raters import ensure_rater
from burnish.feedback.votes import votes
from burnish.feedback.voting import record_vote
from burnish.progress import Progress
from burnish.records import Mark
from burnish.store import Store, digest_of


class Reply(NamedTuple):
    """What a rater reads: the text, and whether the model ended it by itself."""

    text: str
    finished: bool = True


class SimulatedRater(Protocol):
    """A rule that votes; the same ``draw`` and texts give the same vote."""

    @property
    def name(self) -> str:
        """Unique in the panel."""

    def vote(self, question: str, left: Reply, right: Reply, draw: str) -> Literal["left", "right", "tie"]:
        """The side it prefers."""

    def criteria(
        self, question: str, left: Reply, right: Reply, draw: str, asked: Sequence[str]
    ) -> Mapping[str, Literal["left", "right", "tie"]]:
        """The side it prefers by each of the criteria."""

    def mark(self, question: str, reply: Reply, draw: str) -> Sequence[Mark]:
        """The errors that it finds."""


def simulate_votes(
    store: Store,
    project: str,
    campaign: str,
    panel: Sequence[SimulatedRater],
    progress: Progress | None = None,
    asked: Sequence[str] = (),
) -> int:
    """Let a panel vote on every comparison of a campaign, and by the criteria ``asked`` for, until each has the votes
    that it wants.

    Who votes on an item wanted by fewer than all follows from its id. Keys are derived from rater and item,
    so a run that was killed and repeated doubles nothing. Returns the number of votes that were added.
    """
    ids = {rater.name: ensure_rater(store, project, rater.name, "simulated") for rater in panel}
    items = comparisons(store, project, campaign)
    texts = store.exchanges.many(id for item in items for id in (item.a, item.b))
    standing = votes(store, project, kinds=["compare"], campaign=campaign)
    given = {(vote.rater, vote.comparison) for vote in standing}
    added = 0
    for done, item in enumerate(items, 1):
        order = sorted(panel, key=lambda rater: digest_of([item.id, rater.name]))
        for rater in order[: item.votes_wanted]:
            if (ids[rater.name], item.id) in given or item.a not in texts or item.b not in texts:
                continue
            replies = {side: texts[id] for side, id in (("a", item.a), ("b", item.b))}
            left = left_side(item.id, ids[rater.name])
            shown = [replies[side] for side in (left, "b" if left == "a" else "a")]
            first, second = (Reply(said.answer, said.finish_reason == "stop") for said in shown)
            question = shown[0].prompt[-1].content
            receipt = record_vote(
                store,
                project,
                ids[rater.name],
                "compare",
                key=f"simulated:{rater.name}:{item.id}",
                comparison=item.id,
                choice=rater.vote(question, first, second, item.id),
                criteria=rater.criteria(question, first, second, item.id, asked) if asked else None,
                asked=asked,
            )
            added += not receipt.duplicate
        if progress is not None:
            progress.update("simulated votes", done, len(items), f"{added} votes")
    return added


def simulate_marks(
    store: Store, project: str, campaign: str, panel: Sequence[SimulatedRater], types: Collection[str]
) -> int:
    """Let a panel mark every answer of a campaign, one rater each, with errors of these types alone.

    Keys are derived from rater and answer, as those of votes. Returns the number of answers that were newly marked.
    """
    ids = {rater.name: ensure_rater(store, project, rater.name, "simulated") for rater in panel}
    answers = dict.fromkeys(id for item in comparisons(store, project, campaign) for id in (item.a, item.b))
    added = 0
    for id, said in store.exchanges.many(answers).items():
        rater = min(panel, key=lambda rater: digest_of([id, rater.name]))
        found = rater.mark(said.prompt[-1].content, Reply(said.answer, said.finish_reason == "stop"), id)
        marks = [mark for mark in found if mark.kind in types]
        key = f"simulated:{rater.name}:marks:{id}"
        receipt = record_vote(store, project, ids[rater.name], "span", key=key, exchange=id, marks=marks)
        added += not receipt.duplicate
    return added
