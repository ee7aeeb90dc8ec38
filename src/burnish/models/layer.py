"""A decoder layer with few passes over memory: what the flat path runs instead of transformers' own layer.

The same sums in fewer steps: an addition is the start of the product that follows it, an adapter is added in place, and
what is cheap to compute again (the normed input, the gated product) is not kept for the backward. Gradients are written
by hand. Its twin is transformers' own layer, which runs wherever a layer is not of this form.

Axes: T packed tokens, D width, H heads, E width of a head, R rank, O outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from burnish.errors import ModelError
from burnish.models.adapters import LoraLinear
from burnish.models.attention import flat_attention
from burnish.objectives import Span

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
           "mlp.up_proj", "mlp.down_proj")  # fmt: skip

COMPARED = 16  # positions at which a known output is computed all the same
AGREEMENT = 1e-3  # how far it may be from what is known there, as a share of what the layer adds


class Product(NamedTuple):
    """y = x weight^T + bias + scale (x A^T) B^T; the adapter and the bias may be absent."""

    weight_OD: Tensor
    bias_O: Tensor | None
    A_RD: Tensor | None
    B_OR: Tensor | None
    scale: float

    @staticmethod
    def of(linear: Any) -> Product:
        if isinstance(linear, LoraLinear):
            return Product(linear.weight, linear.bias, linear.lora_A, linear.lora_B, linear.scale)
        return Product(linear.weight, linear.bias, None, None, 1.0)


class Products:
    """Linear layers of one input. Their adapters' A go as one product: few columns at a time are slow."""

    def __init__(self, flat: Sequence[Any], scales: Sequence[float]) -> None:
        parts = (flat[4 * i : 4 * i + 4] for i in range(len(scales)))
        self.each = [Product(*part, scale) for part, scale in zip(parts, scales, strict=True)]  # type: ignore[call-arg]
        kept = [product.A_RD for product in self.each if product.A_RD is not None]
        self.ranks = [len(A_RD) for A_RD in kept]
        self.A_RD = torch.cat(kept) if kept else None

    def low(self, x_TD: Tensor) -> Tensor | None:
        """x A^T of all adapters, one beside the other; None where there is none."""
        return None if self.A_RD is None else x_TD @ self.A_RD.T

    def forward(self, x_TD: Tensor, onto_TO: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
        """The outputs, the first one added to ``onto``, and x A^T of all adapters, for the backward."""
        low_TR = self.low(x_TD)
        lows = iter(() if low_TR is None else low_TR.split(self.ranks, 1))
        outputs = []
        for number, (weight_OD, bias_O, A_RD, B_OR, scale) in enumerate(self.each):
            start = onto_TO if number == 0 else None
            output = x_TD @ weight_OD.T if start is None else torch.addmm(start, x_TD, weight_OD.T)
            if bias_O is not None:
                output += bias_O
            if A_RD is not None and B_OR is not None:
                output.addmm_(next(lows), B_OR.T, alpha=scale)
            outputs.append(output)
        return outputs, low_TR

    def backward(
        self, grads: Sequence[Tensor], x_TD: Tensor | None, low_TR: Tensor | None, below: bool, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """The gradients of x, where ``below`` asks for it, and of each weight, bias, A and B, where ``wanted`` does."""
        pairs = list(zip(grads, self.each, strict=True))
        A_wanted = any(wanted[2::4])
        slope_TR = None
        if self.A_RD is not None and (below or A_wanted):
            slopes = [(grad @ product.B_OR).mul_(product.scale) for grad, product in pairs if product.B_OR is not None]
            slope_TR = torch.cat(slopes, 1)
        x_grad_TD = None
        if below:
            x_grad_TD = grads[0] @ self.each[0].weight_OD
            for grad, product in pairs[1:]:
                x_grad_TD.addmm_(grad, product.weight_OD)
            if slope_TR is not None and self.A_RD is not None:
                x_grad_TD.addmm_(slope_TR, self.A_RD)
        lows = iter(() if low_TR is None else low_TR.split(self.ranks, 1))
        A_grads = iter((slope_TR.T @ x_TD).split(self.ranks) if A_wanted and x_TD is not None else ())  # type: ignore
        own: list[Tensor | None] = []
        for number, (grad, product) in enumerate(pairs):
            weight, bias, _, B = wanted[4 * number : 4 * number + 4]
            own.append(grad.T @ x_TD if weight and x_TD is not None else None)
            own.append(grad.sum(0) if bias else None)
            low = None if product.B_OR is None else next(lows)
            own.append(None if low is None else next(A_grads, None))
            own.append((grad.T @ low).mul_(product.scale) if B and low is not None else None)
        return x_grad_TD, own


def fits(layer: Any) -> bool:
    """Whether a layer is of this form: float32, SiLU-gated, RMS norms, plain linear layers or ones with LoRA."""
    return not misfit(layer, next((p.dtype for p in layer.parameters() if p.dtype != torch.float32), torch.float32))


def misfit(layer: Any, dtype: torch.dtype) -> str:
    """Why a layer whose weights are held in ``dtype`` is not of this form; "" where it is."""
    kinds = {type(layer.get_submodule(name)) for name in LINEARS} - {nn.Linear, LoraLinear}
    if kinds:
        return f"its linear layers are {', '.join(sorted(kind.__name__ for kind in kinds))}"
    if not all(hasattr(norm, "variance_epsilon") for norm in (layer.input_layernorm, layer.post_attention_layernorm)):
        return "its norms are no RMS norms"
    if getattr(layer.self_attn.config, "hidden_act", None) != "silu":
        return "its products are not gated by SiLU"
    return "" if dtype == torch.float32 else f"its weights are {str(dtype).removeprefix('torch.')}, not float32"


def plain_layer(
    layer: Any, hidden_TD: Tensor, cos_TE: Tensor, sin_TE: Tensor, spans: Sequence[Span], take_S: Tensor | None = None
) -> Tensor:
    """The twin of ``decoder_layer``: transformers' own layer, whatever its form."""
    output_TD: Tensor = layer(hidden_TD[None], position_embeddings=(cos_TE[None], sin_TE[None]), spans=spans)[0]
    return output_TD if take_S is None else output_TD[take_S]


def decoder_layer(
    layer: Any,
    hidden_TD: Tensor,
    cos_TE: Tensor,
    sin_TE: Tensor,
    spans: Sequence[Span],
    take_S: Tensor | None = None,
    known_TD: Tensor | None = None,
) -> Tensor:
    """The output of a layer that ``fits``, for a flat stream: [T, D], or that of positions ``take`` alone [S, D].

    Where the output is ``known`` already, only what the gradient needs is computed, and the output at a few positions.

    Raises:
        ModelError: There it is not what was known.
    """
    attention, mlp = layer.self_attn, layer.mlp
    query, key, value = _normed(hidden_TD, layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
    heads = [x.view(len(hidden_TD), -1, attention.head_dim) for x in (query, key, value)]
    if hasattr(attention, "q_norm"):
        heads[:2] = attention.q_norm(heads[0]), attention.k_norm(heads[1])
    heads[:2] = _Rotate.apply(heads[0], cos_TE, sin_TE), _Rotate.apply(heads[1], cos_TE, sin_TE)
    query, key, value = (x.transpose(0, 1)[None] for x in heads)
    mixed, _ = flat_attention(attention, query, key, value, None, attention.scaling, spans=spans)
    mixed_TD = mixed.reshape(len(hidden_TD), -1)
    if take_S is not None:  # what follows mixes no positions
        hidden_TD, mixed_TD = hidden_TD[take_S], mixed_TD[take_S]
    middle_TD = _added(hidden_TD, mixed_TD, None, attention.o_proj)
    gate, up = _normed(middle_TD, layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
    if known_TD is not None:
        _require_known(layer, known_TD, middle_TD, up, gate)
    return _added(middle_TD, up, gate, mlp.down_proj, known_TD)


@torch.no_grad()
def _require_known(layer: Any, known_TD: Tensor, middle_TD: Tensor, up_TF: Tensor, gate_TF: Tensor) -> None:
    number, length = int(layer.self_attn.layer_idx), len(known_TD)
    if not length:
        return
    places = (torch.arange(COMPARED, device=known_TD.device) * length // COMPARED + 7 * number) % length
    found = _added(middle_TD[places], up_TF[places], gate_TF[places], layer.mlp.down_proj)
    apart, size = ((found - other[places]).norm() for other in (known_TD, middle_TD))
    if not apart <= AGREEMENT * size:
        what = f"layer {number} of the trainer makes of its input what is {float(apart / size):.1%} from the sampler's"
        raise ModelError(what, mend="this is a bug of the sampler or the trainer; please report it")


def _normed(hidden_TD: Tensor, norm: Any, *linears: Any) -> tuple[Tensor, ...]:
    products = [Product.of(linear) for linear in linears]
    flat = [tensor for product in products for tensor in product[:4]]
    scales = [product.scale for product in products]
    outputs: tuple[Tensor, ...] = _NormedProducts.apply(hidden_TD, norm.weight, norm.variance_epsilon, scales, *flat)
    return outputs


def _added(
    residual_TD: Tensor, x_TD: Tensor, gate_TD: Tensor | None, linear: Any, known_TO: Tensor | None = None
) -> Tensor:
    product = Product.of(linear)
    output: Tensor = _AddedProduct.apply(residual_TD, x_TD, gate_TD, known_TO, product.scale, *product[:4])
    return output


class _NormedProducts(torch.autograd.Function):
    """Several linear layers of one RMS-normed input (Zhang and Sennrich 2019, arXiv:1910.07467).

    The normed input is computed again in the backward; the linear layers' input gradients are summed in place.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, norm_D: Tensor, epsilon: float, scales: list[float], *flat: Tensor | None
    ) -> tuple[Tensor, ...]:
        square_T1 = torch.linalg.vector_norm(hidden_TD, dim=-1, keepdim=True).square_()
        inverse_T1 = square_T1.div_(hidden_TD.shape[1]).add_(epsilon).rsqrt_()
        outputs, low_TR = Products(flat, scales).forward((hidden_TD * inverse_T1).mul_(norm_D))
        ctx.scales = scales
        ctx.save_for_backward(hidden_TD, inverse_T1, norm_D, low_TR, *flat)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, inverse_T1, norm_D, low_TR, *flat = ctx.saved_tensors
        below, norm_wanted, _, _, *wanted = ctx.needs_input_grad
        plain_TD = hidden_TD * inverse_T1
        normed_TD = plain_TD * norm_D if any(wanted) else None
        products = Products(flat, ctx.scales)
        x_grad_TD, own = products.backward(grads, normed_TD, low_TR, below or norm_wanted, wanted)
        norm_grad_D = None
        if x_grad_TD is not None:
            norm_grad_D = (x_grad_TD * plain_TD).sum(0) if norm_wanted else None
            x_grad_TD.mul_(norm_D)
            along_T1 = torch.linalg.vecdot(x_grad_TD, plain_TD)[:, None].div_(hidden_TD.shape[1])
            x_grad_TD.addcmul_(plain_TD, along_T1, value=-1).mul_(inverse_T1)
        return x_grad_TD, norm_grad_D, None, None, *own


class _AddedProduct(torch.autograd.Function):
    """residual + linear(x), or residual + linear(silu(gate) x) (SwiGLU, Shazeer 2020, arXiv:2002.05202).

    The gated product is computed again in the backward. A known output is taken as it is.
    """

    @staticmethod
    def forward(
        ctx: Any,
        residual_TD: Tensor,
        x_TD: Tensor,
        gate_TD: Tensor | None,
        known_TO: Tensor | None,
        scale: float,
        *flat: Tensor | None,
    ) -> Tensor:
        value_TD = x_TD if gate_TD is None else F.silu(gate_TD).mul_(x_TD)
        products = Products(flat, [scale])
        if known_TO is None:
            (output_TO,), low_TR = products.forward(value_TD, onto_TO=residual_TD)
        else:
            output_TO, low_TR = known_TO.view_as(known_TO), products.low(value_TD)
        ctx.scale = scale
        ctx.save_for_backward(x_TD, gate_TD, low_TR, *flat)
        return output_TO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, gate_TD, low_TR, *flat = ctx.saved_tensors
        _, x_wanted, gate_wanted, _, _, *wanted = ctx.needs_input_grad
        open_TD = F.silu(gate_TD) if gate_TD is not None else None
        value_TD = x_TD if open_TD is None else open_TD * x_TD
        products = Products(flat, [ctx.scale])
        x_grad_TD, own = products.backward([grad_TO], value_TD, low_TR, x_wanted or gate_wanted, wanted)
        gate_grad_TD = None
        if open_TD is not None and x_grad_TD is not None:
            gate_grad_TD = torch.ops.aten.silu_backward(torch.mul(x_grad_TD, x_TD, out=value_TD), gate_TD)
            x_grad_TD.mul_(open_TD)
        return grad_TO, x_grad_TD, gate_grad_TD, None, None, *own


class _Rotate(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): each pair (x[i], x[i + E/2]) turned by its angle."""

    @staticmethod
    def forward(ctx: Any, x_THE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        ctx.save_for_backward(cos_TE, sin_TE)
        return _turned(x_THE, cos_TE, sin_TE, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_THE: Tensor) -> tuple[Tensor | None, ...]:
        cos_TE, sin_TE = ctx.saved_tensors
        return _turned(grad_THE, cos_TE, sin_TE, back=True), None, None


def _turned(x_THE: Tensor, cos_TE: Tensor, sin_TE: Tensor, back: bool) -> Tensor:
    half, sign = x_THE.shape[-1] // 2, -1 if back else 1
    turned = x_THE * cos_TE[:, None]
    sin = sin_TE[:, None]
    turned[..., :half].addcmul_(x_THE[..., half:], sin[..., :half], value=-sign)
    turned[..., half:].addcmul_(x_THE[..., :half], sin[..., half:], value=sign)
    return turned
