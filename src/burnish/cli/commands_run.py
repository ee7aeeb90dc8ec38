"""Commands that make things: init, check, prepare, train, run, repeat."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from burnish.cli.main import app
from burnish.cli.terminal import Panel, progress
from burnish.errors import DataError

if TYPE_CHECKING:
    from burnish.pipeline import Project

Stage = Literal["sft", "preference", "reward", "spans", "rl"]
TUNED = ".tuned.toml"  # how the names end that `burnish tune` gives

RecipeArgument = Annotated[
    Path | None, typer.Argument(help="The recipe; default: the only .toml file here that is no NAME.tuned.toml.")
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder of the store; default: .burnish beside the recipe.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]


def recipe_path(given: Path | None) -> Path:
    """The recipe that was named, or the only one in this folder; what `burnish tune` wrote there must be named.

    Raises:
        ConfigError: There is none, or more than one.
    """
    from burnish.errors import ConfigError

    if given is not None:
        return given
    others = ("pyproject.toml", "burnish.toml")
    found = [p for p in sorted(Path.cwd().glob("*.toml")) if p.name not in others and not p.name.endswith(TUNED)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} recipes here: {', '.join(p.name for p in found)}" if found else "there is no recipe here"
    raise ConfigError(what, mend="name one, or make one with `burnish init --data FILE`")


@contextmanager
def working(project: Project, command: str) -> Iterator[None]:
    """Long work of a command: an interruption says what is kept and leaves with 130; the panel goes in any case."""
    began = time.time()
    try:
        yield
    except KeyboardInterrupt:
        from burnish.pipeline.trained import kept

        _close(project)
        print(
            f"burnish: interrupted; {kept(project, began)}: `burnish {command} {project.path}` goes on from there",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    finally:
        _close(project)


def _close(project: Project) -> None:
    if isinstance(project.progress, Panel):
        project.progress.close()


@app.command()
def init(
    data: Annotated[Path | None, typer.Option("--data", help="Your rows: JSONL, JSON or CSV.")] = None,
    example: Annotated[str | None, typer.Option("--example", help="Start from a ready example: support.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where the recipe goes.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Take the default answer to every question.")] = False,
) -> None:
    """Write a recipe and a client for your rows."""
    from burnish.recipes import examples
    from burnish.recipes import init as setup

    if data is not None and example is None:
        inspection = setup.inspect(data)
        print("\n".join(inspection.lines()))
        answers = {
            question.key: question.default if yes else typer.prompt(question.text, default=question.default)
            for question in setup.questions(inspection)
        }
        written = setup.write_recipe(inspection, answers, folder)
        print(f"wrote {written} and {setup.write_client(folder)}")
    elif example is not None and data is None:
        written = examples.copy_example(example, folder)
        print(f"wrote {written} and its data")
    else:
        raise DataError("init needs your rows or an example", mend="burnish init --data rows.csv, or --example support")
    print(f"next: burnish check {written}, then burnish run {written}")


@app.command()
def check(
    recipe: RecipeArgument = None,
    store: StoreOption = None,
    raters: Annotated[
        int | None, typer.Option("--raters", min=0, help="People who can rate; default: those who have registered.")
    ] = None,
    no_time: Annotated[
        bool, typer.Option("--no-time", help="Do not take the two updates that tell time and memory.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look before any work: rows, what is trained, likeness, settings, price, gates that can never pass, advice."""
    from burnish.pipeline import Project
    from burnish.pipeline.preflight import preflight

    found = preflight(Project(recipe_path(recipe), store, progress()), raters, timed=not no_time)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print("\n".join(found.lines(colour=sys.stdout.isatty())))


@app.command()
def prepare(recipe: RecipeArgument = None, store: StoreOption = None) -> None:
    """Make the dataset alone: read, clean and split the rows, and say what was left out and why."""
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store, progress())
    with working(project, "prepare"), project.store.run_lock("burnish prepare"):
        made = project.prepare()
    counts = ", ".join(f"{count} {split}" for split, count in sorted(made.body["counts"].items()) if count)
    print(f"{made.id}: {counts} rows, {len(made.body['dropped'])} left out")


@app.command()
def train(
    recipe: RecipeArgument = None,
    stage: Annotated[
        Stage | None, typer.Option("--stage", help="The last stage to train; default: the recipe's last one.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train alone: the training stages up to one, with live figures; nothing is judged or promoted.

    Interrupted, it goes on from its last checkpoint. `burnish run` takes what it made and goes on.
    """
    from burnish.pipeline import Project
    from burnish.pipeline.trained import trained, trained_json

    project = Project(recipe_path(recipe), store, progress())
    with working(project, "train"):
        outcome = project.train(stage)
    print(json.dumps(trained_json(project, outcome), indent=2) if as_json else "\n".join(trained(project, outcome)))


@app.command()
def run(recipe: RecipeArgument = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Turn the loop: train, evaluate, gate, collect votes, learn a reward, improve, evaluate, gate, promote."""
    from burnish.pipeline import Project
    from burnish.pipeline.summary import summary, summary_json

    project = Project(recipe_path(recipe), store, progress())
    with working(project, "run"):
        outcome = project.run()
    if as_json:
        print(json.dumps(summary_json(project, outcome), indent=2))
    else:
        print("\n".join(summary(project, outcome)))
    if outcome.state == "refused":
        raise typer.Exit(1)


@app.command()
def repeat(
    recipe: RecipeArgument = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, with commas between.")] = "1,2,3",
    store: StoreOption = None,
) -> None:
    """Run the recipe once for each seed and pool the results over seeds and prompts."""
    from burnish.pipeline import Project
    from burnish.pipeline.repeat import parse_seeds, repeated

    project = Project(recipe_path(recipe), store, progress())
    with working(project, "repeat"):
        lines = repeated(project, parse_seeds(seeds))
    for line in lines:
        print(line)
