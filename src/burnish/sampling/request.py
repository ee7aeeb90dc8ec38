"""What goes into a sampler and what comes out: frozen data, and the promises that a sampler makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.errors import SamplingError
from burnish.progress import Progress
from burnish.records import FinishReason

MISMATCH_LIMIT = 1.01
MISMATCH_ROUNDED = 1.1  # in bfloat16: SmolLM2, whose merged weights are rounded once more, measures 1.05


@dataclass(frozen=True, slots=True)
class Params:
    """How to draw an answer. Temperature 0 is greedy; ``top_p`` below 1 is for serving only.

    Raises:
        SamplingError: A value is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 48
    seed: int = 0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SamplingError(
                f"temperature {self.temperature} is not 0 or more", mend="0 is greedy, 1 the model's own"
            )
        if not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p {self.top_p} is not above 0 and at most 1", mend="1 keeps every token")
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
    """One drawn token; ``finish_reason`` is set on a request's last. A stop token is drawn like any other."""

    request_id: int
    token_id: int
    logprob: float
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A finished answer: its ids, with the stop token where ``finish_reason`` is "stop", and their logprobs.

    A logprob is log-softmax(logits / temperature) of the drawn id before any truncation (temperature 1 for greedy):
    what a trainer with the same temperature computes.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


class Sampler(Protocol):
    """What makes answers: ids in, ids and logprobs out; it never renders text."""

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, params: Params, progress: Progress | None = None
    ) -> list[list[Sample]]:
        """``n`` samples for each prompt, in the order of the prompts."""


def require_exact(params: Params) -> None:
    """Refuse what would make the sampled distribution another one than the trainer's.

    Raises:
        SamplingError: ``top_p`` is below 1, or the temperature is 0.
    """
    if params.top_p < 1:
        raise SamplingError(
            f"top_p {params.top_p} truncates the distribution that training assumes", mend="set top_p = 1 to train"
        )
    if params.temperature == 0:
        raise SamplingError(
            "greedy answers have no distribution to train on", mend="set a temperature above 0 to train"
        )


def mismatch(sampled: Sequence[float], trained: Sequence[float]) -> float:
    """How far the trainer's logprobs of sampled tokens are from the sampler's: the mean of exp(|difference|).

    1.0 is perfect agreement; above ``MISMATCH_LIMIT`` an exact sampler and its trainer run different models.

    Raises:
        SamplingError: There is nothing to compare, the lengths differ, or a logprob is not finite.
    """
    if len(sampled) != len(trained) or not len(sampled):
        raise SamplingError(f"cannot compare {len(sampled)} sampled with {len(trained)} trained logprobs")
    gaps = [abs(float(a) - float(b)) for a, b in zip(sampled, trained, strict=True)]
    if not all(map(math.isfinite, gaps)):
        raise SamplingError(f"logprob {next(i for i, g in enumerate(gaps) if not math.isfinite(g))} is not finite")
    return math.fsum(math.exp(min(gap, 700.0)) for gap in gaps) / len(gaps)
