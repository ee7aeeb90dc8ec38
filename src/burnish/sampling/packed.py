"""Linear layers laid out for few rows, of which a decode step has little else: float32, 16-bit floats, 8 bits.

Float32 weights lie as the compiled kernel reads them, or where there is none in oneDNN's own format, and give the
plain layer's numbers to rounding. 16-bit weights (half a step's memory) are multiplied in float32, so that their
rounding to 11 significant bits is all that is lost. 8-bit weights have a scale for each output; a quarter of the
memory is read, and their rounding is twenty times as coarse. The other operators are torch's own but not public:
where they are absent, or disagree with the plain layer, the more exact layer stays.

Axes: T rows, D inputs, O outputs.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from burnish.sampling.kernel import kernel

Weights = Literal["exact", "half", "int8", "plain"]

ROWS = 64  # the number of rows that the packed layout is chosen for; others work as well
ROUNDING = 1e-4  # how far a packed layer may be from the plain one, as a share of its largest output
HALF_ROUNDING, INT8_ROUNDING = 0.001, 0.01  # the same for rounded weights, as a share of the root mean square
HALF_MOST = 65504.0  # the largest 16-bit float


class PackedLinear(nn.Module):
    """A float32 linear layer whose weights cannot be read or trained any more."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x weight^T + bias, and ``onto`` added where it is given."""
        if onto is None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        else:
            product = torch.ops.mkldnn._linear_pointwise.binary(x, onto, self._packed, self.bias, "add")
        return product


class CompiledLinear(nn.Module):
    """A float32 linear layer whose weights only the compiled kernel reads."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        made = kernel()
        if made is None:
            raise NotImplementedError("there is no kernel on this machine")
        self._kernel, self._packed = made, made.pack(linear.weight.detach())

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x weight^T + bias, and ``onto`` added where it is given."""
        start = onto if self.bias is None else self.bias if onto is None else onto + self.bias
        return self._kernel.product(x, self._packed, start)


class HalfLinear(nn.Module):
    """A linear layer of 16-bit weights, whose products are added up in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = None if linear.bias is None else linear.bias.detach()
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), bias)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x weight^T + bias, and ``onto`` added where it is given."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return product if onto is None else product.add_(onto)


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights, one scale an output, and an input of 16 bits, one scale a row.

    The operator rounds its input to 8 bits with one scale for all rows, which costs a small model more than its
    weights' rounding does. So each row goes in twice: rounded to whole numbers of its own scale, and what that left
    over, stretched. A last row of both ends makes the operator's scale 1, whatever rows share the step (also where one
    is NaN, which the scale takes back to its own row).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self._packed = _eight_bits(linear.weight.detach())
        self._narrow = _saturates()
        self._most = 63 if self._narrow else 127
        self._least_11 = torch.full((1, 1), 1e-30)  # what a row of zeros is divided by
        self._ends_1D = torch.zeros(1, linear.in_features)
        self._ends_1D[0, :2] = torch.tensor([self._most + 0.5, -self._most - 0.5])

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x weight^T + bias, and ``onto`` added where it is given."""
        x_TD = x.reshape(-1, self.in_features)
        rows = len(x_TD)
        largest_T1 = x_TD.abs().amax(-1, keepdim=True)
        scale_T1 = torch.add(self._least_11, largest_T1, alpha=1 / self._most)
        even_TD = x_TD / scale_T1
        whole_TD = even_TD.round()
        rest_TD = even_TD.sub_(whole_TD).mul_(2 * self._most)
        stacked = torch.cat([whole_TD, rest_TD, self._ends_1D])
        out = torch.ops.quantized.linear_dynamic(stacked, self._packed, self._narrow)
        product: Tensor = out[:rows].add_(out[rows : 2 * rows], alpha=0.5 / self._most).mul_(scale_T1)
        product = product.view(*x.shape[:-1], -1)
        if self.bias is not None:
            product += self.bias
        return product if onto is None else product.add_(onto)


