"""A copy of one built store for every test, and a server in front of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.serving.service import AnswerService
from burnish.store import Store, open_store


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    import torch

    from serving.world import build_store

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("served") / ".burnish"
    build_store(path, tiny_model_folder).close()
    return path


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(built, tmp_path / ".burnish")
    store = open_store(tmp_path / ".burnish")
    yield store
    store.close()


@pytest.fixture
def service(store: Store) -> Iterator[AnswerService]:
    from serving.world import service_of

    with service_of(store) as service:
        yield service


@pytest.fixture
def address(service: AnswerService) -> Iterator[str]:
    from serving.world import api_of, running

    with running(api_of(service), service) as address:
        yield address
