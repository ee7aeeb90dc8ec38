"""The HTTP API: chat completions and models as OpenAI's clients expect them, votes on answers, and promotion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from burnish import feedback, registry
from burnish.errors import BurnishError, FeedbackError
from burnish.records import FinishReason, Json, Mark, Promotion, Record
from burnish.serving.problem import Problem, problem_of
from burnish.serving.request import Chat, parse, read_chat, read_json
from burnish.serving.service import PRODUCTION, Answer, AnswerService
from burnish.serving.ticket import Kept, Reply, Said

T = TypeVar("T")
Body = Annotated[dict[str, Json], Depends(read_json)]
VERSION_HEADER = "X-Burnish-Version"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SpanBody(_Strict):
    """A piece of an answer with an error: characters (code points), the end not included."""

    start: int
    end: int
    type: str
    quote: str | None = Field(None, description="What stands there, so that a slip in counting is found.")


class VoteBody(_Strict):
    """POST /v1/feedback: what ``rater`` says of the answer ``id``, or of a comparison that was put before them."""

    kind: Literal["compare", "rating", "thumb", "edit", "span"]
    rater: str
    key: str | None = Field(None, description="Idempotency key; or send it as the header Idempotency-Key.")
    id: str | None = None
    value: float | None = None
    text: str | None = None
    spans: list[SpanBody] | None = None
    comparison: str | None = None
    choice: Literal["left", "right", "tie"] | None = None
    criteria: dict[str, Literal["left", "right", "tie"]] | None = Field(
        None, description="A comparison's choice by each of the recipe's criteria, or by some of them."
    )


class UndoBody(_Strict):
    """POST /v1/feedback/undo: takes back the rater's last vote."""

    rater: str
    key: str | None = None


class PromoteBody(_Strict):
    """POST /v1/versions/NAME/promote and /v1/rollback: who asks for it."""

    by: str = Field("http", pattern=r"\S", max_length=80)


def router(service: AnswerService) -> APIRouter:
    """The routes, all of them under /v1 but for /health and /ready."""
    api, routes = _Api(service), APIRouter()
    routes.add_api_route("/health", api.health, methods=["GET"])
    routes.add_api_route("/ready", api.ready, methods=["GET"])
    routes.add_api_route("/v1/chat/completions", api.chat, methods=["POST"], response_model=None)
    routes.add_api_route("/v1/models", api.models, methods=["GET"])
    routes.add_api_route("/v1/models/{model}", api.model, methods=["GET"])
    routes.add_api_route("/v1/feedback", api.vote, methods=["POST"])
    routes.add_api_route("/v1/feedback/undo", api.undo, methods=["POST"])
    routes.add_api_route("/v1/versions/{name}/promote", api.promote, methods=["POST"])
    routes.add_api_route("/v1/rollback", api.rollback, methods=["POST"])
    return routes


class _Api:
    """The handlers. Those that are not async run in the thread pool: SQLite never holds up the event loop."""

    def __init__(self, service: AnswerService) -> None:
        self.service = service

    async def health(self) -> dict[str, Json]:
        """The process is alive."""
        return {"status": "ok"}

    async def ready(self) -> Response:
        """200 with a version that is loaded, 503 while there is none."""
        name = self.service.ready()
        return JSONResponse({"ready": name is not None, "version": name}, 200 if name else 503)

    async def chat(self, request: Request) -> Response:
        """One answer, whole or streamed."""
        chat = read_chat(await read_json(request), self.service.recipe.serve)
        answer = await self.service.answer(chat.ask, chat.model)
        headers = {VERSION_HEADER: _name(answer.record)}
        try:
            if not chat.stream:
                kept, text = await _unless_gone(request, _collect(answer))
                return JSONResponse(_completion(answer, chat, kept, text), headers=headers)
            # an answer that fails before its first word is a plain error, not a broken stream
            first = await _unless_gone(request, answer.next())
            return _Stream(answer, _events(answer, chat, first), headers)
        except BaseException:
            answer.close()
            raise

    def models(self) -> dict[str, Json]:
        """The alias "production" and every version."""
        versions = [_model(_name(record), record) for record in self.service.versions()]
        if versions:
            versions.insert(0, _model(PRODUCTION, self.service.version()))
        return {"object": "list", "data": versions}

    def model(self, model: str) -> dict[str, Json]:
        """One of them; 404 for a name that is not there."""
        return _model(model, self.service.version(model))

    def vote(self, body: Body, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, Json]:
        """Keeps a vote; the reply is sent when it is on the disk. Sent again with its key, it is counted once."""
        said = parse(VoteBody, body)
        store, project = self.service.store, self.service.project
        if said.spans is not None:
            self._require_known(said)
        receipt = feedback.record_vote(
            store,
            project,
            feedback.ensure_rater(store, project, said.rater),
            said.kind,
            key=_key(said.key, idempotency_key),
            comparison=said.comparison,
            choice=said.choice,
            exchange=said.id,
            value=said.value,
            text=said.text,
            criteria=said.criteria,
            asked=self.service.recipe.feedback.criteria,
            marks=None if said.spans is None else [Mark(span.start, span.end, span.type) for span in said.spans],
        )
        return {"object": "feedback", "sequence": receipt.sequence, "duplicate": receipt.duplicate}

    def _require_known(self, said: VoteBody) -> None:
        """Refuse a type of error that the recipe does not name, and a piece that does not say what it is said to."""
        known = self.service.recipe.error_types
        answer = self.service.store.exchanges.many([said.id or ""]).get(said.id or "")
        for span in said.spans or ():
            if span.type not in known:
                names = ", ".join(known) or "none: add [spans] to it"
                raise FeedbackError(f'"{span.type}" is no type of error of the recipe', mend=f"its types are {names}")
            if answer is not None and span.quote not in (None, answer.answer[span.start : span.end]):
                raise FeedbackError(
                    f"characters {span.start} to {span.end} of the answer are not what was quoted",
                    mend="count characters (code points), not bytes and not UTF-16 units",
                )

    def undo(self, body: Body, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, Json]:
        """Takes back the rater's last vote."""
        said = parse(UndoBody, body)
        store, project = self.service.store, self.service.project
        rater = feedback.ensure_rater(store, project, said.rater)
        receipt = feedback.undo(store, project, rater, key=_key(said.key, idempotency_key))
        return {"object": "feedback", "sequence": receipt.sequence, "duplicate": receipt.duplicate}

    def promote(self, name: str, body: Body) -> dict[str, Json]:
        """Puts a version into production if its own verdict allows it; 409 with the reason where it does not."""
        by = parse(PromoteBody, body).by
        record = self.service.version(name)
        return self._promotion(registry.promote(self.service.store, self.service.project, _name(record), by=by))

    def rollback(self, body: Body) -> dict[str, Json]:
        """Puts the version before the present one back into production."""
        by = parse(PromoteBody, body).by
        return self._promotion(registry.rollback(self.service.store, self.service.project, by=by))

    def _promotion(self, line: Promotion) -> dict[str, Json]:
        names = {record.id: record.name for record in self.service.versions()}
        return {
            "object": "promotion",
            "action": line.action,
            "version": names.get(line.version, line.version),
            "previous": names.get(line.previous or "", line.previous),
            "created_at": line.created_at,
        }


