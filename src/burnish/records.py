"""Frozen data that crosses rooms: no behaviour, no tensors.

A room may receive and return these; it never needs to import another room to understand them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Any  # a JSON value: None, bool, int, float, str, list of Json, dict of str to Json

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "dev", "test", "prompts", "preferences"]
FigureFormat = Literal["jsonl", "csv", "parquet", "tensorboard"]  # in which a run's figures go out
Source = Literal["human", "simulated", "judge"]
Segment = Literal["clause", "sentence", "answer"]  # a piece of an answer that is right or wrong as a whole
VoteKind = Literal["compare", "rating", "thumb", "edit", "span"]
Choice = Literal["a", "b", "tie"]
Delivery = Literal["released", "draft", "edited", "rejected", "shadow"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is rendered for the model to read and never trained on."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters ``start`` to ``stop`` of an answer, and the kind of error that a person found there."""

    start: int
    stop: int
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One example: a conversation that ends with a user message, and the answer to learn (None: a bare prompt).

    ``number`` is the 1-based row or line of the source file; ``subject`` is whose data it is, ``case`` the
    caller's id of the conversation. ``weights`` say how much each assistant message counts in training, 0 to 1, the
    answer's last (empty: 1 each). A row of preferences has either a ``rejected`` answer, which ``answer`` was
    preferred to (by ``margin``, where that is known), or a ``label``: whether ``answer`` is a good one, or neither and
    ``marks``. These are the errors that a person marked in the answer; None: nobody looked for any.
    """

    prompt: tuple[Message, ...]
    answer: str | None
    number: int
    subject: str | None = None
    case: str | None = None
    documents: tuple[Document, ...] = ()
    weights: tuple[float, ...] = ()
    rejected: str | None = None
    margin: float | None = None
    label: bool | None = None
    marks: tuple[Mark, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as an own reward or metric sees it.

    ``prompt`` is the conversation up to the answer, ``finished`` whether the answer ended by itself (not at
    ``max_new_tokens``), ``tokens`` its length with the stop token, ``written`` the row's own answer where it has one.
    """

    prompt: tuple[Message, ...]
    answer: str
    finished: bool
    tokens: int
    written: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A node of the lineage: what a stage made, from which parents.

    ``id`` is ``kind-`` plus the first 16 hex digits of ``key``; ``key`` hashes what went in (stage version, settings,
    parents' digests, seed); ``digest`` hashes what the record says. ``name`` is the readable name of a version
    (``support@7``). ``body`` holds figures, settings and blob digests, never personal text.
    """

    id: str
    kind: str
    project: str
    key: str
    parents: tuple[str, ...]
    body: Mapping[str, Json]
    digest: str
    created_at: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer of one version, as sampled: what was asked, what was said, and the ids of both.

    ``answer_ids`` ends with the stop token where ``finish_reason`` is "stop"; ``logprobs`` has one entry per answer
    id: log-softmax(logits / temperature) before truncation.
    """

    id: str
    project: str
    version: str
    purpose: str
    prompt: tuple[Message, ...]
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    created_at: str
    documents: tuple[Document, ...] = ()
    subject: str | None = None
    case: str | None = None
    delivery: Delivery = "released"
    settings: Mapping[str, Json] = field(default_factory=dict)
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt that people are asked to compare; ``purpose`` is "train" or "judge"."""

    id: str
    project: str
    a: str
    b: str
    purpose: Literal["train", "judge"]
    votes_wanted: int
    campaign: str


@dataclass(frozen=True, slots=True)
class Vote:
    """One thing that one rater said. ``sequence`` orders the events of a store; ``key`` is the idempotency key.

    ``compare``: exchange against other, ``choice`` "a" means ``exchange``, and ``criteria`` holds the choice by each
    criterion that the rater spoke about. ``rating``: ``value`` 1 to 5. ``thumb``: ``value`` 1 or -1. ``edit``: ``text``
    is the corrected answer. ``span``: ``marks`` are the errors found in it, none where it is right. ``left`` tells
    which side stood on the left.
    """

    sequence: int
    key: str
    project: str
    kind: VoteKind
    exchange: str
    version: str
    rater: str
    source: Source
    created_at: str
    comparison: str | None = None
    other: str | None = None
    other_version: str | None = None
    choice: Choice | None = None
    left: Literal["a", "b"] | None = None
    value: float | None = None
    text: str | None = None
    criteria: Mapping[str, Choice] = field(default_factory=dict)
    marks: tuple[Mark, ...] | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its two-sided interval at ``level`` and the number of clusters behind it."""

    value: float
    low: float | None = None
    high: float | None = None
    clusters: int = 0
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a verdict: what was asked of which metric, what was measured, and the answer."""

    metric: str
    against: str | None
    bound: str
    figure: Figure | None
    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """One line of the append-only promotion log."""

    sequence: int
    project: str
    action: Literal["promote", "rollback"]
    version: str
    previous: str | None
    verdict: str | None
    by: str
    created_at: str
