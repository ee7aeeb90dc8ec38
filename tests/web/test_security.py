"""The guard: every route of the real app, without credentials and with each known way round them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import fastapi.routing
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from burnish.config import Recipe
from burnish.errors import ServingError
from burnish.records import Record
from burnish.serving.lanes import Loaded
from burnish.serving.service import AnswerService
from burnish.store import open_store
from burnish.web.app import create_app
from burnish.web.context import Context
from burnish.web.security import HEADERS, LIMIT, OPEN, access_token

HOME = "http://127.0.0.1:8321"
RECIPE = Recipe.model_validate({"name": "support", "task": "chat", "base": "b", "data": {"train": "rows.jsonl"}})
VOTE = "/v1/feedback"


def no_version(record: Record) -> Loaded:
    raise AssertionError("nothing is loaded here")


@pytest.fixture
def token(tmp_path: Path) -> str:
    return access_token(tmp_path)


@pytest.fixture
def app(tmp_path: Path, token: str) -> Iterator[FastAPI]:
    store = open_store(tmp_path / ".burnish")
    service = AnswerService(store, "support", RECIPE, no_version)
    app = create_app(Context(store, "support", RECIPE, service, token))

    async def fail() -> None:
        raise RuntimeError("the secret is 42")

    app.add_api_route("/fail", fail)
    yield app
    service.close()
    store.close()


@pytest.fixture
def outsider(app: FastAPI) -> TestClient:
    return TestClient(app, HOME, follow_redirects=False)


@pytest.fixture
def insider(app: FastAPI, token: str) -> TestClient:
    return TestClient(app, HOME, headers={"Authorization": f"Bearer {token}"}, follow_redirects=False)


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, parameters filled in."""
    # newer FastAPI keeps included routers nested
    flat = getattr(fastapi.routing, "iter_route_contexts", list)
    found: list[tuple[str, str]] = []
    for route in flat(app.routes):
        path = re.sub(r"\{[^}]+\}", "x", route.path)
        found += [(method, path) for method in sorted(route.methods)]
    assert {("POST", "/v1/chat/completions"), ("GET", "/"), ("GET", "/static/x"), ("GET", "/v1/models")} <= set(found)
    return found


def test_no_route_answers_without_credentials(app: FastAPI, outsider: TestClient) -> None:
    for method, path in [*routes(app), ("GET", "/none"), ("GET", "//health"), ("GET", "/health/"), ("POST", "/health")]:
        reply = outsider.request(method, path)
        wanted = {200, 503} if path in OPEN and method == "GET" else {401}
        assert reply.status_code in wanted, (method, path, reply.status_code)
        assert all(reply.headers[name] == value for name, value in HEADERS.items()), (method, path)
    assert {"/health", "/ready"} == OPEN


def test_wrong_credentials_are_none(outsider: TestClient, token: str) -> None:
    for value in (f"Bearer {token}x", f"Bearer {token[:-1]}", "Bearer", "Bearer ", f"Basic {token}", token, "Bearer é"):
        assert outsider.get("/v1/models", headers={"Authorization": value.encode()}).status_code == 401
    assert outsider.get("/", params={"token": token[:-1]}).status_code == 401
    assert outsider.get("/", params={"token": ""}).status_code == 401
    assert outsider.get("/v1/models", params={"token": token}).status_code == 401
    assert outsider.get("/v1/models", headers={"Cookie": f"burnish_8321={token}x"}).status_code == 401
    assert outsider.get("/v1/models", headers={"Cookie": f"burnish_8000={token}"}).status_code == 401


def test_the_printed_address_logs_in_and_leaves_no_token_behind(outsider: TestClient, token: str) -> None:
    reply = outsider.get("/", params={"token": token})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"burnish_8321={token};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert outsider.get("/").status_code == 200
    assert outsider.get("/v1/models").status_code == 200


HOSTS = [
    "evil.example",
    "evil.example:8321",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.0.0.1:8321.evil.example",
    "127.0.0.1.evil.example:8321",
    "localhost:8321@evil.example",
    "0.0.0.0:8321",
    "",
]


@pytest.mark.parametrize("host", HOSTS)
def test_foreign_hosts_are_refused_on_every_route(app: FastAPI, insider: TestClient, host: str) -> None:
    for method, path in routes(app):
        assert insider.request(method, path, headers={"Host": host}).status_code == 421, (method, path)


def test_our_own_hosts_are_not(insider: TestClient) -> None:
    for host in ("127.0.0.1:8321", "localhost:8321", "LOCALHOST:8321", "[::1]:8321"):
        assert insider.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:5000", "https://127.0.0.1:8321", "http://127.0.0.1", ""]
)
def test_foreign_origins_change_nothing(app: FastAPI, insider: TestClient, origin: str) -> None:
    for method, path in routes(app):
        if method not in ("GET", "HEAD"):
            reply = insider.request(method, path, json={}, headers={"Origin": origin})
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "foreign_origin"), (method, path)


def test_our_own_origin_may(insider: TestClient) -> None:
    for origin in ("http://127.0.0.1:8321", "http://localhost:8321"):
        assert insider.post(VOTE, json={}, headers={"Origin": origin}).status_code == 400  # the vote is empty


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "application/jsonx"],
)
def test_only_json_changes_anything(app: FastAPI, insider: TestClient, kind: str) -> None:
    for method, path in routes(app):
        if method not in ("GET", "HEAD"):
            for body in (b'{"rater": "x"}', b""):
                reply = insider.request(method, path, content=body, headers={"Content-Type": kind})
                assert reply.status_code == 415, (method, path)
            assert insider.request(method, path, content=b"{}").status_code == 415


def test_json_with_a_charset_is_json(insider: TestClient) -> None:
    reply = insider.post(VOTE, content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert reply.status_code == 400


def test_long_bodies_are_refused_announced_or_not(insider: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    assert insider.post(VOTE, content=b" " * (LIMIT + 1), headers=headers).status_code == 413
    chunked = (b" " * 1000 for _ in range(LIMIT // 1000 + 1))
    assert insider.post(VOTE, content=chunked, headers=headers).status_code == 413
    assert insider.post(VOTE, content=b" " * LIMIT, headers=headers).status_code == 400
    assert insider.get("/health", headers={"Content-Length": "x"}).status_code == 400


def test_an_error_inside_shows_a_number_and_no_more(insider: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    reply = insider.get("/fail")
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (500, "server_error")
    assert error["code"] in error["message"]
    assert not {"42", "RuntimeError", "Traceback"} & set(re.findall(r"\w+", reply.text))
    assert error["code"] in caplog.text
    assert "the secret is 42" in caplog.text
    assert reply.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_no_websocket_and_no_generated_pages(insider: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), insider.websocket_connect("/"):
        pass
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert insider.get(path).status_code == 404


def test_paths_outside_are_no_files(insider: TestClient) -> None:
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert insider.get(path).status_code == 404


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"


def test_the_token_is_random_kept_and_private(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    assert access_token(one) == access_token(one) != access_token(two)
    assert len(access_token(one)) >= 43
    assert stat.S_IMODE((one / "token").stat().st_mode) == 0o600
    assert [path.name for path in one.iterdir()] == ["token"]
    (two / "token").chmod(0o644)
    access_token(two)
    assert stat.S_IMODE((two / "token").stat().st_mode) == 0o600
    (two / "token").write_text("")
    with pytest.raises(ServingError, match="damaged"):
        access_token(two)