Kind = Callable[[nn.Linear], nn.Module]
KINDS: Mapping[Weights, tuple[Kind, ...]] = {  # from the coarsest on
    "exact": (CompiledLinear, PackedLinear),
    "half": (HalfLinear, CompiledLinear, PackedLinear),
    "int8": (Int8Linear, CompiledLinear, PackedLinear),
    "plain": (),
}
ROUNDINGS: Mapping[type[nn.Module], float] = {HalfLinear: HALF_ROUNDING, Int8Linear: INT8_ROUNDING}


def pack_weights(module: nn.Module, weights: Weights = "exact") -> int:
    """Replace the module's plain float32 linear layers on the CPU by packed or rounded ones; returns how many.

    A layer that has no rounded twin is packed, one that has no packed twin stays as it is.
    """
    replaced = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and (found := twin(child, weights)) is not child:
                setattr(parent, name, found)
                replaced += 1
    return replaced


@torch.inference_mode()
def twin(linear: nn.Linear, weights: Weights) -> nn.Module:
    """The layer laid out as asked for; where that is impossible or disagrees with it, the next more exact one."""
    if linear.weight.dtype != torch.float32 or linear.weight.device.type != "cpu":
        return linear
    for kind in KINDS[weights]:
        if kind is CompiledLinear and kernel() is None:
            continue
        shape = (linear.out_features, linear.in_features)
        fits = kind is not HalfLinear or bool(linear.weight.abs().max() <= HALF_MOST)
        if fits and _agrees(kind, shape):
            made: nn.Module = kind(linear)
            return made
    return linear


@functools.cache
def _agrees(kind: Kind, shape: tuple[int, int]) -> bool:
    """Whether a layer of this kind gives the plain layer's numbers at this shape, for one row and for three."""
    outputs, inputs = shape
    with torch.inference_mode():
        linear = nn.Linear(inputs, outputs, bias=True)
        linear.weight.copy_(_wave(outputs, inputs))
        linear.bias.copy_(_wave(1, outputs)[0])
        try:
            made = kind(linear)
            return all(_close(made, linear, rows) for rows in _trials(inputs))
        except (RuntimeError, NotImplementedError, AttributeError):
            return False


def _close(made: nn.Module, linear: nn.Linear, rows_TD: Tensor) -> bool:
    onto_TO = _wave(len(rows_TD), linear.out_features)
    for found, wanted in ((made(rows_TD), linear(rows_TD)), (made(rows_TD, onto_TO), linear(rows_TD) + onto_TO)):
        apart = found - wanted
        rounding = ROUNDINGS.get(type(made))
        if rounding is None:
            close = bool(apart.abs().max() <= ROUNDING * wanted.abs().max())
        else:
            close = bool(apart.square().mean().sqrt() <= rounding * wanted.square().mean().sqrt())
        if not close:  # NaN is not close either
            return False
    return True


def _trials(inputs: int) -> Iterator[Tensor]:
    rows_TD = _wave(3, inputs)
    yield rows_TD[:1]
    yield rows_TD * torch.tensor([[1.0], [100.0], [0.01]])  # rows of unlike size keep their own scale


def _wave(rows: int, columns: int) -> Tensor:
    """Numbers between -1 and 1 that repeat nowhere."""
    return torch.arange(rows * columns, dtype=torch.float32).mul_(0.7).sin_().view(rows, columns)


def _eight_bits(weight_OD: Tensor) -> object:
    scales_O = weight_OD.abs().amax(1).clamp(min=1e-12) / 127
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to do away with these tensors: then `_agrees` says no
        torch.backends.quantized.engine = "fbgemm"  # the fastest of its engines at every shape of a decode step
        try:
            zeros_O = torch.zeros(len(scales_O), dtype=torch.long)
            whole = torch.quantize_per_channel(weight_OD, scales_O.double(), zeros_O, 0, torch.qint8)
            return torch.ops.quantized.linear_prepack(whole, None)
        finally:
            torch.backends.quantized.engine = engine


@functools.cache
def _saturates() -> bool:
    """Whether this CPU adds pairs of products in 16 bits, which overflow: then a row is rounded to 7 bits."""
    linear = nn.Linear(64, 1, bias=False)
    packed = _eight_bits(torch.ones_like(linear.weight))
    full = torch.ops.quantized.linear_dynamic(torch.ones(1, 64), packed, False)
    return not bool((full - 64).abs() < 1)
