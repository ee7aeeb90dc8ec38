"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

from burnish.cli.main import main

__all__ = ["main"]
