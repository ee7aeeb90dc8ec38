"""Files named by the SHA-256 of what they hold: written whole or not at all, never changed.

Weights, tokenizers and reports go here; rows of data never do, because a file named by its content cannot
forget a part of it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from burnish.errors import StoreError
from burnish.records import Json
from burnish.store.database import explained
from burnish.store.hashing import CHUNK, canonical, file_digest


class Blobs:
    """The folder ``blobs/``: ``blobs/ab/abcd...``, and ``blobs/partial/`` for what is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Keep bytes; returns their digest once they are on the disk.

        Raises:
            StoreError: The disk is full; nothing is left behind.
        """
        return self._keep(iter([data]))

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file; returns its digest."""
        with explained(path), path.open("rb") as file:
            return self._keep(iter(lambda: file.read(CHUNK), b""))

    def put_tree(self, files: Mapping[str, bytes | Path]) -> str:
        """Keep several files under relative names; returns the digest of the manifest that lists them."""
        for name in files:
            pure = PurePosixPath(name)
            if not pure.parts or pure.is_absolute() or ".." in pure.parts or str(pure) != name or "\\" in name:
                raise StoreError(f"{name!r} is no relative file name", mend="use names such as adapter/config.json")
        kept = {name: self.put(f) if isinstance(f, bytes) else self.put_file(f) for name, f in files.items()}
        return self.put(canonical({"files": kept}).encode())

    def read(self, digest: str) -> bytes:
        """The bytes of a blob, checked against its name.

        Raises:
            StoreError: The blob is missing, erased, or was changed on the disk.
        """
        path = self._checked(digest)
        return path.read_bytes()

    def tree(self, digest: str) -> dict[str, Path]:
        """The files of a tree by name, each checked; read them, never write them.

        Raises:
            StoreError: The manifest or a file is missing or was changed, or the blob is no tree.
        """
        files = manifest(self.read(digest))
        if files is None:
            raise StoreError(f"blob {digest[:12]} is not a tree", where=str(self.folder))
        return {name: self._checked(content) for name, content in files.items()}

    def path(self, digest: str) -> Path:
        """Where a blob lies, or would lie."""
        return self.folder / digest[:2] / digest

    def all(self) -> Iterator[Path]:
        """Every blob's file."""
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(folder.iterdir())

    def _checked(self, digest: str) -> Path:
        path = self.path(digest)
        if not path.is_file():
            raise StoreError(f"blob {digest[:12]} is not in the store", where=str(path), mend="burnish verify")
        if file_digest(path) != digest:
            raise StoreError(f"blob {digest[:12]} was changed on the disk", where=str(path), mend="burnish verify")
        return path

    def _keep(self, chunks: Iterator[bytes]) -> str:
        with explained(self.folder):
            partial = self.folder / "partial"
            partial.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=partial)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                digest = file_digest(temporary)
                temporary.chmod(0o444)
                self._place(temporary, self.path(digest))
            finally:
                temporary.unlink(missing_ok=True)
        return digest

    def _place(self, temporary: Path, final: Path) -> None:
        if final.exists() and file_digest(final) == final.name:
            return
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            sync_folder(self.folder)
        temporary.replace(final)
        sync_folder(final.parent)


def manifest(data: bytes) -> dict[str, str] | None:
    """The name and digest of each file of a tree, None where the blob is something else."""
    if not data.startswith(b'{"files":'):
        return None
    try:
        files = json.loads(data)["files"]
    except ValueError:
        return None
    return files if isinstance(files, dict) and all(isinstance(f, str) for f in files.values()) else None


def digests_in(value: Json) -> Iterator[str]:
    """Every string in a value that could be a blob's digest."""
    if isinstance(value, str):
        if re.fullmatch(r"[0-9a-f]{64}", value):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from digests_in(item)


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk: a rename is durable only after this."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
