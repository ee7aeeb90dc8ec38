"""Pages of a file that nobody wrote to are given back and read again; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.models.memory import let_go, unwritten_files

SIZE = 1 << 20  # numbers: 4 MB


@pytest.fixture
def mapped(tmp_path: Path) -> torch.Tensor:
    """A tensor that is mapped from a file, as safetensors does, and read once."""
    torch.arange(SIZE, dtype=torch.float32).numpy().tofile(tmp_path / "weights")
    tensor = torch.from_file(str(tmp_path / "weights"), shared=False, size=SIZE)
    assert tensor.sum() > 0
    return tensor


def resident(tensor: torch.Tensor) -> int:
    """KB of the tensor's pages that this process holds."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for place, line in enumerate(lines):
        first, _, rest = line.partition("-")
        if line[0] in "0123456789abcdef" and int(first, 16) <= tensor.data_ptr() < int(rest.split()[0], 16):
            return next(int(found.split()[1]) for found in lines[place:] if found.startswith("Rss:"))
    raise AssertionError("the tensor lies nowhere")


def test_pages_of_a_file_are_given_back_and_come_again(mapped: torch.Tensor) -> None:
    before, total = resident(mapped), mapped.sum()
    assert before >= 4096
    let_go([mapped], unwritten_files())
    assert resident(mapped) <= 8
    assert mapped.sum() == total and mapped[SIZE - 1] == SIZE - 1


def test_only_the_pages_of_the_tensors_named(mapped: torch.Tensor) -> None:
    let_go([mapped[: SIZE // 4]], unwritten_files())
    assert 1024 <= resident(mapped) <= 3072 + 8  # the kernel may map pages by the larger lot


def test_what_was_written_stays(mapped: torch.Tensor) -> None:
    mapped[7] = -1.0  # a page of this process's own: the file does not have it
    let_go([mapped], unwritten_files())
    assert mapped[7] == -1.0


def test_memory_of_no_file_stays() -> None:
    tensor = torch.ones(SIZE)
    let_go([tensor], unwritten_files())
    assert tensor.sum() == SIZE
