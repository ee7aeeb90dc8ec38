"""The compiled part of the sampler: ``kernel.c``, built once for this machine by its GCC, and called without a copy.

Where there is no GCC, or what it made does not load, there is no kernel, and torch's operators do the same sums.
Axes: T tokens, R rows, D inputs, O outputs, H query heads, K key heads, E width of a head, S slots, L length.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from burnish.config import host

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-fopenmp", "-shared", "-fPIC")
WIDTHS = 16  # a head's width is a multiple of it
PATIENCE = 120  # seconds; it takes two
N, P, F, T = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float, ctypes.c_int  # number, pointer, float, threads
ARGUMENTS = {
    "pack": (P, N, N, P),
    "product": (P, N, N, P, N, P, N, P, T),
    "norm": (P, N, N, N, N, P, F, P, T),
    "gate": (P, N, N, P, T),
    "place": (P, N, N, N, N, P, P, P, P, P, P, N, T),
    "attend": (P, N, N, N, N, N, P, P, P, P, N, F, P, T),
}


class Kernel:
    """Products and attention of float32 tensors on the CPU. Every sum has one order, whatever shares the step."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, arguments in ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
        library.panel.restype = N
        self._library, self._panel = library, int(library.panel())

    def pack(self, weight_OD: Tensor) -> Tensor:
        """A linear layer's weight as ``product`` reads it."""
        weight_OD, (outputs, inputs) = weight_OD.contiguous(), weight_OD.shape
        packed = torch.empty(-(-outputs // self._panel), inputs, self._panel)
        self._library.pack(weight_OD.data_ptr(), outputs, inputs, packed.data_ptr())
        return packed

    def product(self, x: Tensor, packed: Tensor, outputs: int, start: Tensor | None) -> Tensor:
        """x weight^T [..., O], added to ``start`` [..., O] or [O] where there is one."""
        x, inputs = x.contiguous(), x.shape[-1]
        out = x.new_empty(*x.shape[:-1], outputs)
        start = None if start is None else start.contiguous()
        address, stride = (None, 0) if start is None else (start.data_ptr(), 0 if start.dim() == 1 else outputs)
        rows, threads = x.numel() // inputs, torch.get_num_threads()
        self._library.product(
            x.data_ptr(), rows, inputs, packed.data_ptr(), outputs, address, stride, out.data_ptr(), threads
        )
        return out

    def norm(self, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """An RMS norm of the last axis of [T, D] or [T, rows, D], of which all but the first axis is contiguous."""
        tokens, width = len(x), x.shape[-1]
        each = 1 if x.dim() == 2 else x.shape[1]
        out = torch.empty(x.shape)
        self._library.norm(
            x.data_ptr(), x.stride(0), tokens, each, width, weight_D.data_ptr(), epsilon, out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out

    def gate(self, x_TF: Tensor) -> Tensor:
        """silu(first half) times the second half of a contiguous [T, 2 F]."""
        tokens, width = x_TF.shape[0], x_TF.shape[1] // 2
        out = x_TF.new_empty(tokens, width)
        self._library.gate(x_TF.data_ptr(), tokens, width, out.data_ptr(), torch.get_num_threads())
        return out

    def place(
        self, heads_THE: Tensor, cos_TE: Tensor, sin_TE: Tensor, keys: Tensor, values: Tensor, slots_T: Tensor,
        positions_T: Tensor,
    ) -> None:  # fmt: skip
        """Turn queries in place and keys by their positions; put keys and values where they belong, [S, K, L, E].

        ``heads`` holds queries, keys and values and is contiguous. ``sin`` has its first half negated.
        """
        _, keyed, length, width = keys.shape
        self._library.place(
            heads_THE.data_ptr(), len(heads_THE), heads_THE.shape[1] - 2 * keyed, keyed, width, cos_TE.data_ptr(),
            sin_TE.data_ptr(), keys.data_ptr(), values.data_ptr(), slots_T.data_ptr(), positions_T.data_ptr(), length,
            torch.get_num_threads(),
        )  # fmt: skip

    def attend(
        self, query_RHE: Tensor, keys: Tensor, values: Tensor, scale: float, slots_R: Tensor, positions_R: Tensor
    ) -> Tensor:
        """Each row over its slot up to its position, [R, H, E]; the last two axes of ``query`` are contiguous."""
        (rows, queries, width), (_, keyed, length, _) = query_RHE.shape, keys.shape
        out_RHE = query_RHE.new_empty(rows, queries, width)
        self._library.attend(
            query_RHE.data_ptr(), query_RHE.stride(0), rows, queries, keyed, width, keys.data_ptr(), values.data_ptr(),
            slots_R.data_ptr(), positions_R.data_ptr(), length, scale, out_RHE.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out_RHE


@functools.cache
def kernel() -> Kernel | None:
    """The kernel of this machine; None where it cannot be built."""
    return build("native")


def fallback() -> str:
    """Why answers are drawn by torch's operators though a kernel would be faster; "" where there is nothing to mend."""
    if host.device() != "cpu" or host.dtype() != "float32" or kernel() is not None:
        return ""
    return "answers are drawn more slowly, by PyTorch's operators: " + (
        "gcc does not build the faster kernel here" if shutil.which("gcc") else "install gcc for the faster kernel"
    )


def build(processor: str) -> Kernel | None:
    """The kernel for a processor by GCC's name; None where it cannot be built or run here.

    It is built where the cache has none of this source, compiler and processor.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    flags = (*FLAGS, f"-march={processor}")
    try:
        target = _run(compiler, flags[-1], "-dM", "-E", "-x", "c", os.devnull)  # its version, the processor's features
        digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(flags).encode() + target).hexdigest()[:16]
        library = host.cache_folder() / "kernels" / f"{digest}.so"
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=library.parent) as folder:
                made = Path(folder) / library.name
                _run(compiler, *flags, str(SOURCE), "-o", str(made))
                Kernel(ctypes.CDLL(str(made)))  # what does not load is not kept
                made.replace(library)
        return Kernel(ctypes.CDLL(str(library)))
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout
