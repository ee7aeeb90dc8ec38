"""The versions that are loaded: each gets a lane of its own, and the longest unused one makes room for the next."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from burnish.data import Renderer
from burnish.errors import BurnishError, ServingError
from burnish.records import Record
from burnish.serving.ticket import Ticket

if TYPE_CHECKING:
    from burnish.sampling import Engine

log = logging.getLogger(__name__)

LOADED = 2  # versions kept loaded; one that is answering is never dropped


@dataclass(frozen=True)
class Loaded:
    """A version that can answer."""

    engine: Engine
    renderer: Renderer


Loader = Callable[[Record], Loaded]


@dataclass(eq=False)
class Lane:
    """A version that is loaded or loading. ``users`` are the requests pinned to it; ``tickets``, by the engine's
    number for them, belong to the answering thread."""

    record: Record
    loaded: Future[Loaded]
    users: int = 0
    tickets: dict[int, Ticket] = field(default_factory=dict)


class Lanes:
    """Loads versions in a thread of its own, so that those that are loaded go on answering meanwhile."""

    def __init__(self, loader: Loader, failed: Callable[[Record, Exception], None]) -> None:
        self._loader, self._failed = loader, failed
        self._lanes: OrderedDict[str, Lane] = OrderedDict()  # the longest unused first
        self._lock = threading.Lock()
        self._loading = ThreadPoolExecutor(1, "burnish-load")

    def enter(self, record: Record) -> Lane:
        """The version's lane, with one more user; begins to load it where it is not loaded."""
        with self._lock:
            lane = self._lanes.get(record.id)
            if lane is None:
                lane = self._lanes[record.id] = Lane(record, Future())
                self._loading.submit(self._load, lane)
            self._lanes.move_to_end(record.id)
            lane.users += 1
            self._make_room()
            return lane

    def leave(self, lane: Lane) -> None:
        """One user less."""
        with self._lock:
            lane.users -= 1
            self._make_room()

    def drop(self, lane: Lane) -> None:
        """Forgets a version that failed: the next request loads it anew."""
        with self._lock:
            if self._lanes.get(lane.record.id) is lane:
                del self._lanes[lane.record.id]

    def all(self) -> list[Lane]:
        """Every lane, the one used last at the end."""
        with self._lock:
            return list(self._lanes.values())

    def users(self) -> int:
        """Requests that are loading, waiting or being answered."""
        with self._lock:
            return sum(lane.users for lane in self._lanes.values())

    def close(self) -> None:
        """Waits for a load that has begun."""
        self._loading.shutdown(cancel_futures=True)

    def _make_room(self) -> None:
        unused = [lane for lane in self._lanes.values() if not lane.users and lane.loaded.done()]
        for lane in unused[: max(0, len(self._lanes) - LOADED)]:
            del self._lanes[lane.record.id]

    def _load(self, lane: Lane) -> None:
        try:
            lane.loaded.set_result(self._loader(lane.record))
        except Exception as error:
            log.exception("%s cannot be loaded", lane.record.name)
            self.drop(lane)
            self._failed(lane.record, error)
            why = f": {error.what}" if isinstance(error, BurnishError) else "; the server's log says why"
            lane.loaded.set_exception(ServingError(f"{lane.record.name} cannot be loaded{why}"))
