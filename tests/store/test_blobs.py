"""Blobs are whole, named by their content, and never half there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import StoreError
from burnish.store import Store


def test_a_blob_is_named_by_its_sha256(store: Store) -> None:
    digest = store.blobs.put(b"weights")
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert store.blobs.read(digest) == b"weights"
    assert store.blobs.put(b"weights") == digest
    assert [path.name for path in store.blobs.all()] == [digest]


def test_a_tree_gives_back_its_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    tree = store.blobs.put_tree({"adapter/config.json": b"{}", "adapter/weights": tmp_path / "big"})
    files = store.blobs.tree(tree)
    assert {name: path.read_bytes()[:2] for name, path in files.items()} == {
        "adapter/config.json": b"{}",
        "adapter/weights": b"xx",
    }
    assert files["adapter/weights"].stat().st_mode & 0o222 == 0
    same = store.blobs.put_tree({"adapter/weights": tmp_path / "big", "adapter/config.json": b"{}"})
    assert same == tree


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "", ".", "a/../b", "a//b", "a\\b", "..", "a/"])
def test_a_name_that_leaves_the_tree_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="relative"):
        store.blobs.put_tree({name: b"x"})


def test_a_changed_byte_is_seen_on_reading_and_mended_by_writing_again(store: Store) -> None:
    tree = store.blobs.put_tree({"weights": b"weights"})
    path = store.blobs.tree(tree)["weights"]
    path.chmod(0o644)
    path.write_bytes(b"Weights")
    with pytest.raises(StoreError, match="changed on the disk"):
        store.blobs.read(path.name)
    with pytest.raises(StoreError, match="changed on the disk"):
        store.blobs.tree(tree)
    store.blobs.put(b"weights")
    assert store.blobs.read(path.name) == b"weights"


def test_a_missing_blob_and_a_blob_that_is_no_tree(store: Store) -> None:
    with pytest.raises(StoreError, match="not in the store"):
        store.blobs.read("0" * 64)
    with pytest.raises(StoreError, match="not a tree"):
        store.blobs.tree(store.blobs.put(b"no tree"))


def test_content_then_name_then_folder_reach_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.blobs.put(b"so that blobs/ and its partial/ exist")
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        happened.append("sync content" if path.parent.name == "partial" else f"sync {path.name}")
        fsync(handle)

    def seen_replace(self: Path, target: Path) -> Path:
        happened.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    digest = store.blobs.put(b"weights")
    assert happened == ["sync content", "sync blobs", "rename", f"sync {digest[:2]}"]


LIMITED = """
import resource, sys
from pathlib import Path
from burnish.errors import StoreError
from burnish.store import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.blobs.put_tree({"small": b"x", "weights": b"y" * 200_000})
except StoreError as error:
    print(error)
"""


def test_a_file_that_does_not_fit_leaves_nothing(store: Store) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(store.path)], capture_output=True, text=True, check=True)
    assert "MB are free" in done.stdout and str(store.path) in done.stdout
    assert [path.read_bytes() for path in store.blobs.all()] == [b"x"]
    assert list((store.path / "blobs" / "partial").iterdir()) == []


FULL = """
import sys
from pathlib import Path
from burnish.errors import StoreError
from burnish.store import open_store
sys.path.insert(0, sys.argv[2])
from store.samples import dataset, row, work
store = open_store(Path(sys.argv[1]) / ".burnish")
first = dataset(store, [row(1, "hello")])
refused = []

def attempt(what):
    try:
        what()
    except StoreError as error:
        refused.append(str(error))
        assert error.exit_code == 2

attempt(lambda: store.once(work(), lambda: {"adapter": store.blobs.put_tree({"weights": b"x" * 5_000_000})}))
attempt(lambda: dataset(store, [row(n, "y" * 10_000) for n in range(600)], seed=9))
print(len(refused), all("MB are free" in line and sys.argv[1] in line for line in refused))
print([record.id for record in store.records("support")] == [first.id], store.verify().problems)
print(len(list(store.blobs.all())), list((store.path / "blobs" / "partial").iterdir()))
store.close()
print(store.once(work(), lambda: {"adapter": store.blobs.put(b"small")}).name, store.verify().problems)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_on_a_full_disk_nothing_half_saved_is_listed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "full.py"
    script.write_text(FULL)
    tests = Path(__file__).parents[1]
    # a mount namespace of its own: the disk goes with the process
    command = f"mount -t tmpfs -o size=2m tmpfs {disk} && exec {sys.executable} {script} {disk} {tests}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True)
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("no right to mount here")
    assert done.stdout.splitlines() == ["2 True", "True []", "0 []", "support@0 []"], done.stderr
