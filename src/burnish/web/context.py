"""What every page and route needs to know: made once by `burnish serve`, handed to each router."""

from __future__ import annotations

from dataclasses import dataclass, field

from burnish.config import Recipe
from burnish.serving.service import AnswerService
from burnish.store import Store


@dataclass(frozen=True)
class Context:
    """One server: the store, the project that it serves, its recipe, the answering service, and the access token."""

    store: Store
    project: str
    recipe: Recipe
    service: AnswerService
    token: str = field(repr=False)
