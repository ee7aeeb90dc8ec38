"""What `burnish tune` may change, and within which ranges: ``sft.learning_rate=1e-4..1e-2``, ``adapt.rank=8,16,32``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from burnish.config import Recipe
from burnish.errors import ConfigError
from burnish.training.settings import FULL_SHARE

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TABLES = ("sft", "adapt")
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
Value = int | float | str


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a key may take: all from ``low`` to ``high`` (by factors, not by steps), or the ``choices``."""

    key: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices else f"{self.low:g}..{self.high:g}"

    def holds(self, value: Value) -> bool:
        """Whether a trial may have this value."""
        return value in self.choices if self.choices else not isinstance(value, str) and self.low <= value <= self.high

    def distribution(self) -> BaseDistribution:
        """The same for the search."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=True)
        return FloatDistribution(self.low, self.high, log=True)


DEFAULTS = (
    Range("sft.learning_rate", 1e-4, 1e-2),
    Range("adapt.rank", choices=(4, 8, 16, 32)),
    Range("sft.batch_size", choices=(4, 8, 16)),
    Range("sft.epochs", 1, 4, whole=True),
)


def parse_ranges(recipe: Recipe, given: Sequence[str]) -> tuple[Range, ...]:
    """The defaults, with what ``given`` says in their place or beside them.

    Raises:
        ConfigError: A range cannot be read, names a key that tune does not search, or holds a value that the recipe
            would not take.
    """
    ranges = {found.key: found for found in DEFAULTS}
    if recipe.adapt.method in ("full", "last"):  # weights move at a share of an adapter's rate, and have no rank
        del ranges["adapt.rank"]
        rate = ranges["sft.learning_rate"]
        ranges[rate.key] = replace(rate, low=FULL_SHARE * rate.low, high=FULL_SHARE * rate.high)
    for text in given:
        found = _parsed(text)
        for value in found.choices or (found.low, found.high):
            with_values(recipe, {found.key: int(value) if found.whole else value}, text)
        ranges[found.key] = found
    return tuple(ranges.values())


def with_values(recipe: Recipe, values: Mapping[str, Value], where: str = "") -> Recipe:
    """The recipe with other values under keys such as ``sft.learning_rate``.

    Raises:
        ConfigError: A key takes no such value.
    """
    raw = recipe.model_dump(mode="json")
    for key, value in values.items():
        table, _, name = key.partition(".")
        raw[table][name] = value
    try:
        return Recipe.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{first['input']!r} does not fit: {first['msg']}", where=where or None, mend="docs/reference/recipe.md"
        ) from error


def parse_budget(text: str) -> float:
    """Seconds of "2h", "90m", "1h30m" or "45s".

    Raises:
        ConfigError: It is none of these, or nothing.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if (
        not parts
        or "".join(a + b for a, b in parts) != text
        or not (total := sum(float(a) * UNITS[b] for a, b in parts))
    ):
        raise ConfigError(f'"{text}" is no budget of time', where="--budget", mend="2h, 90m, 1h30m or 45s")
    return total


def _parsed(text: str) -> Range:
    match = re.fullmatch(r"([a-z_]+)\.([a-z_]+)=(.+)", text.replace(" ", ""))
    mend = "sft.learning_rate=1e-4..1e-2 for a range, adapt.rank=8,16,32 for choices"
    if not match:
        raise ConfigError(f'"{text}" is no range', where="--range", mend=mend)
    table, name, values = match.groups()
    key = f"{table}.{name}"
    if table not in TABLES or name not in getattr(Recipe.model_fields[table].annotation, "model_fields", {}):
        raise ConfigError(
            f'tune does not search "{key}"', where="--range", mend="it searches keys of [sft] and [adapt]"
        )
    if ".." not in values:
        choices = tuple(dict.fromkeys(_value(v) for v in values.split(",")))
        if len(choices) < 2:
            raise ConfigError(f'"{text}" leaves nothing to choose', where="--range", mend=mend)
        return Range(key, choices=choices)
    low, high = (_value(v) for v in values.split("..", 1))
    if isinstance(low, str) or isinstance(high, str) or not 0 < low < high:
        raise ConfigError(f'"{text}" is no range of numbers above 0, the smaller one first', where="--range", mend=mend)
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(key, float(low), float(high), whole)


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
