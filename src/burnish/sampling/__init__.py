"""Sampling: the engine that draws answers from a language model, and the promises of any sampler."""

from burnish.sampling.engine import Engine, sample
from burnish.sampling.packed import Weights
from burnish.sampling.remote import RemoteSampler
from burnish.sampling.request import (
    MISMATCH_HALF,
    MISMATCH_INT8,
    MISMATCH_LIMIT,
    MISMATCH_ROUNDED,
    MISMATCH_SERVED,
    Event,
    NonFiniteLogits,
    Params,
    Request,
    Sample,
    Sampler,
    Stop,
    mismatch,
    require_exact,
)
from burnish.sampling.served import Served

__all__ = [
    "MISMATCH_HALF",
    "MISMATCH_INT8",
    "MISMATCH_LIMIT",
    "MISMATCH_ROUNDED",
    "MISMATCH_SERVED",
    "Engine",
    "Event",
    "NonFiniteLogits",
    "Params",
    "RemoteSampler",
    "Request",
    "Sample",
    "Sampler",
    "Served",
    "Stop",
    "Weights",
    "mismatch",
    "require_exact",
    "sample",
]
