"""The entry point: commands in, exit codes out.

0 done or waiting for people, 1 a gate or check said no, 2 the input is wrong, 70 our bug, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer
from typer.exceptions import TyperException

from burnish.errors import BurnishError

FIXED = {"MKL_DYNAMIC": "false", "OMP_DYNAMIC": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

app = typer.Typer(
    name="burnish",
    help="Fine-tune a model, serve it, learn from what people say about its answers, and go round again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    for name, value in FIXED.items():  # read when PyTorch is imported: its sums are then added up in one order
        os.environ.setdefault(name, value)
    from burnish.cli import commands_look, commands_run, commands_serve, commands_tune  # noqa: F401  (they register)

    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except BurnishError as error:
        print(f"burnish: {error}", file=sys.stderr)
        return error.exit_code
    except typer.Abort:  # at a question: a no, Ctrl-C, or nobody there to answer
        print("\nburnish: not agreed to, nothing was done; --yes answers every question", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print(
            "\nburnish: interrupted; finished stages are kept, `burnish run` goes on from there",
            file=sys.stderr,
        )
        return 130
    except TyperException as error:  # a command or an option that does not exist, or a value that does not fit
        said = error.format_message().replace("Value error, ", "")
        helped = said.startswith("Usage: ")  # a command that stands for several was named alone
        print(said if helped else f"burnish: {said}\n  burnish --help lists the commands", file=sys.stderr)
        return 2
    except Exception:
        with tempfile.NamedTemporaryFile("w", prefix="burnish-", suffix=".txt", delete=False) as report:
            report.write(f"burnish {' '.join(arguments)}\n\n{traceback.format_exc()}")
        last = traceback.format_exc().strip().splitlines()[-1]
        print(
            f"burnish: this is our bug, not your mistake: {last}\n  please report {Path(report.name)}",
            file=sys.stderr,
        )
        return 70
    return code if isinstance(code, int) else 0
