"""Loading own parts: from the recipe's folder or an installed package, from nowhere else, and hashed."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from burnish.config import Recipe
from burnish.errors import BurnishError, PartError
from burnish.parts.finder import RESERVED, elsewhere, import_from, in_folder
from burnish.records import Json

RULE = "an own part is package.module:function, from an installed package or a file beside the recipe"


@dataclass(frozen=True)
class Part:
    """A function that the recipe names. Calling it turns what it raises into a message with the user's file and line.

    ``source`` says which file, of which package version, with which digest; ``home`` are the files or the folder
    whose lines are the user's.
    """

    name: str
    function: Callable[..., Any]
    source: str
    home: tuple[Path, ...]

    def __call__(self, *arguments: Any, about: str = "", **options: Any) -> Any:
        """What the function returns; ``about`` ("row 12") is named where it raises.

        Raises:
            PartError: The function raised.
        """
        try:
            return self.function(*arguments, **options)
        except BurnishError:
            raise
        except (Exception, SystemExit) as error:
            raise _users_mistake(error, self.name, f"raised{f' on {about}' if about else ''}", self.home) from error


@dataclass(frozen=True)
class Parts:
    """The own parts of a recipe, by what they are."""

    sft: Part | None = None
    preference: Part | None = None
    credit: Part | None = None
    environment: Part | None = None
    metrics: tuple[Part, ...] = ()
    rewards: Mapping[str, Part] = field(default_factory=dict)  # by name


def parts_of(recipe: Recipe, folder: Path) -> Parts:
    """Load every own part that the recipe names.

    Raises:
        PartError: A name leads nowhere, or somewhere it must not; or the module's own code raises.
    """
    rl, sft = recipe.rl, recipe.sft.objective
    preference = recipe.preference.method if recipe.preference and ":" in recipe.preference.method else None
    rewards = [row.function for row in rl.rewards if row.function] if rl else []
    credit = rl.algorithm if rl and ":" in rl.algorithm else None
    environment = rl.environment if rl else None
    named = (sft, preference, credit, environment, *rewards, *recipe.evaluate.metrics)
    found = load([name for name in named if name], folder)
    return Parts(
        found[sft] if sft else None,
        found[preference] if preference else None,
        found[credit] if credit else None,
        found[environment] if environment else None,
        tuple(found[name] for name in recipe.evaluate.metrics),
        {name: found[name] for name in rewards},
    )


def sources(parts: Iterable[Part | None]) -> dict[str, Json]:
    """What a stage adds to its settings: ``{"parts": {name: source}}``; nothing where there is no own part."""
    found = {part.name: part.source for part in parts if part is not None}
    return {"parts": found} if found else {}


def load(names: Sequence[str], folder: Path) -> dict[str, Part]:
    """The parts of these names; a module that several of them name is imported once.

    Raises:
        PartError: See ``parts_of``.
    """
    folder = folder.resolve()
    modules: dict[str, tuple[ModuleType, str, tuple[Path, ...]]] = {}
    parts = {}
    for name in dict.fromkeys(names):
        module, _, function = name.partition(":")
        if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise PartError(f'"{name}" names no part', mend=RULE)
        if module not in modules:
            modules[module] = _import(name, module, folder)
        imported, source, home = modules[module]
        parts[name] = Part(name, _function(name, imported, function), source, home)
    return parts


def _import(name: str, module: str, folder: Path) -> tuple[ModuleType, str, tuple[Path, ...]]:
    """The module, its source in words, and where its own lines are."""
    top = module.partition(".")[0]
    if top in RESERVED:
        owner = "Burnish" if top == "burnish" else "Python's standard library"
        raise PartError(f'"{name}": the module {top} belongs to {owner}', mend=f"give your file another name; {RULE}")
    own, other = in_folder(top, folder), elsewhere(top, folder)
    if own and other:
        place = other.origin or top
        raise PartError(f'"{name}": there is {own} and also {place}', mend="give your file another name")
    try:
        if own:
            imported, read = import_from(module, folder)
            names = sorted(path.relative_to(folder).as_posix() for path in read)
            return imported, f"{', '.join(names)} {_digest(read.values())}", tuple(read)
        distribution = next(iter(metadata.packages_distributions().get(top, ())), None)
        if distribution is None:
            raise _nowhere(name, top, folder)
        imported = importlib.import_module(module)
    except PartError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise _nowhere(name, error.name, folder) from error
        home = (folder,) if own else ()
        raise _users_mistake(error, name, "cannot be imported:", home) from error
    path = Path(imported.__file__ or "")
    if not path.is_file():
        raise PartError(f'"{name}": {module} is no Python file', mend=RULE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return imported, f"{distribution} {metadata.version(distribution)} {path.name} {digest}", (path.parent,)


def _function(name: str, module: ModuleType, function: str) -> Callable[..., Any]:
    found = getattr(module, function, None)
    if found is None:
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(function, own, n=1)
        mend = f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(own) or 'no function'}"
        raise PartError(f'"{name}": there is no "{function}" in {module.__file__}', mend=mend)
    if not callable(found):
        raise PartError(f'"{name}" is a {type(found).__name__}, not a function', where=module.__file__)
    return found


def _nowhere(name: str, module: str, folder: Path) -> PartError:
    beside = sorted(path.name for path in folder.glob("*.py"))
    held = f"beside the recipe: {', '.join(beside)}" if beside else f"there is no Python file in {folder}"
    return PartError(f'"{name}": there is no module "{module}"', mend=f"{RULE}; {held}")


def _digest(digests: Iterable[str]) -> str:
    """One digest over the files that an import has read; of a single file, its own."""
    found = list(digests)
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(sorted(found)).encode()).hexdigest()


def _users_mistake(error: BaseException, name: str, verb: str, home: Sequence[Path]) -> PartError:
    """A message with the last line of the user's that the error passed through."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where: str | None
    if isinstance(error, SyntaxError) and error.filename:
        where, said = f"{error.filename} line {error.lineno}", f"{type(error).__name__}: {error.msg}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if any(_lies_in(Path(f.filename), place) for place in home)]
        where = f"{own[-1].filename} line {own[-1].lineno}" if own else None
    return PartError(f'"{name}" {verb} {said}', where=where, mend="this is in your own code, not in Burnish")


def _lies_in(path: Path, place: Path) -> bool:
    """Whether a file is the place or lies below it; a virtual environment beside the recipe is not the user's code."""
    return path.is_relative_to(place) and "site-packages" not in path.relative_to(place).parts
