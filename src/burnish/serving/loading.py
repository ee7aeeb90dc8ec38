"""How a version becomes ready to answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from burnish.errors import ServingError
from burnish.records import Record
from burnish.serving.lanes import Loaded, Loader
from burnish.store import Store

if TYPE_CHECKING:
    from burnish.models.language import LanguageModel

SLOTS = 32
MAX_LENGTH = 2048  # tokens of a prompt and its answer: bounds the memory of 32 caches


def loader(store: Store, cache: Path | None = None, slots: int = SLOTS, max_length: int = MAX_LENGTH) -> Loader:
    """Loads versions from the store, over one copy of their base's tensors where they share a base.

    Without torch it still returns: the first load then raises ServingError.
    """
    like: LanguageModel | None = None

    def load(record: Record) -> Loaded:
        nonlocal like
        try:
            from burnish.models.artifacts import load_version
            from burnish.sampling import Engine
        except ModuleNotFoundError as error:
            raise ServingError(f"answers need {error.name}", mend='pip install "burnish[train]"') from error
        loaded = load_version(store, record, cache, like=like)  # replays the version's probe
        if not loaded.model.changed:  # one with weights of its own has no base to share
            like = loaded.model
        return Loaded(Engine(loaded.model, slots=slots, max_length=max_length), loaded.renderer)

    return load
