"""What several tests of training start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny policy whose adapter has moved away from zero."""
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    policy = base.sibling(lora=Lora(4), trainable=True, seed=3)
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.fixture
def base(tiny_model_folder: Path, tmp_path: Path) -> Callable[[], LanguageModel]:
    """The tiny base, loaded where the host says now."""
    torch.set_num_threads(1)
    return lambda: LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path / "cache"))
