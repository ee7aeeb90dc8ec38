"""One answer in the making: what was asked, what has been sampled so far, and the text that may be shown of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from burnish.data import Renderer, first_stop
from burnish.monitoring import SERVED
from burnish.records import Delivery, Document, Exchange, FinishReason, Message, Record
from burnish.store import now

HALF = "\ufffd"  # what the end of a text decodes to while a character's bytes are not all there


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a version, checked. ``seed`` None: drawn, and kept with the answer."""

    messages: tuple[Message, ...]
    documents: tuple[Document, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    seed: int | None = None
    subject: str | None = None
    case: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer's text: whole characters only, never part of a stop string."""

    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer is whole and on disk. ``finish_reason`` is the client's: a stop string is a stop to them."""

    exchange: Exchange
    finish_reason: FinishReason


Reply = Said | Kept | Exception


@dataclass
class Ticket:
    """A request pinned to its version. ``emit`` gets the pieces, then one Kept or one exception; called by threads."""

    id: str
    record: Record
    renderer: Renderer
    ask: Ask
    alias: str
    prompt_ids: tuple[int, ...]
    seed: int
    started: float
    emit: Callable[[Reply], None]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    shown: int = 0
    first_ms: float | None = None
    stopped_by: str | None = None

    def take(self, id: int, logprob: float) -> bool:
        """Adds a token and emits what has become sayable; True where a stop string ends the answer here."""
        if self.first_ms is None:
            self.first_ms = self._elapsed_ms()
        self.ids.append(id)
        self.logprobs.append(logprob)
        self.text = self.renderer.text(self.ids)
        found = first_stop(self.text, self.ask.stop)
        if found is not None:
            at, self.stopped_by = found
            self.text = self.text[:at]
        self._show(self._sayable() if found is None else len(self.text))
        return found is not None

    def _sayable(self) -> int:
        """How much of the text can no longer change: half a character and the beginning of a stop string wait."""
        whole = self.text.rstrip(HALF)
        starts = [stop[:size] for stop in self.ask.stop for size in range(1, len(stop))]
        held = max((len(start) for start in starts if whole.endswith(start)), default=0)
        return len(whole) - held

    def _show(self, until: int) -> None:
        if until > self.shown:
            self.emit(Said(self.text[self.shown : until]))
            self.shown = until

    def finish(self) -> None:
        """Emits what was held back."""
        self._show(len(self.text))

    def exchange(self, reason: FinishReason, delivery: Delivery) -> Exchange:
        """The answer as it is kept. A text that a stop string cut ends without the stop token: its ids are "length"."""
        ask = self.ask
        settings = {
            "alias": self.alias,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "max_tokens": ask.max_tokens,
            "seed": self.seed,
            "stopped_by_string": self.stopped_by is not None,
            "first_token_ms": self.first_ms,
        }
        return Exchange(
            id=self.id,
            project=self.record.project,
            version=self.record.id,
            purpose=SERVED,
            prompt=ask.messages,
            answer=self.text,
            prompt_ids=self.prompt_ids,
            answer_ids=tuple(self.ids),
            logprobs=tuple(self.logprobs),
            finish_reason=reason,
            created_at=now(),
            documents=ask.documents,
            subject=ask.subject,
            case=ask.case,
            delivery=delivery,
            settings=settings,
            latency_ms=self._elapsed_ms(),
        )

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self.started) * 1000
