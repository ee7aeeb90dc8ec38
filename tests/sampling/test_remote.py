"""A remote sampler's ids and logprobs are the server's own; what cannot be trained on is refused (by a real server)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest

from burnish.errors import SamplingError
from burnish.sampling import Params, RemoteSampler, Sampler, Stop

Reply = Callable[[dict[str, Any], str], tuple[int, Any]]
PARAMS = Params(max_new_tokens=3, stop_ids=(0,), seed=4)


class Server(ThreadingHTTPServer):
    """Answers with what ``reply`` says of a body and its path; keeps the bodies and keys."""

    reply: Reply

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


S = TypeVar("S", bound=Server)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.keys.append(self.headers["Authorization"])
            status, said = self.server.reply(body, self.path)
        data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def choices(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As vLLM answers: each answer repeats the prompt's first id and its own number, the last one first."""
    first = body["prompt"][0]
    made = [
        {
            "index": index,
            "text": "",
            "token_ids": [first, index, 0],
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": [-0.5, -0.25 * index, -1.0]},
            "finish_reason": "stop",
            **changes,
        }
        for index in reversed(range(body["n"]))
    ]
    return {"choices": made}


@contextmanager
def serving(server: S) -> Iterator[S]:
    """Runs the server meanwhile."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        server.reply = lambda body, path: (200 if path == "/v1/completions" else 404, choices(body))
        yield server


def test_ids_and_logprobs_are_those_of_the_server_in_order(server: Server) -> None:
    sampler: Sampler = RemoteSampler(server.url, "policy", key="secret")
    groups = sampler.sample([[7, 8], [9], [11, 2, 3]], 2, PARAMS)
    assert [[s.ids for s in group] for group in groups] == [[(p, 0, 0), (p, 1, 0)] for p in (7, 9, 11)]
    assert [s.logprobs for s in groups[0]] == [(-0.5, 0.0, -1.0), (-0.5, -0.25, -1.0)]
    assert {s.finish_reason for group in groups for s in group} == {"stop"}
    assert set(server.keys) == {"Bearer secret"}
    assert "secret" not in repr(sampler)
    body = next(body for body in server.asked if body["prompt"] == [7, 8])
    wanted = {"model": "policy", "n": 2, "max_tokens": 3, "temperature": 1.0, "return_token_ids": True, "logprobs": 0}
    # what a server would else take from the model's generation_config
    wanted |= {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": [0]}
    assert {name: body[name] for name in wanted} == wanted
    assert len({body["seed"] for body in server.asked}) == 3
    assert sampler.sample([], 2, PARAMS) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token_ids": None}, "no token ids"),
        ({"token_ids": []}, "no token ids"),
        ({"prompt_token_ids": [1, 7, 8]}, "prompt of 3 ids, not the 2"),
        ({"logprobs": None}, "0 logprobs for 3"),
        ({"logprobs": {"token_logprobs": [-1.0, -2.0]}}, "2 logprobs for 3"),
        ({"logprobs": {"token_logprobs": [-1.0, None, -2.0]}}, "no finite number"),
        ({"token_ids": [5, 6, 9]}, "none of the stop tokens"),
        ({"finish_reason": "abort"}, "'abort'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_on_is_refused(server: Server, changes: dict[str, Any], says: str) -> None:
    server.reply = lambda body, path: (200, choices(body, **changes))
    with pytest.raises(SamplingError, match=says):
        RemoteSampler(server.url, "policy").sample([[7, 8]], 2, PARAMS)
    assert len(server.asked) == 1


def test_logprobs_of_another_temperature_are_refused(server: Server) -> None:
    params = Params(temperature=0.7, max_new_tokens=3, stop_ids=(0,))
    with pytest.raises(SamplingError, match="processed_logprobs"):
        RemoteSampler(server.url, "policy").sample([[7]], 1, params)
    assert server.asked == []
    assert len(RemoteSampler(server.url, "policy", tempered=True).sample([[7]], 1, params)[0]) == 1


def test_a_server_that_fails_is_asked_again(server: Server) -> None:
    failures = iter([(503, "busy"), (429, "slow down"), (200, "not json")])
    server.reply = lambda body, path: next(failures, None) or (200, choices(body))
    groups = RemoteSampler(server.url, "policy", wait=0.001).sample([[7, 8]], 1, PARAMS)
    assert groups[0][0].ids == (7, 0, 0)
    assert len(server.asked) == 4


def test_a_server_that_keeps_failing_is_named_with_its_last_word(server: Server) -> None:
    server.reply = lambda body, path: (500, "broken")
    with pytest.raises(SamplingError, match=r"answered 500 \(5 attempts\)"):
        RemoteSampler(server.url, "policy", wait=0.001).sample([[7, 8]], 1, PARAMS)
    assert len(server.asked) == 5
    with pytest.raises(SamplingError, match="cannot be reached: ConnectError"):
        RemoteSampler("http://127.0.0.1:9/v1", "policy", wait=0.001).sample([[7, 8]], 1, PARAMS)


def test_a_request_that_is_refused_is_not_repeated(server: Server) -> None:
    server.reply = lambda body, path: (404, "no such model")
    with pytest.raises(SamplingError, match="404: 'no such model'"):
        RemoteSampler(server.url, "policy", wait=0.001).sample([[7, 8]], 1, PARAMS)
    assert len(server.asked) == 1
    server.reply = lambda body, path: (200, {"choices": []})
    with pytest.raises(SamplingError, match="0 answers to a prompt, not 1"):
        RemoteSampler(server.url, "policy").sample([[7, 8]], 1, PARAMS)


def test_a_stop_string_is_the_servers_too(server: Server) -> None:
    stop = Stop(("!",), lambda ids: "".join("!" if i == 6 else "x" for i in ids))
    server.reply = lambda body, path: (200, choices(body, token_ids=[5, 5, 6]))
    made = RemoteSampler(server.url, "policy").sample([[7]], 1, Params(max_new_tokens=3, stop_ids=(0,), stop=stop))
    assert (made[0][0].finish_reason, made[0][0].stopped_by) == ("stop", "!")
    assert server.asked[0]["stop"] == ["!"]
