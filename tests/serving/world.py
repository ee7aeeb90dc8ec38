"""A project whose base and two adapters are real artifacts, and a real server in front of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from fastapi import FastAPI

from burnish.config import Gate, Recipe
from burnish.data import Renderer
from burnish.evaluation import decide, evaluate
from burnish.models.adapters import Lora
from burnish.models.artifacts import save_version
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.records import Message, Record, Row
from burnish.serving.loading import loader
from burnish.serving.openai import router
from burnish.serving.server import bind, make_server
from burnish.serving.service import AnswerService
from burnish.store import Store, Work, open_store
from burnish.web.security import guard

PROJECT = "support"
TOKEN = "a-token-for-tests-that-is-long-enough-to-count"
RECIPE = Recipe.model_validate(
    {
        "name": PROJECT,
        "task": "chat",
        "base": "tiny",
        "data": {"train": "rows.jsonl"},
        "sft": {"span_weights": {"vague": 0.0, "off-topic": 0.5}},
        "evaluate": {"max_new_tokens": 4},
        "serve": {"max_tokens": 96},
    }
)
LENIENT = Gate(metric="loss", against="start", not_worse_by=1000.0)


def build_store(path: Path, base_folder: Path) -> Store:
    """support@0 is the base; support@1 and @2 are adapters that answer otherwise and passed a (lenient) gate;
    support@3 was never judged."""
    store = open_store(path)
    base = resolve_base(str(base_folder), store.cache)
    renderer = Renderer.from_folder(base.folder, "Help.")
    plain = LanguageModel.load(base)
    first = store.once(_work("base", ()), lambda: save_version(store, plain, renderer, stage="base", settings={}))
    held_out = _held_out(store)
    for seed, stage in ((1, "sft"), (2, "rl"), (3, "more")):
        model = plain.sibling(lora=Lora(rank=4), trainable=True, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        body = save_version(store, model, renderer, stage=stage, settings={})
        version = store.once(_work(stage, (first,)), lambda body=body: body)
        if seed < 3:
            measured = evaluate(
                RECIPE,
                store,
                dataset=held_out,
                split="test",
                contenders={"start": first, "candidate": version},
                candidate="candidate",
            )
            verdict = decide(RECIPE, store, candidate=version, evaluation=measured, rules=[LENIENT])
            assert verdict.body["passed"]
    return store


def _work(stage: str, parents: tuple[Record, ...]) -> Work:
    return Work(kind="version", stage=stage, version=1, settings={}, parents=parents, seed=0, project=PROJECT)


def _held_out(store: Store) -> Record:
    rows = [Row((Message("user", f"Where is parcel {n}?"),), f"It is at stop {n}.", n) for n in range(1, 61)]
    work = Work(kind="dataset", stage="prepare", version=1, settings={}, parents=(), seed=0, project=PROJECT)
    counts = {"counts": {"test": len(rows)}}
    return store.once(work, lambda: counts, within=lambda conn: store.datasets.add(conn, work.id, "test", rows))


@contextmanager
def service_of(store: Store) -> Iterator[AnswerService]:
    service = AnswerService(store, PROJECT, RECIPE, loader(store))
    try:
        yield service
    finally:
        service.close()


def api_of(service: AnswerService) -> FastAPI:
    """The API behind the guard, without the pages."""
    app = FastAPI()
    app.include_router(router(service))
    return guard(app, TOKEN)


@contextmanager
def running(app: FastAPI, service: AnswerService, grace: float = 5.0) -> Iterator[str]:
    """A real uvicorn on loopback; yields its address."""
    with bind(0) as listener:
        server = make_server(app, service, grace)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
