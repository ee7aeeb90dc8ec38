"""Commands that look, and the few that decide: status, versions, promotion, lineage, erasure."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.commands_run import JsonOption, RecipeArgument, StoreOption, recipe_path
from burnish.cli.main import app
from burnish.cli.terminal import progress
from burnish.errors import ConfigError, Refused
from burnish.records import FigureFormat

models = typer.Typer(help="Versions and their cards.", no_args_is_help=True)
app.add_typer(models, name="models")
store_commands = typer.Typer(help="The store on this disk.", no_args_is_help=True)
app.add_typer(store_commands, name="store")
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", help="The recipe; default: the only .toml file here that is no NAME.tuned.toml."),
]
ByOption = Annotated[str, typer.Option("--by", help="Who decides; kept in the promotion log.")]


@app.command()
def status(recipe: RecipeArgument = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What serves, where the turn stands, how many votes are in."""
    from burnish.pipeline import Project
    from burnish.pipeline.summary import status_json, status_lines

    project = Project(recipe_path(recipe), store, progress())
    print(json.dumps(status_json(project), indent=2) if as_json else "\n".join(status_lines(project)))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version, such as support@2.")],
    recipe: RecipeOption = None,
    store: StoreOption = None,
    by: ByOption = "command line",
) -> None:
    """Let a version serve. Only one whose own verdict passed."""
    from burnish import registry
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    registry.promote(project.store, project.recipe.name, version, by=by)
    print(f"{project.store.record(version).name} serves now")


@app.command()
def rollback(recipe: RecipeArgument = None, store: StoreOption = None, by: ByOption = "command line") -> None:
    """Let the version serve that served before."""
    from burnish import registry
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    line = registry.rollback(project.store, project.recipe.name, by=by)
    print(f"{project.store.record(line.version).name} serves again")


@app.command()
def history(
    recipe: RecipeArgument = None,
    at: Annotated[datetime | None, typer.Option("--at", help="What served at this time (UTC).")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The promotion log, or what served at a time."""
    from dataclasses import asdict

    from burnish import registry
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    if at is not None:
        serving = registry.production(project.store, project.recipe.name, at=at)
        print(serving.name if serving else "nothing was in production")
        return
    lines = registry.history(project.store, project.recipe.name)
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
        return
    for line in lines:
        name = project.store.record(line.version).name
        print(f"{line.created_at}  {line.action:9} {name:20} by {line.by}  verdict {line.verdict or '-'}")
    if not lines:
        print("nothing has been promoted yet")


@app.command()
def lineage(
    record: Annotated[str, typer.Argument(help="A record's id, its beginning, or a version's name.")],
    recipe: RecipeOption = None,
    store: StoreOption = None,
) -> None:
    """What a record was made from, and what was made from it."""
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    found = project.store.lineage(record)
    for title, records in (("made from", found.ancestors), ("went into", found.descendants)):
        print(f"{title}:")
        for item in records:
            print(f"  {item.id:32} {item.name or ''}  {item.created_at}")
        if not records:
            print("  nothing")


@app.command()
def metrics(
    run: Annotated[str, typer.Argument(help="A version, such as support@2, a record's id, or a run's folder.")],
    format: Annotated[FigureFormat, typer.Option("--format", help="Of what is written.")] = "jsonl",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file, for tensorboard the folder; default: standard output.")
    ] = None,
    recipe: RecipeOption = None,
    store: StoreOption = None,
) -> None:
    """Export the figures that a run logged, one line for each update: JSONL, CSV, Parquet or TensorBoard."""
    from burnish.monitoring import export
    from burnish.monitoring.runs import by_update, require_run
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    found = require_run(project.store, project.recipe.name, run)
    if out is not None:
        print(f"{export.export(found.lines, format, out)} updates of {found.label} in {out}")
    elif format in ("jsonl", "csv"):
        rows = by_update(found.lines)
        sys.stdout.write((export.as_jsonl(rows) if format == "jsonl" else export.as_csv(rows)).decode())
    else:
        raise ConfigError(f"{format} does not go to standard output", mend="name a place with --out")


@app.command()
def verify(recipe: RecipeArgument = None, store: StoreOption = None) -> None:
    """Read everything again and compare it with its hash."""
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    result = project.store.verify()
    for problem in result.problems:
        print(problem)
    print(f"{result.checked} things checked, {result.tombstones} erased, {len(result.problems)} problems")
    if result.problems:
        raise Refused("the store is not what was written", mend="bring the files back from a copy; a checkpoint may go")


@app.command()
def forget(
    where: Annotated[str, typer.Option("--where", help="Whose data: subject=ID.")],
    recipe: RecipeArgument = None,
    store: StoreOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a person's rows, prompts, answers and votes; say which versions were trained on them."""
    from burnish.pipeline import Project

    key, _, subject = where.partition("=")
    if key != "subject" or not subject:
        raise ConfigError(f'"{where}" does not say whose data', mend="--where subject=ID")
    project = Project(recipe_path(recipe), store)
    if not yes:
        typer.confirm(f"Erase everything of subject {subject}? This cannot be undone", abort=True)
    gone = project.store.forget(project.recipe.name, subject)
    print(f"{gone.texts} texts erased")
    if gone.versions:
        print(f"trained on them: {', '.join(gone.versions)}")


@store_commands.command("gc")
def store_gc(
    recipe: RecipeArgument = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Free disk space: the cache (hidden states, reference logprobs) and checkpoints of work that is done."""
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    freed = project.store.collect_garbage(dry_run)
    for folder in freed.folders:
        print(folder.relative_to(project.store.path))
    print(f"{freed.bytes / 1e6:.1f} MB {'would be' if dry_run else 'were'} freed")


@models.command("list")
def models_list(recipe: RecipeArgument = None, store: StoreOption = None) -> None:
    """Every version, oldest first."""
    from burnish import registry
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    serving = registry.production(project.store, project.recipe.name)
    for record in project.store.records(project.recipe.name, "version"):
        mark = "serves" if serving and record.id == serving.id else ""
        print(f"{record.name:20} {record.body['stage']:8} {record.created_at}  {record.id}  {mark}")


@models.command("card")
def models_card(
    version: Annotated[str, typer.Argument(help="A version, such as support@2.")],
    recipe: RecipeOption = None,
    store: StoreOption = None,
) -> None:
    """The card of a version: what it was made of, how it was judged."""
    from burnish import registry
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store)
    print(registry.card(project.store, project.store.record(version)))


@models.command("import")
def models_import(
    adapter: Annotated[Path, typer.Argument(help="A folder with adapter_config.json and adapter_model.safetensors.")],
    recipe: RecipeOption = None,
    base: Annotated[str | None, typer.Option("--base", help="Its base; default: the recipe's.")] = None,
    store: StoreOption = None,
) -> None:
    """Bring in an adapter made by another tool, as a version."""
    from burnish.pipeline import Project

    project = Project(recipe_path(recipe), store, progress())
    print(
        f"{project.import_adapter(adapter, base).name} is a version now; a recipe goes on from it where it is the base"
    )
