"""Imports from a recipe's folder: only while a part is loaded, and always from the bytes that are hashed.

Modules of two projects may have the same name: what came from a folder leaves ``sys.modules`` when the import is over.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import FileFinder, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

RESERVED = sys.stdlib_module_names | {"burnish"}


class _Loader(SourceFileLoader):
    """Compiles what it reads, without bytecode files, and keeps the digest of what it read."""

    read: dict[Path, str]

    def get_code(self, fullname: str) -> CodeType:
        data = self.get_data(self.path)
        self.read[Path(self.path)] = hashlib.sha256(data).hexdigest()
        return self.source_to_code(data, self.path)


class _Finder:
    """Finds the modules of one folder; knows nothing of any other."""

    def __init__(self, folder: Path, read: dict[Path, str]) -> None:
        self.folder = folder
        self.loader = type("_Loader", (_Loader,), {"read": read})

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and not is_own(fullname, self.folder):
            return None
        for place in [str(self.folder)] if path is None else path:
            if Path(place).is_relative_to(self.folder):
                spec = FileFinder(place, (self.loader, [".py"])).find_spec(fullname)
                if spec is not None and spec.loader is not None:
                    return spec
        return None


def is_own(top: str, folder: Path) -> bool:
    """Whether ``top`` is a module of the folder, and of nowhere else."""
    return top not in RESERVED and in_folder(top, folder) is not None and elsewhere(top, folder) is None


def in_folder(top: str, folder: Path) -> Path | None:
    """The file of the folder's module or package ``top``; a link that leads out of the folder is none."""
    for path in (folder / f"{top}.py", folder / top / "__init__.py"):
        if path.is_file() and path.resolve().is_relative_to(folder):
            return path
    return None


def elsewhere(top: str, folder: Path) -> ModuleSpec | None:
    """The module ``top`` of any other place on the path."""
    places = [place for place in sys.path if Path(place).resolve() != folder]
    return PathFinder.find_spec(top, places)


def import_from(module: str, folder: Path) -> tuple[ModuleType, dict[Path, str]]:
    """The folder's module, and the digest of each of the folder's files that its import has read.

    Whatever the module's own code raises passes through.
    """
    read: dict[Path, str] = {}
    with _away(folder):
        finder = _Finder(folder, read)
        sys.meta_path.insert(0, finder)
        try:
            return importlib.import_module(module), read
        finally:
            sys.meta_path.remove(finder)


@contextmanager
def _away(folder: Path) -> Iterator[None]:
    """Modules named like the folder's are out of sight during the import, and the folder's own after it."""
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    own = {name for name in names if is_own(name, folder)}

    def taken() -> dict[str, ModuleType]:
        found = [name for name in sys.modules if name.partition(".")[0] in own]
        return {name: sys.modules.pop(name) for name in found}

    before = taken()
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)
