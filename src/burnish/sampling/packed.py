"""Weights laid out for few rows: oneDNN's own format, which a decode step multiplies up to three times faster.

The operators are torch's own (inductor emits them) but not public: where they are absent or disagree with the plain
layer, the plain layer stays.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 64  # the number of rows that the layout is chosen for; others work as well


class PackedLinear(nn.Module):
    """A float32 linear layer whose weights cannot be read or trained any more."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return packed


def pack_weights(module: nn.Module) -> int:
    """Replace the module's plain float32 linear layers on the CPU by packed ones; returns how many.

    The first layer of each shape is compared with its packed twin; a shape that differs by more than rounding stays
    as it is, as does everything where torch lacks the operators.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return 0
    agrees: dict[tuple[int, int], bool] = {}
    packed = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child.weight.dtype != torch.float32 or child.weight.device.type != "cpu":
                continue
            shape = (child.out_features, child.in_features)
            if agrees.get(shape, True) and (twin := _twin(child, check=shape not in agrees)):
                setattr(parent, name, twin)
                packed += 1
            agrees.setdefault(shape, isinstance(getattr(parent, name), PackedLinear))
    return packed


@torch.inference_mode()
def _twin(linear: nn.Linear, check: bool) -> PackedLinear | None:
    """The packed layer, or None where torch refuses it or it disagrees with the plain one."""
    try:
        twin = PackedLinear(linear)
        if check:
            rows = torch.linspace(-1, 1, 3 * linear.in_features).view(3, -1).sin()
            plain = linear(rows)
            torch.testing.assert_close(twin(rows), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
    except (RuntimeError, NotImplementedError, AssertionError):
        return None
    return twin
