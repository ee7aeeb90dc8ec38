"""What goes into a sampler and what comes out: frozen data, and the promises that a sampler makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.data import first_stop
from burnish.errors import SamplingError
from burnish.progress import Progress
from burnish.records import FinishReason, Message

MISMATCH_LIMIT = 1.01
MISMATCH_ROUNDED = 1.1  # in bfloat16: SmolLM2, whose merged weights are rounded once more, measures 1.05
MISMATCH_HALF = 1.03  # of one with 16-bit weights: 1.0016 was measured on SmolLM2-135M at temperature 1
MISMATCH_INT8 = 1.15  # of an engine with 8-bit weights: 1.09 was measured on SmolLM2-135M at temperature 0.7
MISMATCH_SERVED = 1.15  # of a server, whose precision and kernels are its own


@dataclass(frozen=True, slots=True)
class Stop:
    """Strings that end an answer. ``text`` says what its ids say: a string may cross the borders of tokens.

    The ids stay as they were sampled; the text ends before the string.

    Raises:
        SamplingError: There is no string, or an empty one.
    """

    strings: tuple[str, ...]
    text: Callable[[Sequence[int]], str]

    def __post_init__(self) -> None:
        if not self.strings or not all(self.strings):
            raise SamplingError("a stop string is empty, or there is none", mend="leave stop out, or name strings")

    def found(self, ids: Sequence[int]) -> str | None:
        """The stop string that comes first in what these ids say, or None."""
        found = first_stop(self.text(ids), self.strings)
        return found and found[1]

    def cut(self, ids: Sequence[int]) -> str:
        """What these ids say before the first stop string."""
        text = self.text(ids)
        found = first_stop(text, self.strings)
        return text if found is None else text[: found[0]]


@dataclass(frozen=True, slots=True)
class Params:
    """How to draw an answer. Temperature 0 is greedy.

    ``top_k`` keeps the most likely ids (0: all), ``top_p`` the fewest that reach this share of their mass (1: all),
    ``min_p`` those at least this many times as likely as the likeliest (0: all), in this order. They draw from another
    distribution than the model's, so training refuses them.

    Raises:
        SamplingError: A value is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 48
    seed: int = 0
    stop_ids: tuple[int, ...] = ()
    top_k: int = 0
    min_p: float = 0.0
    stop: Stop | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SamplingError(
                f"temperature {self.temperature} is not 0 or more", mend="0 is greedy, 1 the model's own"
            )
        if not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p {self.top_p} is not above 0 and at most 1", mend="1 keeps every token")
        if self.top_k < 0:
            raise SamplingError(f"top_k {self.top_k} is below 0", mend="0 keeps every token")
        if not 0 <= self.min_p < 1:
            raise SamplingError(f"min_p {self.min_p} is not at least 0 and below 1", mend="0 keeps every token")
        if self.max_new_tokens < 1:
            raise SamplingError(f"max_new_tokens {self.max_new_tokens} is below 1")


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to one prompt. ``stream`` numbers it under the seed: equal (seed, stream) draw equal numbers."""

    prompt_ids: Sequence[int]
    params: Params
    stream: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One drawn token; ``finish_reason`` is set on a request's last. A stop token is drawn like any other.

    ``stopped_by`` is the stop string that ended the request with finish_reason "stop", None where a token did.
    """

    request_id: int
    token_id: int
    logprob: float
    finish_reason: FinishReason | None
    stopped_by: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A finished answer: its ids, with what stopped it where ``finish_reason`` is "stop", and their logprobs.

    What stopped it is the last token, or the string ``stopped_by`` somewhere in the text (``Stop.cut`` ends before it).
    The answers of an episode are one sample too: ``read`` are the stretches [start, stop) of its ids that stand between
    answers and were not drawn, with 0 in the place of logprobs; ``said`` is the conversation that they end, from the
    first answer to the message before the last one; ``paid`` is what the environment pays; "length" says that a limit
    ended it.

    A logprob is log-softmax(logits / temperature) of the drawn id before any truncation (temperature 1 for greedy):
    what a trainer with the same temperature computes.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    stopped_by: str | None = None
    read: tuple[tuple[int, int], ...] = ()
    said: tuple[Message, ...] = ()
    paid: float | None = None

    @property
    def weights(self) -> list[float]:
        """How much each id may be trained: 1 where it was drawn, 0 where it was read."""
        weights = [1.0] * len(self.ids)
        for start, stop in self.read:
            weights[start:stop] = [0.0] * (stop - start)
        return weights

    @property
    def drawn(self) -> tuple[int, ...]:
        """The ids that were drawn."""
        return tuple(id for id, weight in zip(self.ids, self.weights, strict=True) if weight)

    @property
    def last(self) -> int:
        """Where the last answer begins."""
        return self.read[-1][1] if self.read else 0


class NonFiniteLogits(SamplingError):
    """The model's logits were not finite for ``requests``; they are dropped, all others go on."""

    def __init__(self, requests: Sequence[int]) -> None:
        self.requests = tuple(requests)
        names = ", ".join(map(str, self.requests))
        super().__init__(
            f"the model's logits are not finite for request {names}", mend="the weights are broken: verify the version"
        )


class Sampler(Protocol):
    """What makes answers: ids in, ids and logprobs out; it never renders text."""

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, params: Params, progress: Progress | None = None
    ) -> list[list[Sample]]:
        """``n`` samples for each prompt, in the order of the prompts."""


def require_exact(params: Params) -> None:
    """Refuse what would make the sampled distribution another one than the trainer's.

    Raises:
        SamplingError: ``top_k``, ``top_p`` or ``min_p`` truncates it, or the temperature is 0.
    """
    for name, neutral in (("top_k", 0), ("top_p", 1), ("min_p", 0)):
        value = getattr(params, name)
        if value != neutral:
            raise SamplingError(
                f"{name} {value} truncates the distribution that training assumes",
                mend=f"set {name} = {neutral} to train",
            )
    if params.temperature == 0:
        raise SamplingError(
            "greedy answers have no distribution to train on", mend="set a temperature above 0 to train"
        )


def mismatch(sampled: Sequence[float], trained: Sequence[float]) -> float:
    """How far the trainer's logprobs of sampled tokens are from the sampler's: the mean of exp(|difference|).

    1.0 is perfect agreement; above ``MISMATCH_LIMIT`` an exact sampler and its trainer run different models. One with
    8-bit weights has ``MISMATCH_INT8``, and its answers are trained on with truncated importance weights.

    Raises:
        SamplingError: There is nothing to compare, the lengths differ, or a logprob is not finite.
    """
    if len(sampled) != len(trained) or not len(sampled):
        raise SamplingError(f"cannot compare {len(sampled)} sampled with {len(trained)} trained logprobs")
    gaps = [abs(float(a) - float(b)) for a, b in zip(sampled, trained, strict=True)]
    if not all(map(math.isfinite, gaps)):
        raise SamplingError(f"logprob {next(i for i, g in enumerate(gaps) if not math.isfinite(g))} is not finite")
    return math.fsum(math.exp(min(gap, 700.0)) for gap in gaps) / len(gaps)