class _Stream(StreamingResponse):
    """Server-sent events. However the response ends, an answer that is still in the making is cancelled."""

    def __init__(self, answer: Answer, events: AsyncIterator[str], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answer.close()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; raises Problem and cancels it where the client leaves first."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem(499, "the client left")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _collect(answer: Answer) -> tuple[Kept, str]:
    text = ""
    while isinstance(reply := await answer.next(), Said):
        text += reply.text
    assert isinstance(reply, Kept)
    return reply, text


async def _events(answer: Answer, chat: Chat, reply: Reply) -> AsyncIterator[str]:
    yield _event(_chunk(answer, chat, {"role": "assistant", "content": ""}))
    try:
        while isinstance(reply, Said):
            yield _event(_chunk(answer, chat, {"content": reply.text}))
            reply = await answer.next()
    except (BurnishError, Problem) as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        yield _event(problem.body())
        return
    assert isinstance(reply, Kept)
    yield _event(_chunk(answer, chat, {}, reply.finish_reason))
    if chat.include_usage:
        yield _event({**_chunk(answer, chat, {}), "choices": [], "usage": _usage(reply)})
    yield "data: [DONE]\n\n"


def _event(value: Mapping[str, Json]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _head(answer: Answer, chat: Chat, kind: str) -> dict[str, Json]:
    return {
        "id": answer.id,
        "object": kind,
        "created": int(answer.started_at),
        "model": chat.model,
        "system_fingerprint": _name(answer.record),
    }


def _chunk(answer: Answer, chat: Chat, delta: Json, finish_reason: FinishReason | None = None) -> dict[str, Json]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**_head(answer, chat, "chat.completion.chunk"), "choices": [choice]}
    return {**chunk, "usage": None} if chat.include_usage else chunk


def _completion(answer: Answer, chat: Chat, kept: Kept, text: str) -> dict[str, Json]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": kept.finish_reason}
    return {**_head(answer, chat, "chat.completion"), "choices": [choice], "usage": _usage(kept)}


def _usage(kept: Kept) -> dict[str, Json]:
    prompt, answer = len(kept.exchange.prompt_ids), len(kept.exchange.answer_ids)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _model(id: str, record: Record) -> dict[str, Json]:
    created = int(datetime.fromisoformat(record.created_at).timestamp())
    return {"id": id, "object": "model", "created": created, "owned_by": "burnish", "version": _name(record)}


def _name(record: Record) -> str:
    return record.name or record.id


def _key(body: str | None, header: str | None) -> str:
    if body is not None and header is not None and body != header:
        raise Problem(400, "the body and the header Idempotency-Key give different keys", param="key")
    key = body if body is not None else header
    if key is None:
        what = "a vote needs a key of its own, so that it is counted once even if it is sent twice; a UUID will do"
        raise Problem(400, what, code="missing_required_parameter", param="key")
    return key
