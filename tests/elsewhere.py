"""A device that this machine does not have, pretended: tensors that say they lie on it, and refuse those of the host.

The numbers are computed on the host, so that whole stages run, with data-dependent code and all; but an operation that
mixes tensors of both places raises, as it would on a GPU. As there, a tensor without axes may come from the host.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_map_only

DEVICE = torch.device("lazy", 0)  # PyTorch knows it, asks nothing of it, and runs its backward as the host's
HOST = torch.device("cpu")
MOVES = ("to", "_to_copy", "copy_", "_pin_memory")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")  # whose indices may lie on the host


class There(Tensor):
    """A tensor on the pretended device; ``held`` are its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Elsewhere().__torch_dispatch__(function, types, args, kwargs)


class Elsewhere(TorchDispatchMode):
    """Within it the device is there."""

    def __enter__(self) -> Any:
        # Module.to must put other tensors in place of a module's own, which are of another kind; and torch.tensor must
        # make its tensor on the host and move it.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = function.overloadpacket.__name__
        asked = next((x for x in [*args, *kwargs.values()] if isinstance(x, torch.device)), None)
        there = tree_any(lambda x: isinstance(x, There), (args, kwargs))
        goes = asked.type == DEVICE.type if asked is not None else there
        if name == "copy_":
            goes = isinstance(args[0], There)
        elif there and name not in MOVES:
            _require_one_place(name, args, kwargs)
        before = {id(x.held): x for x in _tensors(args, kwargs) if isinstance(x, There)}
        plain_args, plain_kwargs = tree_map_only(There, lambda x: x.held, (args, kwargs))
        plain_args, plain_kwargs = tree_map_only(torch.device, lambda _: HOST, (plain_args, plain_kwargs))
        made = function(*plain_args, **plain_kwargs)
        if not goes:
            return made
        return tree_map_only(Tensor, lambda x: before.get(id(x)) if id(x) in before else There(x), made)


def _tensors(args: Any, kwargs: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, (args, kwargs))
    return found


def _require_one_place(name: str, args: Any, kwargs: Any) -> None:
    checked = (args[0], *args[2:]) if name in INDEXED else args
    for tensor in _tensors(checked, kwargs):
        if not isinstance(tensor, There) and tensor.dim():
            raise RuntimeError(f"{name}: a tensor {list(tensor.shape)} of the host among tensors on {DEVICE}")
