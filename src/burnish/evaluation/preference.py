"""The candidate's answers before raters, and what they preferred."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Literal

from sqlalchemy import func, select

from burnish.errors import EvaluationError
from burnish.evaluation.metrics import figure_of
from burnish.feedback import add_comparisons, votes
from burnish.records import Choice, Json, Record, Source, Vote
from burnish.statistics import agreement
from burnish.store import Store, Work, digest_of
from burnish.store import schema as tables

VERSION = 2
WORTH = {"a": 1.0, "tie": 0.5, "b": 0.0}  # to a, which is the candidate


@dataclass(frozen=True)
class Pair:
    """The exchanges of candidate and reference for one item."""

    a: str
    b: str
    state: Literal["differ", "equal", "erased"]


def judge_campaign(
    store: Store, project: str, evaluation: Record, candidate: str, reference: str, votes_wanted: int
) -> str:
    """Put the answers of two contenders before the raters, prompt by prompt; returns the campaign's id.

    Equal answers are ties that nobody is asked about. Calling it again adds nothing.

    Raises:
        EvaluationError: A name is not in the evaluation, or all answers are equal.
    """
    campaign = _campaign(evaluation, candidate, reference)
    pairs = [(p.a, p.b) for p in _pairs(store, evaluation, candidate, reference) if p.state == "differ"]
    if not pairs:
        raise EvaluationError(f"{candidate} and {reference} give equal answers: there is nothing to compare")
    add_comparisons(store, project, pairs, purpose="judge", campaign=campaign, votes_wanted=votes_wanted)
    return campaign


def judged(
    store: Store,
    project: str,
    campaign: str,
    evaluation: Record,
    seed: int,
    sources: Sequence[Source] | None = None,
) -> Record:
    """The votes of a campaign as they stand, as a win rate of the candidate; kind "judgement".

    The votes are frozen: the record names the last event that it read. People's and simulated votes are pooled only
    where ``sources`` names both; left out, people's are used if they have judged every pair, else simulated ones.

    Raises:
        EvaluationError: The campaign compares no two contenders of this evaluation, or a pair has no vote.
    """
    candidate, reference = _compared(evaluation, campaign)
    pairs = _pairs(store, evaluation, candidate, reference)
    used = _sources(store, project, campaign, pairs, sources)
    up_to = _last_event(store, project, campaign, used)
    settings: dict[str, Json] = {"campaign": campaign, "sources": used, "up_to": up_to}
    work = Work("judgement", "judgement", VERSION, settings, (evaluation,), seed, project)

    def make() -> dict[str, Json]:
        cast = votes(store, project, up_to=up_to, kinds=["compare"], sources=used, campaign=campaign)
        return settings | {
            "evaluation": evaluation.id,
            "candidate": candidate,
            "reference": reference,
            "contenders": {name: evaluation.body["contenders"][name] for name in (candidate, reference)},
            **_outcome(pairs, evaluation.body["clusters"], cast, seed),
        }

    return store.once(work, make)


def _pairs(store: Store, evaluation: Record, candidate: str, reference: str) -> list[Pair]:
    said = evaluation.body["exchanges"]
    for name in (candidate, reference):
        if name not in said:
            raise EvaluationError(f'"{name}" was not evaluated in {evaluation.id}', mend=f"known: {', '.join(said)}")
    found = store.exchanges.many([*said[candidate], *said[reference]])
    pairs = []
    for a, b in zip(said[candidate], said[reference], strict=True):
        readable = a in found and b in found
        equal = readable and found[a].answer.strip() == found[b].answer.strip()
        pairs.append(Pair(a, b, "equal" if equal else "differ" if readable else "erased"))
    return pairs


def _campaign(evaluation: Record, candidate: str, reference: str) -> str:
    return f"judge-{digest_of([evaluation.id, candidate, reference])[:16]}"


def _compared(evaluation: Record, campaign: str) -> tuple[str, str]:
    """The names of the two contenders that a campaign compares."""
    for candidate, reference in permutations(evaluation.body["exchanges"], 2):
        if campaign == _campaign(evaluation, candidate, reference):
            return candidate, reference
    raise EvaluationError(f"the campaign {campaign} compares no two contenders of {evaluation.id}")


def _sources(
    store: Store, project: str, campaign: str, pairs: Sequence[Pair], asked: Sequence[Source] | None
) -> list[Source]:
    """Whose votes decide: those that have judged every pair that can still be read."""
    wanted = {(pair.a, pair.b) for pair in pairs if pair.state == "differ"}
    choices: list[list[Source]] = [["human"], ["simulated"]] if asked is None else [sorted(set(asked))]
    missing = len(wanted)
    for sources in choices:
        cast = votes(store, project, kinds=["compare"], sources=sources, campaign=campaign)
        missing = min(missing, len(wanted - {(vote.exchange, vote.other) for vote in cast}))
        if cast and not missing:
            return sources
    raise EvaluationError(
        f"{missing} of {len(wanted)} pairs have no vote yet", where=campaign, mend="the compare page offers them"
    )


def _last_event(store: Store, project: str, campaign: str, sources: Sequence[Source]) -> int:
    """The last event of these raters on this campaign, undoings included: later ones elsewhere change nothing."""
    item, vote = tables.comparisons, tables.votes
    query = select(func.max(vote.c.sequence)).join(item, item.c.id == vote.c.comparison_id)
    with store.read() as conn:
        return int(
            conn.scalar(query.where(item.c.project == project, item.c.campaign == campaign, vote.c.source.in_(sources)))
            or 0
        )


def _outcome(pairs: Sequence[Pair], clusters: Sequence[int], cast: Sequence[Vote], seed: int) -> dict[str, Json]:
    """``items`` holds the candidate's share of the votes on each item: a half for equal answers, None for erased.

    ``criteria`` holds its win rate by each criterion, over the pairs on which somebody spoke about it.
    """
    items = _items(pairs, [(vote, vote.choice) for vote in cast])
    by = {
        name: _items(pairs, [(vote, vote.criteria[name]) for vote in cast if name in vote.criteria])
        for name in sorted({name for vote in cast for name in vote.criteria})
    }
    try:
        agreed = asdict(agreement([(v.comparison, v.rater, v.choice) for v in cast if v.choice], seed=seed))
    except EvaluationError:
        agreed = None  # no pair was judged by two raters who both took a side: unknown, not zero
    return {
        "items": items,
        "win_rate": asdict(figure_of(items, clusters, seed=seed)),
        "criteria": {name: asdict(figure_of(found, clusters, seed=seed)) for name, found in by.items()},
        "equal": sum(pair.state == "equal" for pair in pairs),
        "ties": sum(vote.choice == "tie" for vote in cast),
        "votes": dict(Counter(vote.source for vote in cast)),
        "raters": len({vote.rater for vote in cast}),
        "agreement": agreed,
    }


def _items(pairs: Sequence[Pair], cast: Sequence[tuple[Vote, Choice | None]]) -> list[float | None]:
    """The candidate's share of these choices on each item."""
    said: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for vote, choice in cast:
        said[vote.exchange, vote.other].append(WORTH[choice or "tie"])
    items: list[float | None] = []
    for pair in pairs:
        worth = said.get((pair.a, pair.b))
        items.append(0.5 if pair.state == "equal" else sum(worth) / len(worth) if worth else None)
    return items
