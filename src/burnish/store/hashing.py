"""Canonical JSON, the digests over it, and the seeds and clocks that records are made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from burnish.errors import StoreError
from burnish.records import Json

CHUNK = 1 << 20


def canonical(value: Json) -> str:
    """The one JSON text of a value: sorted keys, no blanks, ASCII; nan is written as ``{"float": "nan"}``.

    Raises:
        StoreError: Something in ``value`` is no JSON; the message says where.
    """
    return json.dumps(_plain(value, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: str) -> Json:
    """The value of a canonical text, with its nan and infinities as floats again."""
    return json.loads(text, object_hook=_refloat)


def digest_of(value: Json) -> str:
    """SHA-256 over the canonical text, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 over the bytes of a file, in hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def derive_seed(seed: int, *names: str) -> int:
    """A seed below 2**31 for one named use of the recipe's seed: the same names give the same seed."""
    return int(digest_of([seed, *names])[:8], 16) % 2**31


def now() -> str:
    """The time as ISO 8601 in UTC with microseconds: its text order is its time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _plain(value: Json, at: str) -> Json:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise StoreError(f"the key {wrong!r} is no text", where=at or None, mend="JSON keys are strings")
        return {key: _plain(item, f"{at}.{key}" if at else key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{at}[{index}]") for index, item in enumerate(value)]
    kind = type(value).__name__
    raise StoreError(f"a {kind} cannot be kept as JSON", where=at or None, mend="give numbers, text, lists, dicts")


def _refloat(item: dict[str, Json]) -> Json:
    if len(item) == 1 and item.get("float") in ("nan", "inf", "-inf"):
        return float(item["float"])
    return item
