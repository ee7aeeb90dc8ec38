"""The API as OpenAI's own client sees it, over a real server."""

from __future__ import annotations

import json
import threading
import time

import httpx
import openai
import pytest

from burnish.records import Message
from burnish.serving.service import AnswerService
from burnish.store import Store
from serving.world import PROJECT, TOKEN

ASK = [{"role": "user", "content": "Where is my parcel?"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def client(address: str):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def http(address: str):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
        yield client


def test_openai_client_gets_a_whole_answer_that_names_its_version(client: openai.OpenAI, store: Store) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="support@1",
        messages=ASK,
        temperature=0,
        max_tokens=12,
        user="s-17",
        metadata={"case": "c-4"},
        extra_body={"documents": [{"id": "d1", "title": "Parcels", "text": "They come on Monday."}]},
    )
    answer = raw.parse()
    kept = store.exchanges.get(answer.id)
    assert raw.headers["x-burnish-version"] == answer.system_fingerprint == "support@1"
    assert kept.version == store.record("support@1").id
    assert answer.model == "support@1"
    assert answer.choices[0].message.content == kept.answer
    assert answer.choices[0].finish_reason == kept.finish_reason == "length"
    assert len(kept.answer_ids) == len(kept.logprobs) == answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == len(kept.prompt_ids)
    assert all(value < 0 for value in kept.logprobs)
    assert kept.prompt == (Message("user", "Where is my parcel?"),)
    assert (kept.subject, kept.case, kept.delivery, kept.purpose) == ("s-17", "c-4", "released", "serve")
    assert kept.documents[0].text == "They come on Monday."
    assert kept.settings["temperature"] == 0
    assert kept.latency_ms > 0


def test_openai_client_gets_the_same_answer_streamed(client: openai.OpenAI, store: Store) -> None:
    whole = client.chat.completions.create(model="support@2", messages=ASK, temperature=0, max_tokens=20)
    stream = client.chat.completions.create(
        model="support@2",
        messages=ASK,
        temperature=0,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].usage == whole.usage
    assert {c.system_fingerprint for c in chunks} == {"support@2"}
    assert len({c.id for c in chunks}) == 1
    assert store.exchanges.get(chunks[0].id).answer == whole.choices[0].message.content


def test_a_seed_repeats_an_answer_and_its_absence_does_not(client: openai.OpenAI) -> None:
    def said(**more: object) -> str:
        made = client.chat.completions.create(
            model="production",
            messages=ASK,
            temperature=1,
            max_tokens=24,
            **more,  # type: ignore[call-overload]
        )
        return made.choices[0].message.content

    assert said(seed=7) == said(seed=7)
    assert len({said(seed=7), said(seed=8), said(), said()}) == 4


def test_answer_is_stored_before_the_last_chunk(http: httpx.Client, store: Store) -> None:
    body = {"model": "production", "messages": ASK, "stream": True, "max_tokens": 8}
    with http.stream("POST", CHAT, json=body) as response:
        for line in response.iter_lines():
            data = line.removeprefix("data: ")
            if data and data != "[DONE]":
                chunk = json.loads(data)
                if chunk["choices"][0]["finish_reason"] is not None:
                    assert store.exchanges.get(chunk["id"]).answer_ids
                    return
    pytest.fail("the stream had no end")


def test_a_reply_waits_for_the_disk_and_nothing_else_does(http: httpx.Client, store: Store) -> None:
    body = {"model": "production", "messages": ASK, "stream": True, "max_tokens": 4}
    http.post(CHAT, json=body)
    seen: list[str] = []

    def read() -> None:
        with http.stream("POST", CHAT, json=body) as response:
            seen.extend(response.iter_lines())

    reader = threading.Thread(target=read)
    with store.write():  # nothing else can be stored meanwhile
        reader.start()
        reader.join(1.5)
        assert reader.is_alive()
        assert http.get("/health", timeout=5).status_code == 200
        assert len(store.exchanges.recent(PROJECT, 3, "serve")) == 1
    reader.join(30)
    assert "data: [DONE]" in seen
    assert len(store.exchanges.recent(PROJECT, 3, "serve")) == 2


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_hangs_up_ends_its_answer(
    http: httpx.Client, service: AnswerService, store: Store, streamed: bool
) -> None:
    body = {"model": "production", "messages": ASK, "max_tokens": 4}
    http.post(CHAT, json=body)
    engine = service._lanes.all()[0].loaded.result().engine
    step = engine.step

    def slowly() -> list:
        time.sleep(0.05)
        return step()

    engine.step = slowly  # type: ignore[method-assign]
    body = {**body, "max_tokens": 96, "stream": streamed, "seed": 1}
    if streamed:
        with http.stream("POST", CHAT, json=body) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            http.post(CHAT, json=body, timeout=0.5)
    end = time.monotonic() + 30
    while len(found := store.exchanges.recent(PROJECT, 3, "serve")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert found[0].delivery == "rejected"
    assert len(found[0].answer_ids) < 90


def test_stop_strings_end_an_answer_without_showing_them(client: openai.OpenAI, store: Store) -> None:
    whole = client.chat.completions.create(model="support@1", messages=ASK, temperature=0, max_tokens=40)
    text = whole.choices[0].message.content
    stop = text[8:11]
    before = text[: text.index(stop)]
    for stream in (False, True):
        made = client.chat.completions.create(
            model="support@1", messages=ASK, temperature=0, max_tokens=40, stop=[stop, "never said"], stream=stream
        )
        if stream:
            chunks = list(made)
            said = "".join(c.choices[0].delta.content or "" for c in chunks)
            reason, id = chunks[-1].choices[0].finish_reason, chunks[0].id
        else:
            said, reason, id = made.choices[0].message.content, made.choices[0].finish_reason, made.id
        assert (said, reason) == (before, "stop")
        kept = store.exchanges.get(id)
        assert kept.answer == before
        # the ids are as sampled and do not end with the stop token
        assert kept.finish_reason == "length"
        assert kept.settings["stopped_by_string"]


def test_models_are_the_alias_and_every_version(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "production",
        "support@0",
        "support@1",
        "support@2",
        "support@3",
    ]
    assert client.models.retrieve("support@2").owned_by == "burnish"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"audio": {"voice": "alloy"}}, "audio", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
        ({"metadata": {"ticket": "9"}}, "metadata.ticket", "unsupported_parameter"),
        ({"max_tokens": 97}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "12"}, "max_tokens", "invalid_value"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": [*ASK, {"role": "assistant", "content": "It"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{**ASK[0], "name": "Ann"}]}, "messages.0.name", "unsupported_parameter"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages.0.content", "invalid_text"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages", "context_length_exceeded"),
    ],
)
def test_what_is_not_built_is_refused_in_openai_s_error_object(
    http: httpx.Client, change: dict, param: str, code: str
) -> None:
    reply = http.post(CHAT, json={"model": "production", "messages": ASK, **change})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert (error["param"].startswith(param), error["code"], error["type"]) == (True, code, "invalid_request_error")
    assert error["message"]


