"""Reading a recipe: one strict TOML file for what changes the model or a decision.

An unknown key is an error that names the nearest known one and its line; a table that is absent is a stage that does
not run.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from burnish.config.recipe import Recipe
from burnish.config.table import Table
from burnish.errors import ConfigError


def load(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: The file is missing or not TOML, a key is unknown or missing, or a value does not fit.
    """
    if not path.is_file():
        raise ConfigError(f"there is no recipe at {path}", mend="burnish init --data FILE writes one")
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError("the recipe is not UTF-8", where=str(path), mend="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error
    raw.setdefault("name", path.stem.lower())
    _require_known_keys(Recipe, raw, (), path, text)
    try:
        return Recipe.model_validate_json(_as_json(raw))
    except ValidationError as error:
        raise _explain(error, path, text) from error


def _as_json(raw: dict[str, Any]) -> str:
    """TOML arrays as JSON arrays: strict models then take them as tuples, and still refuse "1e-4" as a number."""
    return json.dumps(raw, default=str)


def _table_of(annotation: Any) -> type[Table] | None:
    """The table model inside ``Reward | None`` or ``tuple[Gate, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, Annotated):
        return next((t for t in map(_table_of, get_args(annotation)) if t), None)
    return None


def _require_known_keys(table: type[Table], raw: dict[str, Any], at: tuple[str, ...], path: Path, text: str) -> None:
    for key, value in raw.items():
        if key not in table.model_fields:
            near = difflib.get_close_matches(key, table.model_fields, n=1, cutoff=0.5)
            known = ", ".join(table.model_fields)
            mend = f'did you mean "{near[0]}"?' if near else f"known here: {known}"
            raise ConfigError(f'unknown key "{".".join((*at, key))}"', where=_place(path, text, (*at, key)), mend=mend)
        inner = _table_of(table.model_fields[key].annotation)
        if inner:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _require_known_keys(inner, part, (*at, key), path, text)


def _explain(error: ValidationError, path: Path, text: str) -> ConfigError:
    first = error.errors()[0]
    keys = tuple(str(part) for part in first["loc"] if isinstance(part, str) and part.isidentifier())
    keys = _existing(keys)
    name = ".".join(keys)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return ConfigError(f'the required key "{name}" is missing', where=str(path), mend=f"add {keys[-1]} = ...")
    whole = isinstance(first["input"], dict)  # a rule over several keys of a table
    what = f"[{name}]: {message}" if keys and whole else message
    what = f'"{name}" cannot be {first["input"]!r}: {message}' if keys and not whole else what
    quoted = first["type"] in ("float_type", "int_type") and _is_number(first["input"])
    mend = f"write the number without quotes: {keys[-1]} = {first['input']}" if quoted else _meaning(keys)
    return ConfigError(what, where=_place(path, text, keys), mend=mend)


def _is_number(value: Any) -> bool:
    """Whether a text is one number, as a person writes it."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _existing(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The path of keys without pydantic's names of union members."""
    table: type[Table] | None = Recipe
    kept: list[str] = []
    for key in keys:
        if table is None or key not in table.model_fields:
            break
        kept.append(key)
        table = _table_of(table.model_fields[key].annotation)
    return tuple(kept)


def _meaning(keys: tuple[str, ...]) -> str | None:
    table: type[Table] | None = Recipe
    meaning = None
    for key in keys:
        if table is None:
            break
        meaning = table.model_fields[key].description
        table = _table_of(table.model_fields[key].annotation)
    return meaning


def _place(path: Path, text: str, keys: tuple[str, ...]) -> str:
    """``recipe.toml line 12`` where the key is found as written, else the file alone."""
    table, wanted = ".".join(keys[:-1]), keys[-1] if keys else ""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            current = stripped.strip("[] ").split("#")[0].strip("[] ")
            if current == ".".join(keys):
                return f"{path} line {number}"
        elif current == table and stripped.split("=")[0].strip().strip('"') == wanted and "=" in stripped:
            return f"{path} line {number}"
    return str(path)


def describe() -> list[tuple[str, str, str]]:
    """Every key as (name, default, meaning), in the order of the circle: the source of the reference page."""
    return list(_describe(Recipe, ""))


def _describe(table: type[Table], prefix: str) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, field in table.model_fields.items():
        inner = _table_of(field.annotation)
        if inner:
            rows += _describe(inner, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else repr(field.default)
        rows.append((prefix + name, default, field.description or ""))
    return rows
