"""Episodes: conversations of the policy with an environment, each one sample, and so one sequence to train on.

The ids of every answer stay as they were sampled, with their logprobs. What stands between two answers, the template's
tokens and what the environment said, is rendered apart and only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from burnish.config import Rl
from burnish.data import Renderer
from burnish.parts import Episode, Part, start_episode
from burnish.records import FinishReason, Message
from burnish.rewards.scores import Asked
from burnish.sampling import Params, Sample, Sampler
from burnish.store import derive_seed


@dataclass
class _Playing:
    """An episode on its way: its ids so far, which of them were read, and what the environment said."""

    asked: Asked
    own: Episode
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    ended: FinishReason | None = None

    def reads(self, ids: Sequence[int], answer: str, reply: str) -> None:
        """The environment's reply to an answer, as the ids that stand before the next one."""
        self.read.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self.logprobs += [0.0] * len(ids)
        self.said += [Message("assistant", answer), Message("user", reply)]

    def sample(self, pays: bool) -> Sample:
        assert self.ended is not None
        ids, logprobs, read = tuple(self.ids), tuple(self.logprobs), tuple(self.read)
        paid = self.own.reward() if pays else None
        return Sample(ids, logprobs, self.ended, None, read, tuple(self.said), paid)


@dataclass(frozen=True)
class Episodes:
    """Plays episodes of at most ``turns`` answers, within ``context`` tokens (None: without a bound).

    ``pays`` says that the environment's reward is asked for.
    """

    environment: Part
    renderer: Renderer
    turns: int
    context: int | None
    pays: bool

    def play(self, engine: Sampler, asked: Sequence[Asked], n: int, params: Params) -> list[list[Sample]]:
        """``n`` episodes of each prompt, in the order of the prompts; all of them take their turns together.

        The episodes of one prompt begin alike: their environments have one seed, as a group is compared.

        Raises:
            DataError: The template renders earlier turns otherwise once a later one follows.
            PartError: The environment raised, or broke its contract; names the row.
        """
        seeds = [derive_seed(params.seed, "environment", str(place)) for place in range(len(asked))]
        groups = [
            [_Playing(prompt, start_episode(self.environment, prompt.row, seed)) for _ in range(n)]
            for prompt, seed in zip(asked, seeds, strict=True)
        ]
        going = list(chain(*groups))
        drawn = engine.sample([prompt.ids for prompt in asked], n, params)
        for turn in range(1, self.turns + 1):
            answers = zip(going, chain(*drawn), strict=True)
            going = [each for each, sample in answers if self._goes_on(each, sample, turn == self.turns)]
            if not going:
                break
            prompts = [[*each.asked.ids, *each.ids] for each in going]
            drawn = engine.sample(prompts, 1, replace(params, seed=derive_seed(params.seed, "turn", str(turn))))
        return [[each.sample(self.pays) for each in group] for group in groups]

    def _goes_on(self, playing: _Playing, sample: Sample, last: bool) -> bool:
        """Take an answer into its episode, and what the environment says to it; False where that is the end."""
        playing.ids += sample.ids
        playing.logprobs += sample.logprobs
        answer = self.renderer.text(sample.ids)
        reply = playing.own.reply(answer)
        if reply is None:
            playing.ended = sample.finish_reason
            return False
        if last:
            playing.ended = "length"
            return False
        row, replies = playing.asked.row, [message.content for message in playing.said if message.role == "user"]
        between = self.renderer.following(row.prompt, [*replies, reply], row.documents)
        if sample.finish_reason == "length":
            between = [self.renderer.stop_ids[0], *between]  # the next answer reads a whole turn, as in serving
        if self.context is not None and len(playing.asked.ids) + len(playing.ids) + len(between) >= self.context:
            playing.ended = "length"
            return False
        playing.reads(between, answer, reply)
        return True


def episodes_of(table: Rl, environment: Part | None, renderer: Renderer, context: int | None) -> Episodes | None:
    """The episodes that a recipe asks for; None where its rollouts are answers to prompts."""
    if environment is None:
        return None
    return Episodes(environment, renderer, table.turns, context, table.paid_by_environment)


def turns(groups: Sequence[Sequence[Sample]]) -> float:
    """The answers of an episode, mean over all episodes."""
    found = [len(sample.read) + 1 for group in groups for sample in group]
    return sum(found) / len(found)
