"""What people say about answers: raters, comparisons and the queue, votes, snapshots, simulation, export."""

from burnish.feedback.comparisons import (
    Offer,
    Waiting,
    add_comparisons,
    comparisons,
    next_comparison,
    waiting,
    withdraw,
)
from burnish.feedback.export import export_votes
from burnish.feedback.judging import Judged, judge_agreement, judge_votes
from burnish.feedback.marking import next_to_mark, overlap
from burnish.feedback.raters import RATERS, SOURCES, RaterName, ensure_rater, raters
from burnish.feedback.simulate import Reply, SimulatedRater, simulate_marks, simulate_votes
from burnish.feedback.snapshot import snapshot
from burnish.feedback.summary import summary
from burnish.feedback.votes import count, last_event, least_votes, votes, waited_for
from burnish.feedback.voting import Receipt, Seen, record_vote, undo

__all__ = [
    "RATERS",
    "SOURCES",
    "Judged",
    "Offer",
    "RaterName",
    "Receipt",
    "Reply",
    "Seen",
    "SimulatedRater",
    "Waiting",
    "add_comparisons",
    "comparisons",
    "count",
    "ensure_rater",
    "export_votes",
    "judge_agreement",
    "judge_votes",
    "last_event",
    "least_votes",
    "next_comparison",
    "next_to_mark",
    "overlap",
    "raters",
    "record_vote",
    "simulate_marks",
    "simulate_votes",
    "snapshot",
    "summary",
    "undo",
    "votes",
    "waited_for",
    "waiting",
    "withdraw",
]
