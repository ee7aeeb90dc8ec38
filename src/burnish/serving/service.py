"""The answering service: one thread that runs an engine for each loaded version.

A request is pinned, when it arrives, to the version that the promotion log names then, and is answered by it to its
end. Every answer is on disk before its last piece is handed out, so that feedback can never come too early.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from burnish.config import Recipe
from burnish.data import Renderer
from burnish.errors import ServingError
from burnish.records import Delivery, FinishReason, Record
from burnish.registry import production
from burnish.serving.problem import Problem
from burnish.serving.ticket import Ask, Kept, Reply, Ticket
from burnish.store import RunLog, Store

if TYPE_CHECKING:
    from burnish.sampling import Engine

log = logging.getLogger(__name__)

PRODUCTION = "production"
LOADED = 2  # versions kept loaded; one with answers in the making is never dropped
WAITING = 256  # answers in the making at one time; beyond that the client is told to come back


@dataclass(frozen=True)
class Loaded:
    """A version that can answer. ``max_length`` is the longest prompt with its answer, in tokens."""

    engine: Engine
    renderer: Renderer
    max_length: int


@dataclass
class _Lane:
    """A version, loaded or loading. ``users`` counts the requests pinned to it; ``tickets`` belong to the thread."""

    record: Record
    loaded: Future[Loaded]
    users: int = 0
    tickets: dict[str, Ticket] = field(default_factory=dict)


class AnswerService:
    """Answers with the version in production, or with one named by the caller.

    Args:
        loader: Makes a version ready to answer; it probes what it loads. Injected, so that serving needs no torch.
    """

    def __init__(self, store: Store, project: str, recipe: Recipe, loader: Callable[[Record], Loaded]) -> None:
        self.store, self.project, self.recipe, self._loader = store, project, recipe, loader
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._lock = threading.Lock()  # over _lanes, users, _end and _thread
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._loading = ThreadPoolExecutor(1, "burnish-load")
        self._keeping = ThreadPoolExecutor(1, "burnish-keep")
        self._thread: threading.Thread | None = None
        self._end: float | None = None
        self._log = RunLog(store.path / "runs" / "serving" / project)

    # ---- what routes call ------------------------------------------------------------------------------------

    def version(self, alias: str = PRODUCTION) -> Record:
        """The version that answers for an alias: "production", the project's name, or a version's name or id.

        Raises:
            Problem: 404, there is no such model here.
            ServingError: The project has no version yet.
        """
        if alias in (PRODUCTION, self.project):
            found = production(self.store, self.project) or next(iter(self.versions()), None)
            if found is None:
                raise ServingError(f"{self.project} has no version yet", mend="burnish run makes one")
            return found
        for record in self.versions():
            if alias in (record.name, record.id):
                return record
        raise Problem(404, f"there is no model {alias!r} here", code="model_not_found", param="model")

    def versions(self) -> list[Record]:
        """The project's versions, the base first."""
        return self.store.records(self.project, "version")

    def ready(self) -> str | None:
        """The name of a version that is loaded, None while there is none."""
        with self._lock:
            for lane in reversed(self._lanes.values()):
                if lane.loaded.done() and not lane.loaded.cancelled() and lane.loaded.exception() is None:
                    return lane.record.name
        return None

    def warm(self) -> None:
        """Begins to load the version in production, so that the first answer does not wait for it."""
        with contextlib.suppress(ServingError):  # a project without a version: /ready says so
            self._leave(self._enter(self.version()))

    async def answer(self, ask: Ask, alias: str = PRODUCTION) -> tuple[Record, AsyncIterator[Reply]]:
        """The version that answers, and what it says, piece by piece, with one Kept at the end.

        Closing the iterator before its end cancels the request: what was said until then is kept as "rejected", so
        that nobody takes it for a finished answer, and can still be voted on.

        Raises:
            Problem: The model is unknown, or the prompt is too long for it.
            ServingError: The version cannot be loaded, too many are waiting, or the server is stopping.
        """
        started = time.monotonic()
        record = await asyncio.to_thread(self.version, alias)
        lane = self._enter(record)
        try:
            loaded = await asyncio.wrap_future(lane.loaded)
            prompt_ids = await asyncio.to_thread(loaded.renderer.prompt, ask.messages, ask.documents)
            longest = loaded.max_length - ask.max_tokens
            if len(prompt_ids) > longest:
                what = f"the prompt has {len(prompt_ids)} tokens; with {ask.max_tokens} for the answer, {longest} fit"
                raise Problem(400, what, code="context_length_exceeded", param="messages")
        except BaseException:
            self._leave(lane)
            raise
        replies: asyncio.Queue[Reply] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(reply: Reply) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(replies.put_nowait, reply)

        seed = secrets.randbits(31) if ask.seed is None else ask.seed % 2**63
        name = f"chatcmpl-{secrets.token_hex(12)}"
        ticket = Ticket(name, record, loaded.renderer, ask, alias, tuple(prompt_ids), seed, started, emit)
        self._commands.put(partial(self._submit, lane, ticket))
        return record, self._replies(lane, ticket, replies)

    async def _replies(self, lane: _Lane, ticket: Ticket, replies: asyncio.Queue[Reply]) -> AsyncIterator[Reply]:
        try:
            while True:
                reply = await replies.get()
                if isinstance(reply, Exception):
                    raise reply
                yield reply
                if isinstance(reply, Kept):
                    return
        finally:
            self._commands.put(partial(self._cancel, lane, ticket))

    def drain(self, seconds: float) -> None:
        """Takes no new request from now on; what is not finished after ``seconds`` ends with an error."""
        with self._lock:
            self._end = min(self._end or float("inf"), time.monotonic() + seconds)
        self._commands.put(lambda: None)

    def close(self, seconds: float = 0.0) -> None:
        """Drains, waits for the thread to end, and for what it said to be kept."""
        self.drain(seconds)
        if self._thread is not None:
            self._thread.join()
        self._loading.shutdown(cancel_futures=True)
        self._keeping.shutdown()
