"""The guard around every route: no request reaches the app without passing it.

Loopback is no defence, since any page in the reader's browser can send requests to it. So a request must name a host
of ours (DNS rebinding), a request that changes something must come from an origin of ours and be JSON (forged forms),
and every request but the open ones must bring the token that ``burnish serve`` printed.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from burnish.errors import BurnishError, ServingError
from burnish.serving.problem import Problem, problem_of

log = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPEN = frozenset({"/health", "/ready"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LIMIT = 1_000_000
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def access_token(folder: Path) -> str:
    """The token of a store's server, 43 characters: made at the first call and kept in ``folder/token``, mode 0600.

    Raises:
        ServingError: The file is there and holds no token.
    """
    path = folder / "token"
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=folder)  # mode 0600 from its first byte on
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):  # two servers start at once: the first one's token counts for both
            Path(path).hardlink_to(name)
        Path(name).unlink()
    path.chmod(0o600)
    token = path.read_text().strip()
    if len(token) < 32:
        raise ServingError("the file with the access token is damaged", where=str(path), mend="delete it")
    return token


def guard(app: FastAPI, token: str) -> FastAPI:
    """The app with every route behind the guard, and every error of ours in one shape."""
    for error in (Problem, BurnishError, HTTPException, RequestValidationError):
        app.add_exception_handler(error, _refuse)
    app.add_middleware(Guard, token=token)
    return app


class Guard:
    """ASGI middleware that checks host, origin, credentials, content type and size, and sets the security headers."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no websocket is served, so none may be opened
            return await send({"type": "websocket.close", "code": 1008})
        request = Request(scope, receive)
        sent = _Sent(send)
        try:
            answer = self._enter(request)
            if answer is None:
                await self.app(scope, await _whole_body(request, receive), sent)
            else:
                await answer(scope, receive, sent)
        except Problem as problem:
            await refusal(problem, request)(scope, receive, sent)
        except _Gone:
            return None
        except Exception:
            number = secrets.token_hex(6)
            log.exception("error %s in %s %s", number, scope["method"], scope["path"])
            if sent.started:
                raise
            message = f"an error inside the server; its log has the details under {number}"
            await JSONResponse(Problem(500, message, code=number).body(), 500)(scope, receive, sent)
        return None

    def _enter(self, request: Request) -> Response | None:
        """None where the app may see the request, a response where the guard itself answers; raises Problem."""
        port = (request.scope.get("server") or ("", 80))[1]
        hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        named = request.headers.getlist("host")
        if len(named) != 1 or named[0].lower() not in hosts:
            mend = f"use http://{HOSTS[0]}:{port}"
            raise Problem(421, f"this server does not answer for that host; {mend}", code="foreign_host")
        method, path = request.method, request.scope["path"]
        if method not in SAFE:
            origins = request.headers.getlist("origin")
            if any(origin.lower() not in {f"http://{host}" for host in hosts} for origin in origins):
                raise Problem(403, "requests from another site's pages are refused", code="foreign_origin")
        if method in ("GET", "HEAD") and path in OPEN:
            return None
        if method == "GET" and path == "/" and "token" in request.query_params:
            return self._log_in(request, port)
        if not self._knows(request, port):
            raise Problem(401, "open the address that `burnish serve` printed, or send its token", code="no_token")
        if method not in SAFE:
            _require_json(request)
        return None

    def _log_in(self, request: Request, port: int) -> Response:
        given = request.query_params["token"]
        if not secrets.compare_digest(given.encode(), self.token):
            raise Problem(401, "the token in this address is not this server's", code="wrong_token")
        answer = RedirectResponse("/", 303)
        # Cookies do not tell ports apart: its name does, so that two servers do not log each other out.
        answer.set_cookie(_cookie(port), given, httponly=True, samesite="strict", path="/")
        return answer

    def _knows(self, request: Request, port: int) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(_cookie(port), "")
        return secrets.compare_digest(given.encode(), self.token)


def _cookie(port: int) -> str:
    return f"burnish_{port}"


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type")
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    if kind is None and empty:
        return
    if (kind or "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "the body must be sent as application/json", code="not_json")


async def _whole_body(request: Request, receive: Receive) -> Receive:
    """A ``receive`` that hands the app the whole body, read here up to the limit; later messages pass through."""
    if not request.headers.get("content-length", "0").isdecimal():
        raise Problem(400, "the Content-Length is not a number", code="bad_length")
    if int(request.headers.get("content-length", "0")) > LIMIT:
        raise Problem(413, f"the body is longer than {LIMIT:,} bytes", code="too_large")
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LIMIT:  # a chunked body announces no length
            raise Problem(413, f"the body is longer than {LIMIT:,} bytes", code="too_large")
    first: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def refusal(problem: Problem, request: Request) -> Response:
    """The problem as JSON, or as one plain line for a person who typed the address into a browser."""
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(problem.message, problem.status)
    return JSONResponse(problem.body(), problem.status)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, BurnishError):
        error = problem_of(error)
    elif isinstance(error, HTTPException):
        error = Problem(error.status_code, error.detail)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = Problem(400, first["msg"], code="invalid_value", param=".".join(map(str, first["loc"])))
    assert isinstance(error, Problem)
    return refusal(error, request)


class _Gone(Exception):
    """The client left before its request was whole."""


class _Sent:
    """A ``send`` that puts the security headers on every response."""

    def __init__(self, send: Send) -> None:
        self.send, self.started = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")  # answers are personal; static files say otherwise
        await self.send(message)
