"""The one place where routers are mounted: whatever is mounted here stands behind the guard."""

from __future__ import annotations

from fastapi import FastAPI

from burnish.serving import openai
from burnish.web import pages
from burnish.web.context import Context
from burnish.web.security import guard


def create_app(context: Context) -> FastAPI:
    """The API and the pages, behind the guard."""
    # no /docs: it loads scripts from elsewhere; the routes are described in docs/reference
    app = FastAPI(title="Burnish", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(openai.router(context.service))
    app.include_router(pages.router(context))
    return guard(app, context.token)
