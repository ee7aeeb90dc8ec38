"""Writes the generated pages of docs/reference: the recipe's keys and the command line.

python docs/generate.py            # write
python docs/generate.py --check    # exit 1 where a page is not what the code says
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from burnish import config
from burnish.cli import commands_look, commands_run, commands_serve, commands_tune  # noqa: F401  (they register)
from burnish.cli.main import app
from burnish.config.algorithms import CREDITS_WRITTEN, KEYS, READS

PAGES = Path(__file__).parent / "reference"


def recipe_page() -> str:
    """Every key of the recipe with its default and meaning."""
    lines = [
        "# The recipe",
        "",
        "One TOML file. A key that is not listed here is an error; a table that is absent is a stage that does not run "
        "(or runs with the defaults, where every key has one). This page is generated from `burnish.config`.",
    ]
    table = None
    for name, default, meaning in config.describe():
        head = name.rpartition(".")[0]
        if head != table:
            table = head
            title = f"`[[{head}]]`" if head in ("gate", "rl.rewards") else f"`[{head}]`" if head else "Top level"
            lines += ["", f"## {title}", "", "| key | default | meaning |", "|---|---|---|"]
        lines.append(f"| `{name}` | `{default}` | {meaning} |")
    return "\n".join([*lines, *_algorithms()]) + "\n"


def _algorithms() -> list[str]:
    """What "auto" is in each algorithm of [rl]; a key without a value is not read, and giving it is an error."""
    lines = ["", "## What each algorithm of `[rl]` reads", "", "What auto is. A key without a value is not read, and "
             "giving it is an error. An own credit function reads what grpo does, without `scale`.", ""]  # fmt: skip
    lines += [f"| key | {' | '.join(f'`{name}`' for name in READS)} |", "|---" * (1 + len(READS)) + "|"]
    rows = [f"| `rl.{k}` | {' | '.join(_shown(reads.get(k)) for reads in READS.values())} |" for k in KEYS]
    luffy = ", ".join(f"`{name}`" for name in sorted(CREDITS_WRITTEN))
    return [*lines, *rows, "", f"`rl.chord` goes with every algorithm that has a clip, `rl.luffy` with {luffy}."]


def _shown(value: object) -> str:
    return "" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def command_page() -> str:
    """The help of every command."""
    lines = ["# The command line", "", "This page is generated from `burnish --help`.", ""]
    lines += ["Exit codes: 0 done or waiting for people, 1 a gate or check said no, 2 the input is wrong, ",
              "70 our bug (the message names a report to send), 130 interrupted.", ""]  # fmt: skip
    root = typer.main.get_command(app)
    for path, command in _commands(root, ["burnish"]):
        lines += [f"## `{' '.join(path)}`", "", command.help or "", ""]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{option}`" for option in parameter.opts) or f"`{parameter.name}`"
            if parameter.param_type_name == "argument":
                names = f"`{(parameter.name or '').upper()}`"
            lines.append(f"- {names}: {getattr(parameter, 'help', '') or ''}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _commands(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, [*path, name])
        else:
            yield [*path, name], command


def pages() -> dict[Path, str]:
    """The generated pages by path."""
    return {PAGES / "recipe.md": recipe_page(), PAGES / "command-line.md": command_page()}


if __name__ == "__main__":
    stale = 0
    for path, text in pages().items():
        if "--check" in sys.argv:
            stale += not path.exists() or path.read_text() != text
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    sys.exit(1 if stale else 0)
