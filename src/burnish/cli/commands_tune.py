"""The command that searches: tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.commands_run import TUNED, JsonOption, RecipeArgument, StoreOption, recipe_path, working
from burnish.cli.main import app
from burnish.cli.terminal import progress


@app.command()
def tune(
    recipe: RecipeArgument = None,
    budget: Annotated[str, typer.Option("--budget", help="Time in all: 2h, 90m, 1h30m or 45s.")] = "1h",
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            help="What to search, again for each key: sft.learning_rate=1e-4..1e-2, adapt.rank=8,16,32. Default: "
            "learning rate, rank, batch size and epochs of the supervised stage.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The recipe to write; default: NAME.tuned.toml beside the recipe.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search better settings by successive halving on dev rows alone, and write the winner as a recipe.

    Interrupted, the same command goes on from the last whole trial. The test split is never read.
    """
    from burnish.pipeline import Project
    from burnish.pipeline.ranges import parse_budget, parse_ranges
    from burnish.pipeline.tune import report, report_json, short
    from burnish.pipeline.tune import tune as search_settings
    from burnish.pipeline.tuned import require_place, write_tuned

    project = Project(recipe_path(recipe), store, progress())
    seconds, ranges = parse_budget(budget), parse_ranges(project.recipe, range_ or [])
    target = out or project.path.with_suffix(TUNED)
    require_place(project.path, target)
    with working(project, "tune"), project.store.run_lock("burnish tune"):
        found = search_settings(project, ranges, seconds)
    assert found.best is not None
    values = {key: float(short(v)) if isinstance(v, float) else v for key, v in found.best.values.items()}
    write_tuned(project.path, target, values, f"trial {found.best.number + 1} of {len(found.trials)}")
    if as_json:
        print(json.dumps(report_json(found) | {"written": str(target)}, indent=2))
    else:
        print("\n".join([*report(found), f"wrote {target}: burnish run {target}"]))
