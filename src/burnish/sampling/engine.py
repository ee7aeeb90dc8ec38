"""The engine: many requests share one model's forwards, token by token.

A request enters a slot as soon as one is free and leaves it with its last token. Slots in use are always the first
ones, so that a decode step is a slice of the cache. A prompt is run only from where it differs from what a slot
already holds: answers to one prompt run it once, prompts with the same beginning share it, a conversation goes on from
its last turn.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.errors import SamplingError
from burnish.models.attention import window
from burnish.models.language import LanguageModel
from burnish.models.trail import ROOT, Trail
from burnish.progress import Progress, Silent
from burnish.sampling.cache import Plan, SlotCache
from burnish.sampling.decoder import laid_out
from burnish.sampling.draw import Columns, draw
from burnish.sampling.packed import Weights
from burnish.sampling.request import Event, NonFiniteLogits, Params, Request, Sample
from burnish.sampling.running import Feed, Running


class Engine:
    """Continuous batching over a slot cache; one thread only.

    Args:
        model: The policy, which stays as it is: what it has of its own is copied, and an adapter folded in. Or a causal
            language model of transformers, which the engine owns from here on: it switches its attention, lays out its
            weights and takes it apart.
        slots: Most requests that decode at a time.
        max_length: Most tokens of a prompt and its answer, within the model's context (and its sliding window, if it
            has one). Memory grows as needed.
        prefill: Most prompt tokens that one step runs beside the decoding ones.
        weights: "exact" lays out float32 weights for few rows (CPU; same results to rounding), "half" and "int8" round
            them to 16-bit floats and to 8 bits (see ``MISMATCH_HALF``, ``MISMATCH_INT8``), "plain" leaves them and the
            model's forward as they are: the slow twin.
        trail: Where to keep what the layers compute ("exact" alone does).

    Raises:
        SamplingError: The model's attention is not one that the engine implements.
    """

    def __init__(
        self,
        model: LanguageModel | Any,
        slots: int = 64,
        max_length: int | None = None,
        prefill: int = 256,
        weights: Weights = "exact",
        trail: Trail | None = None,
    ) -> None:
        module = model.module if isinstance(model, LanguageModel) else model
        if slots < 1 or prefill < 1:
            raise SamplingError(f"slots {slots} and prefill {prefill} must be 1 or more")
        config = module.config.get_text_config()
        self.max_length = _longest(config, max_length)
        self.slots, self.prefill = slots, prefill
        self._vocabulary, self._layers = int(config.vocab_size), int(config.num_hidden_layers)
        self._module, self._decoder = laid_out(model, weights)
        self._cache = SlotCache(slots)
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []  # by slot
        self._left: dict[int, list[int]] = {}  # free slot -> ids whose keys it still holds
        self._held: list[Event] = []  # drawn in a step that ended with an error
        self._ids = itertools.count()
        self._trail: Trail | None = None
        self._probe()
        self._trail = trail if self.weights == "exact" else None

    @property
    def weights(self) -> Weights:
        """What the weights became: "half" and "int8" only where every layer of the decoder is rounded so."""
        return "plain" if self._decoder is None else self._decoder.weights

    @property
    def active(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._running or self._waiting or self._held)

    def submit(self, request: Request) -> int:
        """Queue a request; returns the id that its events carry.

        An answer that would not fit the context is cut there, with finish_reason "length".

        Raises:
            SamplingError: The prompt is empty, leaves no room for an answer, or holds an id outside the vocabulary.
        """
        ids = list(request.prompt_ids)
        if not ids:
            raise SamplingError("the prompt is empty", mend="a prompt has at least one token")
        if len(ids) >= self.max_length:
            raise SamplingError(
                f"the prompt has {len(ids)} tokens; the context of {self.max_length} leaves no room for an answer",
                mend="shorten the prompt",
            )
        if min(ids) < 0 or max(ids) >= self._vocabulary:
            raise SamplingError(f"the prompt holds an id outside the vocabulary of {self._vocabulary}")
        generator = random.Random(f"{request.params.seed}/{request.stream}")
        limit = min(request.params.max_new_tokens, self.max_length - len(ids))
        running = Running(next(self._ids), request, generator, limit, ids)
        self._waiting.append(running)
        return running.id

    @torch.inference_mode()
    def cancel(self, request_id: int) -> bool:
        """Drop a request; True if it was waiting or running."""
        for waiting in self._waiting:
            if waiting.id == request_id:
                self._waiting.remove(waiting)
                return True
        for slot, running in enumerate(self._running):
            if running.id == request_id:
                if not running.drawn:
                    self._empty(slot)  # nobody has seen yet whether its numbers are finite
                self._free(slot)
                return True
        return False

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Run one forward and draw one token for every request whose prompt is done: none while prompts are run.

        Raises:
            NonFiniteLogits: For some requests; they are dropped, and the others' events come with the next step.
                Any other error drops every request.
        """
        if self._held:
            events, self._held = self._held, []
            return events
        plan = Plan(self._cache, self.max_length)
        feeds = self._feed_running()
        feeds += self._admit(plan, feeds)
        if not feeds:
            return []
        ready, last = [], []
        for feed in sorted(feeds, key=lambda feed: len(feed.ids) > 1):
            index = plan.add(feed.slot, feed.running.cached, feed.ids)
            feed.last = index
            if feed.running.cached + len(feed.ids) == len(feed.running.ids):
                ready.append(feed)
                last.append(index)
        try:
            logits_NV = self._forward(plan, last)
        except BaseException:
            self.clear()
            raise
        if self._trail is not None:
            self._mark(self._trail, feeds)
        for feed in feeds:
            feed.running.cached += len(feed.ids)
        return self._draw(ready, logits_NV) if ready else []

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, params: Params, progress: Progress | None = None
    ) -> list[list[Sample]]:
        """``n`` samples for each prompt, in the order of the prompts; equal prompts are run once.

        Sample j of prompt i draws from its own stream of numbers (seed, i, j): slots and order do not change it.

        Raises:
            SamplingError: The engine is busy, a prompt does not fit, or the logits are not finite.
        """
        if not self.idle:
            raise SamplingError("the engine has other requests", mend="sample with an engine of its own")
        progress = progress or Silent()
        equal: dict[tuple[int, ...], list[int]] = {}
        for i, prompt in enumerate(prompts):
            equal.setdefault(tuple(prompt), []).append(i)
        keys = [(i, j) for alike in equal.values() for i in alike for j in range(n)]  # the next one finds its tokens
        try:
            owners = {self.submit(Request(prompts[i], params, (i, j))): (i, j) for i, j in keys}
            made = self._collect(owners, progress)
        except BaseException:
            self.clear()
            raise
        return [[made[i, j] for j in range(n)] for i in range(len(prompts))]

    def clear(self) -> None:
        """Drop every request, and with them what the slots hold."""
        for kept in (self._waiting, self._running, self._left, self._held):
            kept.clear()

    def _collect(self, owners: dict[int, tuple[int, int]], progress: Progress) -> dict[tuple[int, int], Sample]:
        made: dict[tuple[int, int], Sample] = {}
        drawn: dict[int, list[Event]] = {request_id: [] for request_id in owners}
        began, tokens = time.monotonic(), 0
        while not self.idle:
            events = self.step()
            tokens += len(events)
            for event in events:
                drawn[event.request_id].append(event)
                if event.finish_reason is not None:
                    parts = drawn.pop(event.request_id)
                    ids, logprobs = tuple(e.token_id for e in parts), tuple(e.logprob for e in parts)
                    made[owners[event.request_id]] = Sample(ids, logprobs, event.finish_reason, event.stopped_by)
            rate = tokens / max(time.monotonic() - began, 1e-9)
            progress.update("sampling", len(made), len(owners), f"{rate:.0f} tokens/s")
        return made

    @torch.inference_mode()
    def _probe(self) -> None:
        """One token through the model: an attention that the engine does not implement is refused here."""
        plan = Plan(self._cache, self.max_length)
        plan.add(0, 0, [0])
        self._cache.reserve(1, 1)
        self._forward(plan, [0])
        self._cache.clear(0)
        if len(plan.layers) != self._layers:
            raise SamplingError(
                f"{len(plan.layers)} of the model's {self._layers} layers use the engine's attention",
                mend="take a model whose layers all have full attention",
            )

    def _feed_running(self) -> list[Feed]:
        """What the requests in slots run next: all decode, prompts share the budget in the order of their slots."""
        feeds, budget = [], self.prefill
        for slot, running in enumerate(self._running):
            ids = running.ids[running.cached :]
            if len(ids) > 1:
                ids = ids[:budget]
                budget -= len(ids)
            if ids:
                feeds.append(Feed(slot, running, ids))
        return feeds

    def _admit(self, plan: Plan, feeds: list[Feed]) -> list[Feed]:
        """Waiting requests take free slots, first come first served, while the step's budget lasts."""
        budget = self.prefill - sum(len(feed.ids) for feed in feeds if len(feed.ids) > 1)
        entering = list(itertools.islice(self._waiting, self.slots - len(self._running)))
        if entering:
            longest = max(len(running.ids) + running.limit for running in entering)
            self._cache.reserve(len(self._running) + len(entering), longest)
        admitted: list[Feed] = []
        coming = {feed.slot: feed.running.cached + len(feed.ids) for feed in feeds}
        present = {slot: running.cached for slot, running in enumerate(self._running)}
        present |= {slot: len(left) for slot, left in self._left.items()}
        while self._waiting and len(self._running) < self.slots and budget > 0:
            running, slot = self._waiting.popleft(), len(self._running)
            source, shared = self._longest_prefix(running.ids, coming)
            if shared > present.get(source, 0):
                plan.copies.append((source, slot, shared))  # it arrives with this step's forward
                present[slot] = 0
            else:
                if shared and source != slot:
                    self._cache.copy(source, slot, shared)
                present[slot] = shared
            running.cached = shared
            self._left.pop(slot, None)
            self._running.append(running)
            ids = running.ids[shared : shared + budget]
            budget -= len(ids)
            coming[slot] = shared + len(ids)
            admitted.append(Feed(slot, running, ids))
        return admitted

    def _longest_prefix(self, ids: list[int], coming: dict[int, int]) -> tuple[int, int]:
        """The slot whose tokens (once this step is done) begin most like ``ids``, and how many agree.

        At most all but the last, which must be run for its logits.
        """
        best, length = 0, 0
        held = [(slot, running.ids, coming.get(slot, running.cached)) for slot, running in enumerate(self._running)]
        held += [(slot, left, len(left)) for slot, left in self._left.items()]
        for slot, other, known in held:
            most = min(known, len(ids) - 1)
            if most > length and other[length] == ids[length]:
                agree = next((i for i in range(most) if other[i] != ids[i]), most)
                if agree > length:
                    best, length = slot, agree
        return best, length

    def _forward(self, plan: Plan, last: list[int]) -> Tensor:
        """Logits [N, V] after the tokens at ``last`` of the step; the head runs on nothing else."""
        plan.seal(self._module.device, self._module.dtype)
        if self._decoder is not None:
            return self._decoder(plan, last or [0], self._trail)
        logits_1NV = self._module(
            input_ids=torch.tensor([plan.ids], device=self._module.device),
            position_ids=plan.positions_T[None],
            use_cache=False,
            logits_to_keep=torch.tensor(last or [0], device=self._module.device),
            plan=plan,
        ).logits
        return logits_1NV[0]

    def _mark(self, trail: Trail, feeds: list[Feed]) -> None:
        """Name the step's tokens in the trail: a request that shares a beginning comes after whom it shares it with."""
        for feed in feeds:
            running, first = feed.running, feed.last - len(feed.ids) + 1
            if running.row == ROOT and running.cached:
                shared = trail.find(running.ids[: running.cached])
                running.row = None if shared is None else shared[-1]
            running.row = trail.name(running.row, feed.ids, first)
        trail.end_step(sum(len(feed.ids) for feed in feeds))

    def _draw(self, ready: list[Feed], logits_NV: Tensor) -> list[Event]:
        asked = [feed.running.request.params for feed in ready]
        rows = [
            (p.temperature, p.top_k, p.top_p, p.min_p, feed.running.generator.random())
            for p, feed in zip(asked, ready, strict=True)
        ]
        columns = torch.tensor(rows, dtype=torch.float64, device=logits_NV.device)
        drawn = draw(logits_NV, Columns(*columns.unbind(1)))
        events, broken, done = [], [], []
        for feed, token, logprob, finite in zip(ready, *(part.tolist() for part in drawn), strict=True):
            running = feed.running
            if not finite:
                broken.append(running.id)
                done.append(feed.slot)
                self._empty(feed.slot)
                continue
            running.ids.append(token)
            running.drawn += 1
            reason, stopped_by = running.finished()
            if reason is not None:
                done.append(feed.slot)
            events.append(Event(running.id, token, logprob, reason, stopped_by))
        for slot in sorted(done, reverse=True):
            self._free(slot)
        if broken:
            self._held = events
            raise NonFiniteLogits(broken)
        return events

    def _empty(self, slot: int) -> None:
        self._cache.clear(slot)
        self._running[slot].cached = 0

    def _free(self, slot: int) -> None:
        """Give a slot back: the last slot in use moves into it, so that those in use stay the first ones."""
        gone, last = self._running[slot], self._running.pop()
        end = len(self._running)
        self._left[end] = last.ids[: last.cached]
        if last is not gone:
            self._cache.copy(end, slot, last.cached)
            self._running[slot] = last


def _longest(config: Any, wanted: int | None) -> int:
    """Most tokens of prompt and answer: within the model's context, and within a sliding window if it has one."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        raise SamplingError(
            f"the model's positions ({rope['rope_type']}) depend on the longest request", mend="take another model"
        )
    bounds = (wanted, getattr(config, "max_position_embeddings", None), window(config))
    longest = min((int(bound) for bound in bounds if bound is not None), default=0)
    if longest < 2:
        raise SamplingError(f"a context of {longest} tokens leaves no room", mend="give the engine max_length")
    return longest


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n: int,
    params: Params,
    slots: int = 64,
    progress: Progress | None = None,
) -> list[list[Sample]]:
    """``n`` samples for each prompt from an engine made for them: see ``Engine`` and ``Engine.sample``."""
    return Engine(model, slots=slots).sample(prompts, n, params, progress)
