"""How a version becomes ready to answer."""

from __future__ import annotations

from burnish.records import Record
from burnish.serving.lanes import Loaded, Loader
from burnish.store import Store

SLOTS = 32
MAX_LENGTH = 2048  # tokens of a prompt and its answer: bounds the memory of 32 caches


def loader(store: Store, slots: int = SLOTS, max_length: int = MAX_LENGTH) -> Loader:
    """Loads versions from the store, over one copy of their base's tensors where they share a base."""
    from burnish.models.artifacts import load_version
    from burnish.sampling import Engine

    like = None

    def load(record: Record) -> Loaded:
        nonlocal like
        loaded = load_version(store, record, like=like)  # replays the version's probe
        like = loaded.model
        return Loaded(Engine(loaded.model.merged(), slots=slots, max_length=max_length), loaded.renderer)

    return load
