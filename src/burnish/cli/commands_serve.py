"""The serve command."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.commands_run import RecipeArgument, StoreOption, recipe_path
from burnish.cli.main import app
from burnish.cli.terminal import progress


@app.command()
def serve(
    recipe: RecipeArgument = None,
    store: StoreOption = None,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port on this machine's loopback address.")
    ] = 8321,
) -> None:
    """Serve the version in production: the API, and the pages to chat, compare and watch."""
    from burnish.pipeline import Project
    from burnish.pipeline.hosting import host

    host(Project(recipe_path(recipe), store, progress()), port)
