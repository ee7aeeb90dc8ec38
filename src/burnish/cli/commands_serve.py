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
    from importlib.util import find_spec

    from burnish.pipeline import Project
    from burnish.serving.loading import loader
    from burnish.serving.server import bind
    from burnish.serving.server import serve as serve_app
    from burnish.serving.service import AnswerService
    from burnish.web.app import create_app
    from burnish.web.context import Context
    from burnish.web.security import access_token

    project = Project(recipe_path(recipe), store, progress())
    bind(port).close()  # a port in use is said before anything is loaded
    if find_spec("torch") is not None:  # without the training extra the pages still open
        project.base()
    name, token = project.recipe.name, access_token(project.store.path)
    service = AnswerService(project.store, name, project.recipe, loader(project.store, project.cache))
    app = create_app(Context(project.store, name, project.recipe, service, token))
    serving = service.version().name if project.store.records(name, "version") else "nothing yet: `burnish run` first"
    print(f"{name}: {serving}. Chat, compare and vote here (Ctrl-C stops):", flush=True)
    serve_app(app, service, token=token, port=port)
