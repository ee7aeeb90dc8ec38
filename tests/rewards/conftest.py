"""A judge's endpoint on loopback: a real HTTP server that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Reply = tuple[int, str]  # status, and what the judge says (or the body, where the status is not 200)


class Bench:
    """Where the judge sits: its address, what it was asked, and how it replies to (question, times asked before)."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[str, int], Reply] = lambda question, before: (200, "A")
        self.delay = 0.0
        self._lock = threading.Lock()
        bench = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with bench._lock:
                    before = sum(body == other for other in bench.asked)
                    bench.asked.append({"path": self.path, **body} if self.path != "/v1/chat/completions" else body)
                    bench.headers.append(dict(self.headers))
                time.sleep(bench.delay)
                status, said = bench.reply(body["messages"][0]["content"], before)
                content = {"choices": [{"message": {"content": said}}]}
                data = (json.dumps(content) if status == 200 else said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda request, address: None  # a client that gave up is no news
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    thread = threading.Thread(target=bench.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield bench
    bench.server.shutdown()
    bench.server.server_close()
    thread.join()
