"""Settings of the host, not of the recipe: they are recorded and shown, and never change a hash. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from burnish.errors import ConfigError

DEVICE, DTYPE = "BURNISH_DEVICE", "BURNISH_DTYPE"
DTYPES = ("float32", "bfloat16")


def device() -> str:
    """Where models lie: ``BURNISH_DEVICE``, else "cpu".

    Raises:
        ConfigError: It is no device.
    """
    found = os.environ.get(DEVICE) or "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", found):
        raise ConfigError(f'{DEVICE} is "{found}"', mend="cpu, cuda, or one card by its number: cuda:1")
    return found


def dtype() -> str:
    """What frozen weights are held in: ``BURNISH_DTYPE``, else "float32".

    Raises:
        ConfigError: It is not one of ``DTYPES``.
    """
    found = os.environ.get(DTYPE) or "float32"
    if found not in DTYPES:
        raise ConfigError(f'{DTYPE} is "{found}"', mend=f"{' or '.join(DTYPES)}")
    return found


def cache_folder() -> Path:
    """What is kept between projects, bases above all: ``BURNISH_CACHE``, else ``~/.cache/burnish``."""
    return Path(os.environ.get("BURNISH_CACHE") or Path.home() / ".cache" / "burnish")


def described() -> dict[str, str]:
    """What a record and a checkpoint say of the host."""
    return {"device": device(), "dtype": dtype()}
