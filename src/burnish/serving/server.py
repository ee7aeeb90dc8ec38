"""The server process: one loopback socket, and an end that does not cut people off."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from burnish.errors import ServingError
from burnish.serving.service import AnswerService

ADDRESS = "127.0.0.1"
GRACE = 5.0  # seconds that answers get to finish once the server is told to stop


def bind(port: int) -> socket.socket:
    """A socket on this machine's loopback address; port 0 takes a free one.

    Raises:
        ServingError: The port is in use, or may not be used.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise ServingError(f"port {port} {why}", mend="choose another: burnish serve --port 8322") from error
    return listener


def make_server(app: ASGIApp, service: AnswerService, grace: float = GRACE) -> uvicorn.Server:
    """A server for the app; once it is told to stop, answers in the making get ``grace`` seconds to finish."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # it would write the token of the printed address into the log
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(grace) + 3,
    )
    return _Server(config, service, grace)


def serve(app: ASGIApp, service: AnswerService, *, token: str, port: int, say: Callable[[str], None] = print) -> None:
    """Serves until SIGINT or SIGTERM, and ends the service. ``say`` hears the address.

    Raises:
        ServingError: The port is in use.
    """
    with bind(port) as listener, _quiet_signals():
        service.warm()
        say(f"http://{ADDRESS}:{listener.getsockname()[1]}/?token={token}")
        make_server(app, service).run(sockets=[listener])
    service.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: AnswerService, grace: float) -> None:
        super().__init__(config)
        self.service, self.grace = service, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.drain(self.grace)
        await super().shutdown(sockets)


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more for whoever handled it before: that is nobody, here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
