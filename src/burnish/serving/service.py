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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from burnish.config import Recipe
from burnish.errors import BurnishError, ServingError
from burnish.monitoring import events
from burnish.records import Delivery, FinishReason, Record
from burnish.registry import production
from burnish.serving.lanes import Lane, Lanes, Loader
from burnish.serving.problem import Problem
from burnish.serving.ticket import Ask, Kept, Reply, Ticket
from burnish.store import RunLog, Store

log = logging.getLogger(__name__)

PRODUCTION = "production"
WAITING = 256  # requests at one time; beyond that a client is told to come back


class Answer:
    """What one version says to one request: an iterator of pieces, the last of which is a Kept.

    Closing it before its end cancels the request: what was said until then is kept as "rejected", so that nobody
    takes it for a finished answer, and it can still be voted on.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.started_at = time.time()
        self.close: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()

    def put(self, reply: Reply) -> None:
        """Hands the reader a piece, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._replies.put_nowait, reply)

    async def next(self) -> Reply:
        """The next piece; to be called until it is a Kept. Raises what ended the answer early."""
        reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply


class AnswerService:
    """Answers with the version in production, or with one that the caller names.

    ``loader`` makes a version ready to answer, and probes it; it is injected, so that serving needs no torch.
    """

    def __init__(self, store: Store, project: str, recipe: Recipe, loader: Loader) -> None:
        self.store, self.project, self.recipe = store, project, recipe
        self._log = RunLog(events(store, project))
        self._lanes = Lanes(loader, self._failed)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._keeping = ThreadPoolExecutor(1, "burnish-keep")
        self._lock = threading.Lock()  # over _end and _stopped
        self._end = float("inf")
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="burnish-answer", daemon=True)
        self._thread.start()

    # What routes call

    def version(self, alias: str = PRODUCTION) -> Record:
        """The version that an alias names now: "production", the project's name, or a version's name or id.

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
        """The name of a version that is loaded, None where there is none."""
        done = [lane for lane in self._lanes.all() if lane.loaded.done()]
        return done[-1].record.name if done else None

    def warm(self) -> None:
        """Begins to load the version in production, so that the first answer need not wait for it."""
        with contextlib.suppress(ServingError):  # a project without a version: /ready says so
            self._lanes.leave(self._lanes.enter(self.version()))

    async def answer(self, ask: Ask, alias: str = PRODUCTION) -> Answer:
        """What the version that the alias names now has to say; its pieces come while they are sampled.

        Raises:
            Problem: The model is unknown, or the prompt is too long for it.
            DataError: The model's template cannot render the conversation.
            ServingError: The version cannot be loaded, too many are waiting, or the server is stopping.
        """
        started = time.monotonic()
        record = await asyncio.to_thread(self.version, alias)
        self._require_room()
        lane = self._lanes.enter(record)
        try:
            # shielded: a client that leaves must not cancel the load for the others
            loaded = await asyncio.shield(asyncio.wrap_future(lane.loaded))
            prompt_ids = await asyncio.to_thread(loaded.renderer.prompt, ask.messages, ask.documents)
            longest = loaded.engine.max_length - ask.max_tokens
            if len(prompt_ids) > longest:
                what = f"the prompt has {len(prompt_ids)} tokens; with {ask.max_tokens} for the answer, {longest} fit"
                raise Problem(400, what, code="context_length_exceeded", param="messages")
        except BaseException:
            self._lanes.leave(lane)
            raise
        answer = Answer(record)
        seed = secrets.randbits(31) if ask.seed is None else ask.seed
        ticket = Ticket(answer.id, record, loaded.renderer, ask, alias, tuple(prompt_ids), seed, started, answer.put)
        answer.close = partial(self._tell, partial(self._cancel, lane, ticket))
        self._tell(partial(self._submit, lane, ticket))
        return answer

    def drain(self, seconds: float) -> None:
        """Takes no new request from now on; what is not finished after ``seconds`` ends with an error."""
        with self._lock:
            self._end = min(self._end, time.monotonic() + seconds)
        self._tell(lambda: None)

    def close(self, seconds: float = 0.0) -> None:
        """Drains, waits for the answering thread to end, and for what it said to be kept."""
        self.drain(seconds)
        self._thread.join()
        self._lanes.close()
        self._keeping.shutdown()

    def _require_room(self) -> None:
        if self._end < float("inf"):
            raise ServingError("the server is stopping")
        if self._lanes.users() >= WAITING:
            self._log.log(0, event="overloaded")
            raise ServingError(f"{WAITING} requests are waiting already", mend="try again in a moment")

    # What the answering thread does

    def _tell(self, command: Callable[[], None]) -> None:
        with self._lock:
            if not self._stopped:
                return self._commands.put(command)
        return command()

    def _run(self) -> None:
        while self._end == float("inf") or not self._may_stop():
            self._obey(wait=not self._step_all())

    def _step_all(self) -> bool:
        """One step of every version that is answering; whether any has more to do."""
        busy = [lane for lane in self._lanes.all() if lane.tickets]
        for lane in busy:
            self._step(lane)
        return any(lane.tickets for lane in busy)

    def _obey(self, wait: bool) -> None:
        """Runs the commands that wait; with ``wait``, sleeps until there is one or the time is up."""
        with contextlib.suppress(queue.Empty):
            while True:
                left = None if self._end == float("inf") else max(0.0, self._end - time.monotonic())
                self._commands.get(block=wait, timeout=left)()
                wait = False

    def _step(self, lane: Lane) -> None:
        from burnish.sampling import NonFiniteLogits

        engine = lane.loaded.result().engine
        try:
            for event in engine.step():
                ticket = lane.tickets.get(event.request_id)
                if ticket is None:
                    continue
                if ticket.take(event.token_id, event.logprob) and event.finish_reason is None:
                    engine.cancel(event.request_id)
                    self._finish(lane, event.request_id, "length")
                elif event.finish_reason is not None:
                    self._finish(lane, event.request_id, event.finish_reason)
        except NonFiniteLogits as error:
            log.error("%s: %s", lane.record.name, error)
            self._failed(lane.record, error)
            for number in error.requests:
                self._break_off(lane, number, ServingError(f"{lane.record.name} failed: {error.what}"))
        except Exception as error:
            log.exception("%s stopped answering", lane.record.name)
            self._failed(lane.record, error)
            self._lanes.drop(lane)
            for number in list(lane.tickets):
                self._break_off(lane, number, ServingError(f"{lane.record.name} failed; the server's log says why"))

    def _submit(self, lane: Lane, ticket: Ticket) -> None:
        from burnish.sampling import Params, Request

        if self._stopped or lane not in self._lanes.all():  # the lane failed after this request had entered it
            self._lanes.leave(lane)
            return ticket.emit(ServingError("the server is stopping" if self._stopped else "the version failed"))
        ask, stop_ids = ticket.ask, ticket.renderer.stop_ids
        try:
            params = Params(ask.temperature, ask.top_p, ask.max_tokens, ticket.seed, stop_ids)
            number = lane.loaded.result().engine.submit(Request(ticket.prompt_ids, params))
        except BurnishError as error:
            self._lanes.leave(lane)
            return ticket.emit(error)
        lane.tickets[number] = ticket
        return None

    def _cancel(self, lane: Lane, ticket: Ticket) -> None:
        number = next((number for number, known in lane.tickets.items() if known is ticket), None)
        if number is not None:
            lane.loaded.result().engine.cancel(number)
            self._break_off(lane, number, ServingError("the client left"))

    def _finish(self, lane: Lane, number: int, reason: FinishReason) -> None:
        ticket = lane.tickets.pop(number)
        self._lanes.leave(lane)
        ticket.finish()
        self._keeping.submit(self._keep, ticket, reason, "released")

    def _break_off(self, lane: Lane, number: int, error: Exception) -> None:
        ticket = lane.tickets.pop(number)
        self._lanes.leave(lane)
        if ticket.ids:
            self._keeping.submit(self._keep, ticket, "length", "rejected")
        ticket.emit(error)

    def _may_stop(self) -> bool:
        """Whether the thread ends now: nobody waits any more, or the time is up and who waits was told so."""
        if self._lanes.users() and time.monotonic() < self._end:
            return False
        for lane in self._lanes.all():
            for number in list(lane.tickets):
                self._break_off(lane, number, ServingError("the server is stopping"))
        with self._lock:
            self._stopped = True  # commands now run in the threads that give them
        self._obey(wait=False)
        return True

    # What is written down

    def _keep(self, ticket: Ticket, reason: FinishReason, delivery: Delivery) -> None:
        try:
            exchange = ticket.exchange(reason, delivery)
            with self.store.write() as conn:
                self.store.exchanges.add(conn, exchange)
        except Exception as error:
            log.exception("an answer could not be stored")
            self._failed(ticket.record, error)
            ticket.emit(ServingError("the answer could not be stored", mend="the server's log says why"))
        else:
            ticket.emit(Kept(exchange, "stop" if ticket.stopped_by is not None else reason))

    def _failed(self, record: Record, error: Exception) -> None:
        """Counts a failure for the version. Its message may hold a path, never what a person wrote."""
        with contextlib.suppress(BurnishError):  # a full disk must not end the thread that says so
            self._log.log(0, event="error", version=record.name, error=type(error).__name__)
