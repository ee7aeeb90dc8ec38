"""Promotion while answers are in the making, and promotion through HTTP."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
import openai
import pytest

from burnish import registry
from burnish.records import Message
from burnish.sampling import Params
from burnish.serving.loading import loader
from burnish.serving.service import AnswerService
from burnish.store import Store
from serving.world import PROJECT, TOKEN

CLIENTS = 32
PROMOTIONS = 5
TOKENS = 40


def asked(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Parcel {number}: " + "where is it? " * (number % 5 + 1)}]


async def stream(client: openai.AsyncOpenAI, number: int, log: list[str]) -> tuple[int, str, str]:
    """A client's number, the version that its answer names, and the answer."""
    raw = await client.chat.completions.with_raw_response.create(
        model="production", messages=asked(number), temperature=0, max_tokens=TOKENS, stream=True
    )
    text, named = "", {raw.headers["x-burnish-version"]}
    log.append("begin")
    async for chunk in raw.parse():
        named.add(chunk.system_fingerprint)
        text += chunk.choices[0].delta.content or ""
    log.append("end")
    [version] = named
    return number, version, text


def answers_alone(store: Store, wanted: list[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """What a version says to a client's question, one at a time and without the service."""
    load, said = loader(store), {}
    for name in sorted({version for _, version in wanted}):
        loaded = load(store.record(name))
        params = Params(temperature=0.0, max_new_tokens=TOKENS, stop_ids=loaded.renderer.stop_ids)
        for number in (number for number, version in wanted if version == name):
            messages = [Message("user", message["content"]) for message in asked(number)]
            [[sample]] = loaded.engine.sample([loaded.renderer.prompt(messages)], 1, params)
            said[number, name] = loaded.renderer.text(sample.ids)
    return said


@pytest.mark.timeout(240)
def test_streams_during_promotions_each_get_their_version_s_answer(address: str, store: Store) -> None:
    """32 streaming clients, 5 promotions of two real adapters by another connection: no error, no mixture."""
    log: list[str] = []

    async def play() -> list[tuple[int, str, str]]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=200) as client:
            registry.promote(store, PROJECT, "support@1", by="test")
            await stream(client, 0, [])
            running = []
            for number in range(CLIENTS):
                if number % (CLIENTS // PROMOTIONS) == 3:
                    name = f"support@{2 - log.count('promote') % 2}"
                    await asyncio.to_thread(registry.promote, store, PROJECT, name, "test")
                    log.append("promote")
                running.append(asyncio.ensure_future(stream(client, number, log)))
                await asyncio.sleep(random.Random(number).uniform(0, 0.06))
            return await asyncio.gather(*running)

    said = asyncio.run(play())
    alone = answers_alone(store, [(number, version) for number, version, _ in said])
    assert log.count("promote") == PROMOTIONS
    busy = [log[:at].count("begin") - log[:at].count("end") for at, what in enumerate(log) if what == "promote"]
    assert sum(count > 0 for count in busy) >= 3, "answers were in the making when a version was promoted"
    by_version = Counter(version for _, version, _ in said)
    assert set(by_version) == {"support@1", "support@2"}
    assert min(by_version.values()) >= 4
    wrong = [(number, version) for number, version, text in said if alone[number, version] != text]
    assert not wrong
    kept = store.exchanges.recent(PROJECT, 200, "serve")
    assert len(kept) == 1 + CLIENTS
    assert all(exchange.delivery == "released" for exchange in kept)


@pytest.fixture
def http(address: str):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
        yield client


def serving(http: httpx.Client) -> str:
    body = {"model": "production", "messages": asked(0), "max_tokens": 1}
    return http.post("/v1/chat/completions", json=body).headers["x-burnish-version"]


def test_promotion_and_rollback_through_http(http: httpx.Client, store: Store) -> None:
    assert serving(http) == "support@0"
    done = http.post("/v1/versions/support@1/promote", json={"by": "Ann"}).json()
    assert (done["action"], done["version"], done["previous"]) == ("promote", "support@1", None)
    assert serving(http) == "support@1"
    http.post("/v1/versions/support@2/promote")
    assert serving(http) == "support@2"
    done = http.post("/v1/rollback", json={"by": "Ann"}).json()
    assert (done["action"], done["version"], done["previous"]) == ("rollback", "support@1", "support@2")
    assert serving(http) == "support@1"
    assert [line.by for line in registry.history(store, PROJECT)] == ["Ann", "http", "Ann"]


def test_a_version_without_a_passing_verdict_is_refused_through_http(http: httpx.Client, store: Store) -> None:
    for name in ("support@3", "support@0"):
        reply = http.post(f"/v1/versions/{name}/promote", json={"by": "Mallory"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "refused")
        assert "no verdict" in reply.json()["error"]["message"]
    assert http.post("/v1/rollback").status_code == 409
    assert http.post("/v1/versions/support@9/promote").status_code == 404
    assert http.post("/v1/versions/support@1/promote", json={"by": " "}).status_code == 400
    assert http.post("/v1/versions/support@1/promote", json={"force": True}).status_code == 400
    assert serving(http) == "support@0"
    assert registry.history(store, PROJECT) == []


def test_a_promotion_by_another_process_is_seen_at_the_next_request(
    http: httpx.Client, service: AnswerService, store: Store
) -> None:
    from burnish.store import open_store

    other = open_store(store.path)  # its own connections, as another process has
    assert serving(http) == "support@0"
    registry.promote(other, PROJECT, "support@2", by="cli")
    assert serving(http) == "support@2"
    assert service.version().name == "support@2"
    other.close()
