"""The pages' routes: server-rendered HTML, the static files, and the JSON that the pages' scripts read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from burnish.monitoring.export import as_csv, as_jsonl
from burnish.monitoring.runs import all_runs, by_update, find_run
from burnish.records import Json
from burnish.serving.problem import Problem
from burnish.serving.request import parse, read_json
from burnish.web import circle, comparing, criteria, runs, versions, words
from burnish.web.charts import last_figures
from burnish.web.context import Context

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
Body = Annotated[dict[str, Json], Depends(read_json)]


class NextBody(BaseModel):
    """POST /pages-api/compare/next and /pages-api/mark/next: who asks, and what they skipped."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rater: str
    skipped: Annotated[list[str], Field(max_length=500)] = []


def router(context: Context) -> APIRouter:
    """The pages, /static and /pages-api; authentication is the app's."""
    pages, routes = _Pages(context), APIRouter()
    for path, page in (
        ("/", pages.home),
        ("/chat", pages.chat),
        ("/compare", pages.compare),
        ("/mark", pages.mark),
        ("/runs", pages.runs),
        ("/runs/{key}", pages.run),
        ("/versions", pages.versions),
        ("/versions/{name}", pages.version),
    ):
        routes.add_api_route(path, page, methods=["GET"], response_class=HTMLResponse)
    routes.add_api_route("/static/{name}", pages.static, methods=["GET"], response_model=None)
    routes.add_api_route("/pages-api/runs/{key}", pages.metrics, methods=["GET"])
    routes.add_api_route("/pages-api/runs/{key}/figures/{format}", pages.figures, methods=["GET"], response_model=None)
    routes.add_api_route("/pages-api/compare/next", pages.next_pair, methods=["POST"])
    routes.add_api_route("/pages-api/mark/next", pages.next_answer, methods=["POST"])
    return routes


class _Pages:
    """The handlers. None is async: they run in the thread pool, so that SQLite never holds up the event loop."""

    def __init__(self, context: Context) -> None:
        self.context, self.store, self.project = context, context.store, context.project
        # read once: a name that is not among these is no file, whatever it says
        self.files = {path.name: path.read_bytes() for path in (HERE / "static").iterdir() if path.suffix in TYPES}
        self.tags = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in self.files.items()}
        self.jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self.jinja.filters |= {
            "when": words.when,
            "number": words.number,
            "ruled": words.ruled,
            "last_figures": last_figures,
        }
        self.jinja.globals |= {
            "project": context.project,
            "static": lambda name: f"/static/{name}",
            "types": context.recipe.error_types,
        }

    def home(self) -> Response:
        """What serves and why, the circle, the last figures, the votes."""
        store, project = self.store, self.project
        return self._page(
            "home.html",
            "/",
            serving=circle.serving(store, project),
            circle=circle.circle(store, project, self.context.recipe),
            quality=circle.quality(store, project),
            votes=circle.votes(store, project),
        )

    def chat(self) -> Response:
        """Talk to the version in production."""
        found = circle.serving(self.store, self.project)
        return self._page("chat.html", "/chat", serving=found["name"] if found else None)

    def compare(self) -> Response:
        """Two answers, blind."""
        store, project = self.store, self.project
        open, foreseen = comparing.open_pairs(store, project), comparing.foreseen(store, project)
        asked = self.context.recipe.feedback.criteria
        return self._page("compare.html", "/compare", open=open, foreseen=foreseen, criteria=asked)

    def mark(self) -> Response:
        """One answer, whose errors are marked."""
        return self._page("mark.html", "/mark")

    def runs(self) -> Response:
        """Every stage that logged something."""
        return self._page("runs.html", "/runs", runs=all_runs(self.store, self.project))

    def run(self, key: str, beside: Annotated[list[str], Query(alias="with")] = []) -> Response:  # noqa: B006
        """The charts of one stage, and of others ``beside`` it."""
        found = find_run(self.store, self.project, key)
        if found is None:
            return self._missing("/runs", f"There is no run {key}.")
        return self._page(
            "run.html",
            "/runs",
            run=found,
            state=runs.in_words(found),
            facts=runs.facts(self.store, found),
            criteria=criteria.of_reward(self.store, self.project, found.record, self.context.recipe),
            **runs.beside(self.store, self.project, found, beside),
        )

    def versions(self) -> Response:
        """Every version, and the promotion log."""
        store, project = self.store, self.project
        return self._page(
            "versions.html",
            "/versions",
            versions=versions.listed(store, project),
            history=versions.history(store, project),
        )

    def version(self, name: str) -> Response:
        """One version: verdict, card, lineage."""
        found = versions.find_version(self.store, self.project, name)
        if found is None:
            return self._missing("/versions", f"There is no version {name}.")
        return self._page("version.html", "/versions", version=versions.view(self.store, self.project, found))

    def static(self, name: str, request: Request) -> Response:
        """A stylesheet, script or icon of ours."""
        if name not in self.files:
            raise Problem(404, "there is no such file")
        headers = {"ETag": f'"{self.tags[name]}"', "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(self.files[name], media_type=TYPES[Path(name).suffix], headers=headers)

    def metrics(self, key: str, after: Annotated[int, Field(ge=0)] = 0) -> dict[str, Json]:
        """What a run has logged since line ``after``, its charts, and new samples."""
        found = find_run(self.store, self.project, key)
        if found is None:
            raise Problem(404, f"there is no run {key}")
        return runs.since(self.store, self.project, found, after)

    def figures(self, key: str, format: Literal["csv", "jsonl"]) -> Response:
        """All that a run logged, one line for each update, as a file."""
        found = find_run(self.store, self.project, key)
        if found is None:
            raise Problem(404, f"there is no run {key}")
        rows = by_update(found.lines)
        data, kind = (as_csv(rows), "text/csv") if format == "csv" else (as_jsonl(rows), "application/jsonl")
        place = {"Content-Disposition": f'attachment; filename="{found.key}.{format}"'}
        return Response(data, media_type=kind, headers=place)

    def next_pair(self, body: Body) -> dict[str, Json]:
        """The next two answers for a rater, blind, and how far they are."""
        asked = parse(NextBody, body)
        return comparing.next_pair(self.store, self.project, asked.rater, asked.skipped)

    def next_answer(self, body: Body) -> dict[str, Json]:
        """The next answer for a rater to mark, and how many are left."""
        asked = parse(NextBody, body)
        return comparing.next_answer(self.store, self.project, asked.rater, asked.skipped)

    def _page(self, template: str, here: str, status: int = 200, **shown: Any) -> Response:
        return HTMLResponse(self.jinja.get_template(template).render(here=here, **shown), status)

    def _missing(self, here: str, what: str) -> Response:
        return self._page("missing.html", here, 404, what=what)
