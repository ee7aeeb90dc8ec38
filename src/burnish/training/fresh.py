"""Fresh comparisons of a policy in training with its start, through the same queue as all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from burnish.feedback import add_comparisons, last_event, votes, withdraw
from burnish.records import Source, Vote
from burnish.rewards.pairs import WON
from burnish.rewards.scores import Asked
from burnish.sampling import Sample
from burnish.store import RunLog, Store
from burnish.tasks.chat import ChatTask

SHOWN = 3  # answers of each look that the run page sets side by side
READ = "dev_votes_up_to"  # the figure in the run's log that says which votes a look has read


class Said(NamedTuple):
    """What raters said about one look: the current answer's share of each prompt's votes, and all votes."""

    shares: list[float | None]
    votes: list[Vote]


@dataclass(frozen=True)
class Fresh:
    """Asks raters which answer to a dev prompt is better, the current one or the start's, and waits for nobody.

    Each look asks about its own answers and withdraws what was asked before: whoever votes sees the policy as it is.
    ``purpose`` "judge" keeps these votes from training a reward. ``let_vote`` lets simulated raters, where there are
    some, vote on a campaign. ``work`` names the run, ``version`` is the start's id, ``folder`` holds the run's log.
    """

    store: Store
    project: str
    work: str
    version: str
    task: ChatTask
    sources: Sequence[Source]
    number: int
    folder: Path
    let_vote: Callable[[str], None]

    def ask(self, step: int, asked: Sequence[Asked], samples: Sequence[Sequence[Sample]]) -> list[str]:
        """Keep the answers of a look and offer them for comparison; before the first update they are the start's.

        Returns:
            The ids of a few of them, of the same prompts at every look.
        """
        pairs = list(zip(asked, samples, strict=True))[: self.number]
        names = self._names(step, len(pairs))
        known = self.store.exchanges.many(names)  # a look that was killed and is repeated stored them before
        settings = {"temperature": 1.0, "updates": step}
        with self.store.write() as conn:
            for name, (prompt, group) in zip(names, pairs, strict=True):
                if name not in known:
                    exchange = self.task.exchange(
                        self.project, self.version, prompt.row, prompt.ids, group[0], "rollout", settings, id=name
                    )
                    self.store.exchanges.add(conn, exchange)
        if step == 0:
            return names[:SHOWN]
        # not this look's own: where it was killed among its votes and is repeated, the others are still wanted
        withdraw(self.store, self.project, self._prefix, but=self._campaign(step))
        start = self._names(0, len(pairs))
        texts = self.store.exchanges.many([*names, *start])
        differ = [(a, b) for a, b in zip(names, start, strict=True) if not _equal(texts[a].answer, texts[b].answer)]
        if differ:
            add_comparisons(self.store, self.project, differ, "judge", self._campaign(step), votes_wanted=1)
            self.let_vote(self._campaign(step))
        return names[:SHOWN]

    def withdraw(self) -> None:
        """Ask for no more votes on this run's looks; those that were cast stand."""
        withdraw(self.store, self.project, self._prefix)

    def until(self, step: int) -> int:
        """The last event that the look after ``step`` updates reads: written down first, the same when repeated."""
        known = next((line[READ] for line in RunLog.read(self.folder) if line["step"] == step and READ in line), None)
        if known is not None:
            return int(known)
        event = last_event(self.store, self.project)
        RunLog(self.folder).log(step, **{READ: event})
        return event

    def said(self, step: int, prompts: int, until: int) -> Said:
        """What raters said, up to an event, about the look after ``step`` updates; equal answers are a half each."""
        asked = min(self.number, prompts)
        now, start = self._names(step, asked), self._names(0, asked)
        texts = self.store.exchanges.many([*now, *start])
        cast = votes(
            self.store,
            self.project,
            up_to=until,
            kinds=["compare"],
            sources=self.sources,
            campaign=self._campaign(step),
        )
        won: dict[str, list[float]] = defaultdict(list)
        for vote in cast:
            won[vote.exchange].append(WON[vote.choice or "tie"])
        shares: list[float | None] = [None] * prompts
        for n, (a, b) in enumerate(zip(now, start, strict=True)):
            if a in texts and b in texts and _equal(texts[a].answer, texts[b].answer):
                shares[n] = 0.5
            elif a in won:
                shares[n] = sum(won[a]) / len(won[a])
        return Said(shares, cast)

    @property
    def _prefix(self) -> str:
        return f"{self.work}-dev-"

    def _campaign(self, step: int) -> str:
        return f"{self._prefix}{step}"

    def _names(self, step: int, number: int) -> list[str]:
        return [f"{self._campaign(step)}-{n}" for n in range(number)]


def _equal(a: str, b: str) -> bool:
    return a.strip() == b.strip()
