"""Environments: own parts that answer the policy, turn by turn, and the contract that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from burnish.errors import PartError
from burnish.parts.contract import EXAMPLES, broken, examples_of, finite, shown
from burnish.parts.load import Part
from burnish.records import Row


@dataclass(frozen=True)
class Episode:
    """One episode of an environment: what the environment made of a row, with everything that it says checked."""

    part: Part
    row: int
    own: Any

    def reply(self, answer: str) -> str | None:
        """What the environment says to an answer of the policy; None where the episode is over.

        Raises:
            PartError: It raised, or said anything but a text.
        """
        said = self._call("reply", answer)
        if said is None or (isinstance(said, str) and said.strip()):
            return said
        raise broken(self.part.name, "a text or None", f"reply() returned {shown(said)} on row {self.row}")

    def reward(self) -> float:
        """What the whole episode is paid.

        Raises:
            PartError: It raised, or gave no finite number.
        """
        if not callable(getattr(self.own, "reward", None)):
            mend = 'give its episodes a method reward(), or take kind = "environment" out of rl.rewards'
            raise PartError(f'"{self.part.name}" pays nothing: its episodes have no reward()', mend=mend)
        return finite(self.part.name, "one reward for an episode", "reward()", self._call("reward"), self.row)

    def _call(self, method: str, *arguments: str) -> Any:
        """Call a method of the user's, as a part: what it raises names the row, the file and the line."""
        return replace(self.part, function=getattr(self.own, method))(*arguments, about=f"row {self.row}")


def start_episode(part: Part, row: Row, seed: int) -> Episode:
    """A new episode on a row; equal rows and seeds give equal episodes.

    Raises:
        PartError: The function raised, or returned nothing that can reply.
    """
    own = part(row, seed, about=f"row {row.number}")
    if not callable(getattr(own, "reply", None)):
        what = f"it returned {shown(own)} on row {row.number}, which has no reply()"
        raise broken(part.name, "an episode for every row", what)
    return Episode(part, row.number, own)


def environment_contract(part: Part, rows: Sequence[Row], turns: int, pays: bool) -> list[str]:
    """Try an environment on made-up answers; returns the contracts that it kept.

    Each episode is played alone, and again beside all others, turn by turn, as rollouts play them.

    Args:
        turns: Most answers in an episode.
        pays: Whether the recipe is paid by its reward.

    Raises:
        PartError: It raised, said anything but a text, gave no finite reward, or said something else the second time.
    """
    tried = [(row, found[at:] + found[:at]) for row in rows[:EXAMPLES] for found in [_answers(row)] for at in (0, 1, 2)]
    alone = [_played(part, [each], turns, pays)[0] for each in tried]
    beside = _played(part, tried[::-1], turns, pays)[::-1]
    for (row, _), first, second in zip(tried, alone, beside, strict=True):
        if first != second:
            a, b = next((a, b) for a, b in zip_longest(first, second) if a != b)
            what = f"the same answers to row {row.number} got {shown(a)}, then, beside other episodes, {shown(b)}"
            raise broken(part.name, "determinism", what)
    ended = sum(None in heard for heard in alone)
    ends = f"ends ({ended} of {len(tried)} tried episodes by themselves, the others at rl.turns = {turns})"
    return ["a text or None", "determinism", *(["one reward for an episode"] if pays else []), ends]


def _answers(row: Row) -> list[str]:
    return [reply.answer for reply, _ in examples_of([row])]


def _played(
    part: Part, tried: Sequence[tuple[Row, Sequence[str]]], turns: int, pays: bool
) -> list[list[str | float | None]]:
    """What was said in each episode to its answers, in turn, all of them side by side; and what it paid."""
    episodes = [start_episode(part, row, row.number) for row, _ in tried]
    heard: list[list[str | float | None]] = [[] for _ in tried]
    for turn in range(turns):
        for episode, (_, answers), said in zip(episodes, tried, heard, strict=True):
            if None not in said:
                said.append(episode.reply(answers[turn % len(answers)]))
    if pays:
        for episode, said in zip(episodes, heard, strict=True):
            said.append(episode.reward())
    return heard
