"""Burnish: fine-tune a model, serve it, learn from what people say about its answers, and go round again.

Importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.pipeline import Project

try:
    __version__ = version("burnish")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["Project", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Project":
        from burnish.pipeline import Project

        return Project
    raise AttributeError(f"module 'burnish' has no attribute {name!r}")
