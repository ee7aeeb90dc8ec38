"""The answering thread: pinning, loading, cancelling, failing and stopping."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from burnish.errors import ModelError, ServingError
from burnish.monitoring import summary
from burnish.records import Message, Record
from burnish.serving import service as service_module
from burnish.serving.lanes import Loaded
from burnish.serving.loading import loader
from burnish.serving.service import Answer, AnswerService
from burnish.serving.ticket import Ask, Kept, Said
from burnish.store import Store, open_store
from serving.world import PROJECT, RECIPE, service_of

ASK = Ask((Message("user", "Where is my parcel?"),), max_tokens=12)
LONG = Ask((Message("user", "Where is my parcel?"),), max_tokens=400)


async def collect(answer: Answer) -> Kept:
    while isinstance(reply := await answer.next(), Said):
        pass
    assert isinstance(reply, Kept)
    return reply


async def ask(service: AnswerService, alias: str = "production", what: Ask = ASK) -> Kept:
    return await collect(await service.answer(what, alias))


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing happened for 30 s"
        time.sleep(0.01)


def test_versions_answer_differently_and_each_the_same_in_any_company(service: AnswerService) -> None:
    names = ["support@0", "support@1", "support@2"]

    async def alone() -> list[str]:
        return [(await ask(service, name)).exchange.answer for name in names]

    async def together() -> list[str]:
        done = await asyncio.gather(*(ask(service, name) for name in names * 4))
        return [kept.exchange.answer for kept in done]

    apart = asyncio.run(alone())
    assert len(set(apart)) == 3
    assert asyncio.run(together()) == apart * 4


def test_ids_and_logprobs_are_kept_as_they_were_sampled(service: AnswerService, store: Store) -> None:
    from burnish.sampling import Params

    kept = asyncio.run(ask(service, "support@1")).exchange
    loaded = loader(store)(store.record("support@1"))
    prompt = loaded.renderer.prompt(ASK.messages)
    params = Params(temperature=0.0, max_new_tokens=12, stop_ids=loaded.renderer.stop_ids)
    [[alone]] = loaded.engine.sample([prompt], 1, params)
    stored = store.exchanges.get(kept.id)
    assert stored.prompt_ids == tuple(prompt)
    assert stored.answer_ids == alone.ids
    assert stored.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    assert loaded.renderer.answer(stored.answer)[:-1] != list(stored.answer_ids)  # text would give other ids


def test_a_client_that_leaves_frees_its_place_and_what_was_said_is_not_released(
    service: AnswerService, store: Store
) -> None:
    async def leave() -> str:
        answer = await service.answer(LONG)
        await answer.next()
        answer.close()
        answer.close()
        return answer.id

    id = asyncio.run(leave())
    wait_for(lambda: store.exchanges.many([id]))
    kept = store.exchanges.get(id)
    assert (kept.delivery, kept.finish_reason) == ("rejected", "length")
    assert 0 < len(kept.answer_ids) < 400
    assert service._lanes.users() == 0
    [figures] = summary(store, PROJECT)["versions"]
    assert (figures["answers"], figures["broken_off"]) == (0, 1)


def test_only_so_many_versions_stay_loaded_and_none_that_answers_is_dropped(store: Store) -> None:
    loads: list[str] = []
    real = loader(store)

    def counting(record: Record) -> Loaded:
        loads.append(record.name or "")
        return real(record)

    service = AnswerService(store, PROJECT, RECIPE, counting)

    async def play() -> None:
        first = await service.answer(LONG, "support@0")
        await first.next()
        await ask(service, "support@1")
        await ask(service, "support@2")  # drops @1: @0 is answering
        assert [lane.record.name for lane in service._lanes.all()] == ["support@0", "support@2"]
        kept = await collect(first)
        assert len(kept.exchange.answer_ids) == 400 or kept.exchange.finish_reason == "stop"
        await ask(service, "support@1")

    asyncio.run(play())
    service.close()
    assert loads == ["support@0", "support@1", "support@2", "support@1"]


def test_a_version_that_cannot_be_loaded_says_so_and_is_tried_again(store: Store) -> None:
    real, broken = loader(store), [True]

    def failing(record: Record) -> Loaded:
        if broken.pop() if broken else False:
            raise ModelError("the adapter does not fit the base")
        return real(record)

    service = AnswerService(store, PROJECT, RECIPE, failing)
    with pytest.raises(ServingError, match=r"support@0 cannot be loaded: the adapter does not fit"):
        asyncio.run(ask(service))
    assert asyncio.run(ask(service)).exchange.answer_ids
    service.close()
    [figures] = summary(store, PROJECT)["versions"]
    assert (figures["answers"], figures["errors"]) == (1, 1)


def test_other_versions_answer_while_one_is_loading(store: Store) -> None:
    real, hold = loader(store), threading.Event()

    def slow(record: Record) -> Loaded:
        if record.name == "support@1":
            assert hold.wait(30)
        return real(record)

    service = AnswerService(store, PROJECT, RECIPE, slow)

    async def play() -> None:
        await ask(service, "support@0")
        waiting = asyncio.ensure_future(ask(service, "support@1"))
        await ask(service, "support@0")
        assert not waiting.done()
        hold.set()
        await waiting

    asyncio.run(play())
    service.close()


def test_a_client_that_leaves_while_a_version_loads_does_not_stop_the_others(store: Store) -> None:
    real, hold = loader(store), threading.Event()

    def slow(record: Record) -> Loaded:
        assert hold.wait(30)
        return real(record)

    service = AnswerService(store, PROJECT, RECIPE, slow)

    async def play() -> None:
        leaving, staying = (asyncio.ensure_future(ask(service)) for _ in range(2))
        await asyncio.sleep(0.2)
        leaving.cancel()
        await asyncio.sleep(0.05)
        hold.set()
        assert (await staying).exchange.answer_ids

    asyncio.run(play())
    assert service._lanes.users() == 0
    service.close()


def test_an_engine_that_fails_ends_its_answers_with_an_error_and_is_loaded_anew(service: AnswerService) -> None:
    async def play() -> None:
        answer = await service.answer(LONG)
        await answer.next()
        [lane] = service._lanes.all()
        engine = lane.loaded.result().engine
        engine.step = lambda: 1 / 0  # type: ignore[method-assign,assignment]  # the failure, not our part, is played
        with pytest.raises(ServingError, match="support@0 failed"):
            await collect(answer)
        assert (await ask(service)).exchange.answer_ids

    asyncio.run(play())


def test_an_answer_that_cannot_be_stored_is_an_error_and_no_answer(service: AnswerService, store: Store) -> None:
    async def play() -> None:
        await ask(service)
        with store.write() as conn:
            conn.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON exchanges BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(ServingError, match="could not be stored"):
            await ask(service)

    asyncio.run(play())


def test_more_requests_than_can_wait_are_sent_away(
    service: AnswerService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "WAITING", 2)

    async def play() -> None:
        held = [await service.answer(LONG) for _ in range(2)]
        with pytest.raises(ServingError, match="2 requests are waiting"):
            await service.answer(ASK)
        for answer in held:
            answer.close()

    asyncio.run(play())
    assert summary(store, PROJECT)["overloaded"] == 1


def test_draining_finishes_what_it_can_and_breaks_off_the_rest(store: Store) -> None:
    with service_of(store) as service:

        async def play() -> None:
            short, long = await service.answer(ASK), await service.answer(LONG)
            await long.next()
            real = service._lanes.all()[0].loaded.result().engine
            step = real.step

            def slowly() -> list:
                time.sleep(0.01)
                return step()

            real.step = slowly  # type: ignore[method-assign]
            service.drain(1.0)
            with pytest.raises(ServingError, match="stopping"):
                await service.answer(ASK)
            assert (await collect(short)).exchange.answer_ids
            with pytest.raises(ServingError, match="stopping"):
                await collect(long)

        asyncio.run(play())
        service._thread.join(5)
        assert not service._thread.is_alive()


def test_importing_serving_and_the_app_imports_no_torch() -> None:
    code = (
        "import sys, burnish.serving.loading, burnish.serving.openai, burnish.serving.server, burnish.monitoring\n"
        "import burnish.web.app\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_torch_the_server_says_what_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "burnish.models.artifacts", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with (
        service_of(store) as service,
        pytest.raises(ServingError, match="support@0 cannot be loaded: answers need torch"),
    ):
        asyncio.run(ask(service))


def test_a_project_without_a_version_says_so(tmp_path, store: Store) -> None:
    empty = open_store(tmp_path / "empty")
    service = AnswerService(empty, PROJECT, RECIPE, loader(empty))
    service.warm()
    with pytest.raises(ServingError, match="support has no version yet"):
        asyncio.run(ask(service))
    assert service.ready() is None
    service.close()
