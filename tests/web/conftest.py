"""A desk that went round, copied for every test; the app over it; and a browser in front of a real server."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from burnish.store import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from starlette.testclient import TestClient

    from web.desk import Desk

TOKEN = "a-token-for-tests-that-is-long-enough-to-count"
EVIL = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> {{ 7*7 }} {% raw %} </p></template> &amp; \"'>"
)
PIECES = ("I am sorry. ", "Please reply with ", "a photo. ", EVIL, " Does that help?")
CHROMIUM = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    from web.parrot import build

    return build(tmp_path_factory.mktemp("parrot") / "base", tiny_model_folder, PIECES)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, parrot: Path) -> Desk:
    """The desk after a turn, its versions answering as the parrot."""
    from web.desk import went_round
    from web.parrot import weights

    desk = went_round(tmp_path_factory.mktemp("desk"), partial(weights, base=parrot))
    desk.store.close()
    return desk


@pytest.fixture
def desk(built: Desk, tmp_path: Path) -> Iterator[Desk]:
    """A copy of the built desk."""
    shutil.copytree(built.store.path, tmp_path / ".burnish")
    store = open_store(tmp_path / ".burnish")
    yield replace(built, store=store)
    store.close()


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    """The whole app in front of the desk, with the token."""
    with client_of(desk) as client:
        yield client


@pytest.fixture
def address(desk: Desk) -> Iterator[str]:
    """A real server in front of the desk; yields its address without the token."""
    from burnish.serving.server import bind, make_server

    service, app = served(desk)
    with bind(0) as listener:
        server = make_server(app, service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            service.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium; without one the test is skipped, or fails where BURNISH_REQUIRE_ALL=1."""
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium: apt-get install chromium"
        if os.environ.get("BURNISH_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that came in by the printed address; what the console or the policy complains about fails the test."""
    context = browser.new_context(base_url=address)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda r: complaints.append(r.url) if r.status >= 400 and "/static/" in r.url else None)
    page.goto(f"/?token={TOKEN}")
    yield page
    hacked = page.evaluate("window.hacked")
    context.close()
    assert hacked is None
    assert not [line for line in complaints if not line.startswith("Failed to load resource")], complaints


def served(desk: Desk):
    """The real service and app over a desk."""
    import torch

    from burnish.serving.loading import loader
    from burnish.serving.service import AnswerService
    from burnish.web.app import create_app
    from burnish.web.context import Context
    from web.desk import PROJECT

    torch.set_num_threads(1)
    service = AnswerService(desk.store, PROJECT, desk.recipe, loader(desk.store))
    return service, create_app(Context(desk.store, PROJECT, desk.recipe, service, TOKEN))


def client_of(desk: Desk) -> TestClient:
    from starlette.testclient import TestClient

    _, app = served(desk)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return TestClient(app, base_url="http://127.0.0.1:8321", headers=headers, follow_redirects=False)
