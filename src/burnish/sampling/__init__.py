"""Sampling: the engine that draws answers from a language model, and the promises of any sampler."""

from burnish.sampling.engine import Engine, NonFiniteLogits, sample
from burnish.sampling.request import (
    MISMATCH_LIMIT,
    MISMATCH_ROUNDED,
    Event,
    Params,
    Request,
    Sample,
    Sampler,
    mismatch,
    require_exact,
)

__all__ = [
    "MISMATCH_LIMIT",
    "MISMATCH_ROUNDED",
    "Engine",
    "Event",
    "NonFiniteLogits",
    "Params",
    "Request",
    "Sample",
    "Sampler",
    "mismatch",
    "require_exact",
    "sample",
]
