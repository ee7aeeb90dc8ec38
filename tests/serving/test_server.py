"""The server as a process: its address, its port, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from burnish.errors import ServingError
from burnish.serving.server import bind

SERVE = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from serving.world import PROJECT, RECIPE, TOKEN, api_of
from burnish.serving.loading import loader
from burnish.serving.server import serve
from burnish.serving.service import AnswerService
from burnish.store import open_store

store = open_store(Path(sys.argv[1]))
service = AnswerService(store, PROJECT, RECIPE, loader(store))
serve(api_of(service), service, token=TOKEN, port=int(sys.argv[2]), say=lambda line: print(line, flush=True))
"""
CHAT = "/v1/chat/completions"
BODY = {"model": "production", "messages": [{"role": "user", "content": "Where is it?"}], "stream": True, "seed": 1}


@pytest.fixture
def process(built: Path, tmp_path: Path):
    import shutil

    shutil.copytree(built, tmp_path / ".burnish")
    tests = Path(__file__).parents[1]
    running = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path / ".burnish"), "0"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield running
    running.kill()
    running.communicate()


def test_a_port_in_use_is_named_with_the_flag() -> None:
    with bind(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=rf"port {port} is in use\s+.*--port"):
            bind(port)


def test_only_loopback_is_bound() -> None:
    with bind(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        outside = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with outside, pytest.raises(OSError):
            address = socket.gethostbyname(socket.gethostname())
            outside.settimeout(2)
            outside.connect(("127.0.0.2" if address.startswith("127.") else address, listener.getsockname()[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_an_answer_finish_and_ends_the_process(process: subprocess.Popen, number: int) -> None:
    address, _, token = process.stdout.readline().strip().partition("/?token=")
    assert address.startswith("http://127.0.0.1:")
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        headers = {"Authorization": f"Bearer {token}"}
        url, body = f"{address}{CHAT}", {**BODY, "max_tokens": 96}
        with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as response:
            for line in response.iter_lines():
                lines.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    told = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 0
    assert time.monotonic() - told < 12
    reader.join(10)
    said = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert lines[-2] == "data: [DONE]" or "error" in said[-1]
    stderr = process.stderr.read()
    assert "Traceback" not in stderr
    assert token not in stderr
