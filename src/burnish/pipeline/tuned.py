"""The winner of a search as a recipe: the user's own file, with the values that were found in their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from burnish import config
from burnish.errors import ConfigError
from burnish.pipeline.ranges import Value, with_values

HEAD = "# Found by `burnish tune`"


def require_place(source: Path, target: Path) -> None:
    """Before anything is spent: the winner can be written there.

    Raises:
        ConfigError: It is another folder (data paths are relative), or another file has that name.
    """
    if target.absolute().parent != source.absolute().parent:
        raise ConfigError(
            "a tuned recipe stands beside its original: its data paths are relative", where=str(target),
            mend="give --out a name in that folder",
        )  # fmt: skip
    if target.exists() and not target.read_text(encoding="utf-8").startswith(HEAD):
        raise ConfigError("there is another file of that name", where=str(target), mend="name one with --out")


def write_tuned(source: Path, target: Path, values: Mapping[str, Value], said: str) -> None:
    """Write ``source`` to ``target`` with these values; comments and all other keys stay as they are.

    Raises:
        ConfigError: The file cannot be changed line by line; the message says which keys to set by hand.
    """
    before = config.load(source)
    lines = source.read_text(encoding="utf-8").splitlines()
    for key, value in values.items():
        table, _, name = key.partition(".")
        lines = _with(lines, table, name, value)
    if not any(re.match(r"\s*name\s*=", line) for line in _top(lines)):
        lines.insert(0, f'name = "{before.name}"')
    part = target.with_name(target.name + ".part")
    part.write_text("\n".join([f"{HEAD}: {said}", *lines]) + "\n", encoding="utf-8")
    try:
        if config.load(part) != with_values(before, values):
            raise ConfigError("the recipe cannot be changed line by line", where=str(source), mend=_by_hand(values))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _with(lines: list[str], table: str, name: str, value: Value) -> list[str]:
    """The lines with one key set in its table, which is added where it is missing."""
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    head = next((n for n, line in enumerate(lines) if re.match(rf"\s*\[{table}\]", line)), None)
    if head is None:
        return [*lines, "", f"[{table}]", f"{name} = {shown}  # tuned"]
    end = next((n for n in range(head + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    for n in range(head + 1, end):
        found = re.match(rf"(\s*{name}\s*=\s*)([^#]*?)(\s*#.*)?$", lines[n])
        if found:
            was = found[2].strip()
            return [*lines[:n], f"{found[1]}{shown}  # tuned, was {was}", *lines[n + 1 :]]
    return [*lines[: head + 1], f"{name} = {shown}  # tuned", *lines[head + 1 :]]


def _top(lines: list[str]) -> list[str]:
    """The lines before the first table."""
    end = next((n for n, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    return lines[:end]


def _by_hand(values: Mapping[str, Value]) -> str:
    return "set these by hand: " + ", ".join(f"{key} = {value}" for key, value in values.items())
