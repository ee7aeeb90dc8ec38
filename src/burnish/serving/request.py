"""What a chat request may say. Whatever would change the answer and is not built is refused, never ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from burnish.config import Serve
from burnish.records import Document, Json, Message, Role
from burnish.serving.problem import Problem
from burnish.serving.service import Ask

# Clients send these with the value that changes nothing; any other value is not built.
NEUTRAL: Mapping[str, tuple[Json, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (False, True),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}


Shape = TypeVar("Shape", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Part):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(_Part):
    """One turn; OpenAI's "developer" is its newer name for "system"."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class ChatDocument(_Part):
    """A text for the model to read."""

    id: str
    title: str = ""
    text: str


class StreamOptions(_Part):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Metadata(_Part):
    """Whose data the conversation is, and the caller's id of it."""

    subject: str | None = None
    case: str | None = None


class ChatRequest(_Part):
    """The body of POST /v1/chat/completions, as far as it is built."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    documents: list[ChatDocument] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked request: what is asked of which alias, and how the reply is to be sent."""

    model: str
    ask: Ask
    stream: bool
    include_usage: bool


async def read_json(request: Request) -> dict[str, Json]:
    """The body as a JSON object; an empty body is an empty object. Raises Problem 400."""
    body = await request.body()
    if not body:
        return {}
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise Problem(400, "the body must be a JSON object", code="invalid_json")
    require_text(value)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def require_text(value: Json, at: str = "") -> None:
    """Raises Problem 400 where a string holds a NUL or half a character: neither can be stored or read out again."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Problem(400, "a string holds half of a surrogate pair", code="invalid_text", param=at) from None
        if "\0" in value:
            raise Problem(400, "a string holds a NUL character", code="invalid_text", param=at)
    elif isinstance(value, dict):
        for key, inner in value.items():
            require_text(key, at)
            require_text(inner, f"{at}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            require_text(inner, f"{at}.{number}".lstrip("."))


def parse(shape: type[Shape], body: Mapping[str, Json]) -> Shape:
    """The body as that shape. Raises Problem 400 that names the first key that does not fit."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise _explain(error) from None


def _explain(error: ValidationError) -> Problem:
    first = error.errors(include_url=False)[0]
    # pydantic puts the names of union members (str, list[TextPart]) into the path: they mean nothing to a client
    param = ".".join(str(part) for part in first["loc"] if str(part).isidentifier() or isinstance(part, int))
    if first["type"] == "extra_forbidden":
        return Problem(400, f"{param!r} is not supported here", code="unsupported_parameter", param=param)
    if first["type"] == "missing":
        return Problem(400, f"{param!r} is required", code="missing_required_parameter", param=param)
    return Problem(400, f"{param!r} does not fit: {first['msg']}", code="invalid_value", param=param)


def read_chat(body: Mapping[str, Json], serve: Serve) -> Chat:
    """Checks a chat request and fills in the recipe's defaults. Raises Problem 400."""
    asked: dict[str, Any] = {key: value for key, value in body.items() if value is not None}
    for key, allowed in NEUTRAL.items():
        if key in asked and asked.pop(key) not in allowed:
            raise Problem(400, f"{key!r} is not supported here", code="unsupported_parameter", param=key)
    chat = parse(ChatRequest, asked)
    if chat.messages[-1].role != "user":
        raise Problem(400, "the last message must be the user's", code="invalid_value", param="messages")
    lengths = {n for n in (chat.max_tokens, chat.max_completion_tokens) if n is not None}
    if len(lengths) > 1:
        raise Problem(400, "max_tokens and max_completion_tokens differ", code="invalid_value", param="max_tokens")
    longest = lengths.pop() if lengths else serve.max_tokens
    if longest > serve.max_tokens:
        what = f"answers have at most {serve.max_tokens} tokens here (serve.max_tokens), not {longest}"
        raise Problem(400, what, code="invalid_value", param="max_tokens")
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ())
    if not all(stop):
        raise Problem(400, "a stop string is empty", code="invalid_value", param="stop")
    metadata = chat.metadata or Metadata()
    ask = Ask(
        messages=tuple(_message(message) for message in chat.messages),
        documents=tuple(Document(d.id, d.title, d.text) for d in chat.documents or ()),
        temperature=serve.temperature if chat.temperature is None else chat.temperature,
        top_p=1.0 if chat.top_p is None else chat.top_p,
        max_tokens=longest,
        stop=stop,
        seed=chat.seed,
        subject=metadata.subject or chat.user,
        case=metadata.case,
    )
    usage = chat.stream_options is not None and chat.stream_options.include_usage
    return Chat(chat.model, ask, bool(chat.stream), usage)


def _message(message: ChatMessage) -> Message:
    role: Role = "system" if message.role == "developer" else message.role
    content = message.content
    return Message(role, content if isinstance(content, str) else "".join(part.text for part in content))