def test_neutral_values_that_clients_send_are_taken(http: httpx.Client) -> None:
    neutral = {"n": 1, "tools": [], "logprobs": False, "presence_penalty": 0, "response_format": {"type": "text"}}
    parts = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "it?"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    body = {"model": PROJECT, "messages": messages, "max_completion_tokens": 2, "stop": None, **neutral}
    reply = http.post(CHAT, json=body)
    assert reply.status_code == 200
    assert reply.json()["model"] == PROJECT


def test_bodies_that_are_no_json_object_are_refused(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    surrogate = b'{"model": "production", "messages": [{"role": "user", "content": "\\ud800"}]}'
    for body in (b"{", b"[]", b'{"temperature": NaN}', b"[" * 100_000, b"\xff", surrogate):
        reply = http.post(CHAT, content=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"][:8]) in ((400, "invalid_"),)


def test_an_unknown_model_is_a_404(http: httpx.Client) -> None:
    reply = http.post(CHAT, json={"model": "gpt-4o", "messages": ASK})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_health_and_ready(http: httpx.Client, service: AnswerService) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").status_code == 503
    service.warm()
    end = time.monotonic() + 30
    while http.get("/ready").status_code == 503 and time.monotonic() < end:
        time.sleep(0.02)
    assert http.get("/ready").json() == {"ready": True, "version": "support@0"}


def test_votes_are_taken_once_and_taken_back(http: httpx.Client, store: Store) -> None:
    from burnish import feedback

    said = http.post(CHAT, json={"model": "production", "messages": ASK, "max_tokens": 4}).json()
    vote = {"kind": "thumb", "id": said["id"], "value": 1, "rater": "Ann", "key": "k-1"}
    first, again = (http.post("/v1/feedback", json=vote).json() for _ in range(2))
    assert (first["duplicate"], again["duplicate"], first["sequence"]) == (False, True, again["sequence"])
    edit = {"kind": "edit", "id": said["id"], "text": "On Monday.", "rater": "Ann"}
    assert http.post("/v1/feedback", json=edit, headers={"Idempotency-Key": "k-2"}).status_code == 200
    standing = feedback.votes(store, PROJECT)
    assert [(v.kind, v.value, v.text, v.source) for v in standing] == [
        ("thumb", 1, None, "human"),
        ("edit", None, "On Monday.", "human"),
    ]
    assert {v.version for v in standing} == {store.record("support@0").id}
    assert http.post("/v1/feedback/undo", json={"rater": "Ann", "key": "k-3"}).status_code == 200
    assert [v.kind for v in feedback.votes(store, PROJECT)] == ["thumb"]


def test_marks_are_taken_with_their_places_and_what_they_cannot_mean_is_refused(
    http: httpx.Client, store: Store
) -> None:
    from burnish import feedback
    from burnish.records import Mark

    said = http.post(CHAT, json={"model": "production", "messages": ASK, "max_tokens": 4}).json()
    text = said["choices"][0]["message"]["content"]
    span = {"start": 0, "end": 2, "type": "vague", "quote": text[:2]}
    vote = {"kind": "span", "id": said["id"], "spans": [span], "rater": "Ann", "key": "k-1"}
    assert http.post("/v1/feedback", json=vote).status_code == 200
    assert [v.marks for v in feedback.votes(store, PROJECT)] == [(Mark(0, 2, "vague"),)]
    for change, why in (
        ({"type": "rude"}, '"rude" is no type of error of the recipe; its types are vague, off-topic'),
        ({"quote": "§§"}, "characters 0 to 2 of the answer are not what was quoted"),
        ({"end": len(text) + 1, "quote": None}, f"and the answer has {len(text)} characters"),
        ({"end": "2"}, "spans"),
        ({"explanation": "no"}, "spans"),
    ):
        bad = {**vote, "key": "k-2", "spans": [{**span, **change}]}
        reply = http.post("/v1/feedback", json=bad)
        assert reply.status_code == 400 and why in reply.json()["error"]["message"], reply.text
    assert http.post("/v1/feedback", json={**vote, "key": "k-3", "kind": "thumb"}).status_code == 400
    assert http.post("/v1/feedback", json={**vote, "key": "k-4", "spans": []}).status_code == 200
    assert [v.marks for v in feedback.votes(store, PROJECT)] == [()]


@pytest.mark.parametrize(
    "change",
    [{"key": None}, {"rater": None}, {"kind": "like"}, {"value": 2}, {"id": "chatcmpl-none"}, {"version": "x"}],
)
def test_votes_that_do_not_fit_are_refused(http: httpx.Client, change: dict) -> None:
    said = http.post(CHAT, json={"model": "production", "messages": ASK, "max_tokens": 4}).json()
    vote = {"kind": "thumb", "id": said["id"], "value": 1, "rater": "Ann", "key": "k-1", **change}
    reply = http.post("/v1/feedback", json={name: value for name, value in vote.items() if value is not None})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]
