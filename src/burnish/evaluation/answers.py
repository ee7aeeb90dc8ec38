"""Answers of a version to held-out rows, kept as exchanges; and the likelihoods that it gives to given ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from burnish.models.artifacts import Loaded
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Tree, pack
from burnish.progress import Progress, Silent
from burnish.records import Exchange, Record, Row
from burnish.sampling import Engine, Event, Params, Request, Sample
from burnish.store import Store
from burnish.tasks.chat import ChatTask

SLOTS = 64
BATCH = 32  # answers written in one transaction
BUDGET = 2048  # tokens in one forward


def answer_rows(
    store: Store,
    project: str,
    version: Record,
    loaded: Loaded,
    rows: Sequence[Row],
    task: ChatTask,
    params: Params,
    purpose: str,
    name: str,
    progress: Progress | None = None,
    examples: Sequence[Row] = (),
) -> list[Exchange]:
    """One sampled answer per row, in order; stored, and found again by ``name`` where they were sampled before.

    Each row draws from its own stream of numbers (seed, row number): the answer depends on neither the other rows nor
    on what a crash left to do, and two versions that agree give the same text.

    Raises:
        SamplingError: A prompt leaves no room for an answer, or the logits are not finite.
    """
    names = [f"{name}-{row.number}" for row in rows]
    known = store.exchanges.many(names)
    missing = [(id, row) for id, row in zip(names, rows, strict=True) if id not in known]
    if missing:
        _answer(store, project, version, loaded, missing, task, params, purpose, progress or Silent(), examples)
        known = store.exchanges.many(names)
    return [known[id] for id in names]


def _answer(
    store: Store,
    project: str,
    version: Record,
    loaded: Loaded,
    missing: Sequence[tuple[str, Row]],
    task: ChatTask,
    params: Params,
    purpose: str,
    progress: Progress,
    examples: Sequence[Row],
) -> None:
    engine = Engine(loaded.model, slots=min(SLOTS, len(missing)))
    owners = {
        engine.submit(Request(task.prompt_ids(row, examples), params, (row.number,))): (id, row) for id, row in missing
    }
    settings = {"temperature": params.temperature, "seed": params.seed, "examples": [row.number for row in examples]}
    drawn: dict[int, list[Event]] = {request: [] for request in owners}
    waiting: list[Exchange] = []
    done = 0
    while not engine.idle:
        for event in engine.step():
            drawn[event.request_id].append(event)
            if event.finish_reason is None:
                continue
            events = drawn.pop(event.request_id)
            sample = Sample(tuple(e.token_id for e in events), tuple(e.logprob for e in events), event.finish_reason)
            id, row = owners[event.request_id]
            # Without the examples: they are other people's rows, and erasing those must not leave their ids here.
            prompt = task.prompt_ids(row)
            waiting.append(task.exchange(project, version.id, row, prompt, sample, purpose, settings, id=id))
            done += 1
        if len(waiting) >= BATCH or engine.idle:
            with store.write() as conn:
                for exchange in waiting:
                    store.exchanges.add(conn, exchange)
            waiting = []
            progress.update(f"answers of {version.name or version.id}", done, len(missing))


def logps(model: LanguageModel, trees: Sequence[Tree]) -> list[list[float]]:
    """The model's logprobs of the ids of each answer of the trees, at temperature 1, in order.

    What all prompts begin with (a system message, examples) is run once for as many trees as fit ``BUDGET``.
    """
    found: list[list[float]] = []
    with torch.no_grad():
        for stream in pack(trees, BUDGET, keep_last=False):
            logp_S = model.logp(stream).logp_S
            assert logp_S is not None
            own: list[list[float]] = [[] for _ in stream.rows_A]
            for answer, value in zip(stream.answer_S.tolist(), logp_S.tolist(), strict=True):
                own[answer].append(value)
            found += own
    return found
