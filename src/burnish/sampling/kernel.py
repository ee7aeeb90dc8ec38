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
from typing import NamedTuple

import torch
from torch import Tensor

from burnish.config import host

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-fopenmp", "-shared", "-fPIC")
WIDTHS = 16  # a head's width is a multiple of it
PATIENCE = 120  # seconds; it takes one
N, P, F, T = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float, ctypes.c_int  # number, pointer, float, threads
ARGUMENTS = {
    "pack": (P, N, N, P, T),
    "product": (P, N, N, P, N, P, N, P, T),
    "norm": (P, N, N, N, N, P, F, P, T),
    "gate": (P, N, N, P, T),
    "place": (P, N, N, N, N, P, P, P, P, P, P, N, T),
    "attend": (P, N, N, N, N, N, P, P, P, P, N, F, P, T),
}


class Packed(NamedTuple):
    """A linear layer's weight [O, D] in panels of as many outputs as fit the registers: [panels, D, their outputs]."""

    panels: Tensor
    outputs: int
    inputs: int


class Kernel:
    """Products and attention of float32 tensors on the CPU. Every sum has one order, whatever shares the step."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, arguments in ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
        library.panel.restype = N
        self._library, self._panel = library, int(library.panel())

    def pack(self, weight_OD: Tensor) -> Packed:
        """A linear layer's weight as ``product`` reads it."""
        weight_OD, (outputs, inputs) = weight_OD.contiguous(), weight_OD.shape
        panels = weight_OD.new_empty(-(-outputs // self._panel), inputs, self._panel)
        self._library.pack(_at(weight_OD, outputs, inputs), outputs, inputs, panels.data_ptr(), _threads())
        return Packed(panels, outputs, inputs)

    def product(self, x: Tensor, packed: Packed, start: Tensor | None) -> Tensor:
        """x weight^T [..., O], added to ``start`` [..., O] or [O] where there is one."""
        (panels, outputs, inputs), x, lead = packed, x.contiguous(), x.shape[:-1]
        x_at, out = _at(x, *lead, inputs), x.new_empty(*lead, outputs)
        start_at, stride = None, 0
        if start is not None:
            start, stride = start.contiguous(), 0 if start.dim() == 1 else outputs
            start_at = _at(start, *(out.shape if stride else (outputs,)))
        self._library.product(
            x_at, x.numel() // inputs, inputs, panels.data_ptr(), outputs, start_at, stride, out.data_ptr(), _threads()
        )
        return out

    def norm(self, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """An RMS norm of the last axis of [T, D] or [T, rows, D], of which all but the first axis is contiguous."""
        tokens, width = len(x), x.shape[-1]
        out = x.new_empty(x.shape)
        self._library.norm(
            _rows_at(x), x.stride(0), tokens, 1 if x.dim() == 2 else x.shape[1], width, _at(weight_D, width), epsilon,
            out.data_ptr(), _threads(),
        )  # fmt: skip
        return out

    def gate(self, x_TF: Tensor) -> Tensor:
        """silu(first half) times the second half of a contiguous [T, 2 F]."""
        tokens, width = x_TF.shape[0], x_TF.shape[1] // 2
        _require_width(width)
        out = x_TF.new_empty(tokens, width)
        self._library.gate(_at(x_TF, tokens, 2 * width), tokens, width, out.data_ptr(), _threads())
        return out

    def place(
        self, heads_THE: Tensor, cos_T1E: Tensor, sin_T1E: Tensor, keys: Tensor, values: Tensor, slots_T: Tensor,
        positions_T: Tensor,
    ) -> None:  # fmt: skip
        """Turn queries in place and keys by their positions; put keys and values where they belong, [S, K, L, E].

        ``heads`` holds queries, keys and values and is contiguous. ``sin`` has its first half negated.
        """
        (tokens, heads, width), (_, key_heads, length, _) = heads_THE.shape, keys.shape
        self._library.place(
            _at(heads_THE, tokens, heads, width), tokens, heads - 2 * key_heads, key_heads, width,
            _at(cos_T1E, tokens, 1, width), _at(sin_T1E, tokens, 1, width), *_cached(keys, values, width),
            _at(slots_T, tokens, kind=torch.int64), _at(positions_T, tokens, kind=torch.int64), length, _threads(),
        )  # fmt: skip

    def attend(
        self, query_RHE: Tensor, keys: Tensor, values: Tensor, scale: float, slots_R: Tensor, positions_R: Tensor
    ) -> Tensor:
        """Each row over its slot up to its position, [R, H, E]; the last two axes of ``query`` are contiguous."""
        (rows, query_heads, width), (_, key_heads, length, _) = query_RHE.shape, keys.shape
        _require_width(width)
        out_RHE = query_RHE.new_empty(rows, query_heads, width)
        self._library.attend(
            _rows_at(query_RHE), query_RHE.stride(0), rows, query_heads, key_heads, width,
            *_cached(keys, values, width), _at(slots_R, rows, kind=torch.int64),
            _at(positions_R, rows, kind=torch.int64), length, scale, out_RHE.data_ptr(), _threads(),
        )  # fmt: skip
        return out_RHE


def _at(tensor: Tensor, *shape: int, kind: torch.dtype = torch.float32) -> int:
    """Where the numbers of a contiguous tensor of this shape begin. C would read on whatever it is given."""
    if tensor.dtype != kind or tensor.device.type != "cpu" or tensor.shape != shape or not tensor.is_contiguous():
        found = f"{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on {tensor.device}"
        raise RuntimeError(f"the kernel wants contiguous {kind} {shape} on the CPU, not {found}")
    return tensor.data_ptr()


def _rows_at(x: Tensor) -> int:
    """The same of a tensor whose first axis has any stride."""
    _at(x[:1], min(len(x), 1), *x.shape[1:])
    return x.data_ptr()


def _cached(keys: Tensor, values: Tensor, width: int) -> tuple[int, int]:
    shape = *keys.shape[:3], width
    return _at(keys, *shape), _at(values, *shape)


def _require_width(width: int) -> None:
    if width % WIDTHS:
        raise RuntimeError(f"the kernel wants heads and gated products in steps of {WIDTHS}, not {width}")


def _threads() -> int:
    return torch.get_num_threads()


def kernel() -> Kernel | None:
    """The kernel of this machine; None where it cannot be built."""
    return _searched()[0]


def absence() -> str:
    """Why answers are drawn by torch's operators though a kernel would be faster; "" where there is nothing to mend."""
    if host.device() != "cpu" or host.dtype() != "float32" or not (why := _searched()[1]):
        return ""
    return f"answers are drawn more slowly, by PyTorch's operators: {why}"


@functools.cache
def _searched() -> tuple[Kernel | None, str]:
    if shutil.which("gcc") is None:
        return None, "install gcc for the faster kernel"
    try:
        return build("native"), ""
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return None, f"gcc does not build the faster kernel: {said[0] if said else f'exit code {error.returncode}'}"
    except (OSError, AttributeError, RuntimeError, subprocess.SubprocessError) as error:
        return None, f"the faster kernel cannot be built or loaded: {error}"


def build(processor: str) -> Kernel:
    """The kernel for a processor by GCC's name, built where the cache has none of this source, compiler and processor.

    Raises:
        OSError: There is no compiler, it cannot be kept where nobody else could change it, or it does not load.
        AttributeError: What was built is something else.
        RuntimeError: Nobody says where the cache is.
        subprocess.SubprocessError: The compiler fails.
    """
    flags = (*FLAGS, f"-march={processor}")
    target = _run("gcc", flags[-1], "-dM", "-E", "-x", "c", os.devnull)  # its version, and the processor's features
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(flags).encode() + target).hexdigest()[:16]
    library = host.cache_folder() / "kernels" / f"{digest}.so"
    library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(library.parent)
    if library.exists():
        _require_own(library)
        try:
            return Kernel(ctypes.CDLL(str(library)))
        except (OSError, AttributeError):
            pass  # it was built by another machine that shares the folder
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        _run("gcc", *flags, str(SOURCE), "-o", str(made))
        made.chmod(0o700)
        with made.open("rb") as written:
            os.fsync(written.fileno())  # half a library would kill whoever loads it
        found = Kernel(ctypes.CDLL(str(made)))  # what does not load is not kept
        made.replace(library)
    return found


def _require_own(path: Path) -> None:
    """What stands there is run: nobody else may write it."""
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{path} belongs to somebody else, or others may write to it")


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout
