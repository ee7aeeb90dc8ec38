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

from burnish.models.adapters import LoraLinear
from burnish.models.attention import flat_attention
from burnish.objectives import Span

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
           "mlp.up_proj", "mlp.down_proj")  # fmt: skip


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

    def onto(self, out_TO: Tensor, x_TD: Tensor) -> Tensor | None:
        """Add bias and adapter to ``out``, in place; returns x A^T, for the backward."""
        if self.bias_O is not None:
            out_TO.add_(self.bias_O)
        if self.A_RD is None or self.B_OR is None:
            return None
        low_TR = x_TD @ self.A_RD.T
        out_TO.addmm_(low_TR, self.B_OR.T, alpha=self.scale)
        return low_TR

    def input_gradient(self, grad_TO: Tensor, onto_TD: Tensor | None) -> Tensor:
        """The gradient of x, added to ``onto`` in place where there is one."""
        found = grad_TO @ self.weight_OD if onto_TD is None else onto_TD.addmm_(grad_TO, self.weight_OD)
        if self.A_RD is not None and self.B_OR is not None:
            found.addmm_(grad_TO @ self.B_OR, self.A_RD, alpha=self.scale)
        return found

    def own_gradients(
        self, grad_TO: Tensor, x_TD: Tensor | None, low_TR: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Gradients of weight, bias, A and B, where they are wanted."""
        weight = grad_TO.T @ x_TD if wanted[0] and x_TD is not None else None
        bias = grad_TO.sum(0) if wanted[1] else None
        A = B = None
        if wanted[2] and self.B_OR is not None and x_TD is not None:
            A = (grad_TO @ self.B_OR).mul_(self.scale).T @ x_TD
        if wanted[3] and low_TR is not None:
            B = (grad_TO.T @ low_TR).mul_(self.scale)
        return weight, bias, A, B


def fits(layer: Any) -> bool:
    """Whether a layer is of this form: float32, SiLU-gated, RMS norms, plain linear layers or ones with LoRA."""
    parts = [layer.get_submodule(name) for name in LINEARS]
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    return (
        all(type(part) in (nn.Linear, LoraLinear) for part in parts)
        and all(hasattr(norm, "variance_epsilon") for norm in norms)
        and getattr(layer.self_attn.config, "hidden_act", None) == "silu"
        and all(tensor.dtype == torch.float32 for tensor in layer.parameters())
    )


def decoder_layer(layer: Any, hidden_TD: Tensor, cos_TE: Tensor, sin_TE: Tensor, spans: Sequence[Span]) -> Tensor:
    """The layer's output [T, D] for a flat stream."""
    if not fits(layer):
        return layer(hidden_TD[None], position_embeddings=(cos_TE[None], sin_TE[None]), spans=spans)[0]
    attention, mlp = layer.self_attn, layer.mlp
    query, key, value = _normed(hidden_TD, layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
    heads = [x.view(len(hidden_TD), -1, attention.head_dim) for x in (query, key, value)]
    if hasattr(attention, "q_norm"):
        heads[:2] = attention.q_norm(heads[0]), attention.k_norm(heads[1])
    heads[:2] = _Rotate.apply(heads[0], cos_TE, sin_TE), _Rotate.apply(heads[1], cos_TE, sin_TE)
    query, key, value = (x.transpose(0, 1)[None] for x in heads)
    mixed, _ = flat_attention(attention, query, key, value, None, attention.scaling, spans=spans)
    middle_TD = _added(hidden_TD, mixed.reshape(len(hidden_TD), -1), None, attention.o_proj)
    gate, up = _normed(middle_TD, layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
    return _added(middle_TD, up, gate, mlp.down_proj)


def _normed(hidden_TD: Tensor, norm: Any, *linears: Any) -> tuple[Tensor, ...]:
    products = [Product.of(linear) for linear in linears]
    flat = [tensor for product in products for tensor in product[:4]]
    scales = [product.scale for product in products]
    outputs: tuple[Tensor, ...] = _NormedProducts.apply(hidden_TD, norm.weight, norm.variance_epsilon, scales, *flat)
    return outputs


def _added(residual_TD: Tensor, x_TD: Tensor, gate_TD: Tensor | None, linear: Any) -> Tensor:
    product = Product.of(linear)
    output: Tensor = _AddedProduct.apply(residual_TD, x_TD, gate_TD, product.scale, *product[:4])
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
        normed_TD = (hidden_TD * inverse_T1).mul_(norm_D)
        outputs, lows = [], []
        for product in _products(flat, scales):
            outputs.append(normed_TD @ product.weight_OD.T)
            lows.append(product.onto(outputs[-1], normed_TD))
        ctx.scales = scales
        ctx.save_for_backward(hidden_TD, inverse_T1, norm_D, *lows, *flat)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_TD, inverse_T1, norm_D, *rest = ctx.saved_tensors
        lows, flat = rest[: len(grads)], rest[len(grads) :]
        wanted = ctx.needs_input_grad
        plain_TD = hidden_TD * inverse_T1
        normed_TD = plain_TD * norm_D if any(wanted[4:]) else None
        below_TD: Tensor | None = None
        own: list[Tensor | None] = []
        for i, (product, grad_TO) in enumerate(zip(_products(flat, ctx.scales), grads, strict=True)):
            if grad_TO is None:
                own += [None] * 4
                continue
            own += product.own_gradients(grad_TO, normed_TD, lows[i], wanted[4 + 4 * i : 8 + 4 * i])
            if wanted[0] or wanted[1]:
                below_TD = product.input_gradient(grad_TO, below_TD)
        norm = None
        if below_TD is not None:
            norm = (below_TD * plain_TD).sum(0) if wanted[1] else None
            below_TD.mul_(norm_D)
            along_T1 = torch.linalg.vecdot(below_TD, plain_TD)[:, None].div_(hidden_TD.shape[1])
            below_TD.addcmul_(plain_TD, along_T1, value=-1).mul_(inverse_T1)
        return below_TD, norm, None, None, *own


class _AddedProduct(torch.autograd.Function):
    """residual + linear(x), or residual + linear(silu(gate) x) (SwiGLU, Shazeer 2020, arXiv:2002.05202)."""

    @staticmethod
    def forward(
        ctx: Any, residual_TD: Tensor, x_TD: Tensor, gate_TD: Tensor | None, scale: float, *flat: Tensor | None
    ) -> Tensor:
        (product,) = _products(flat, [scale])
        value_TD = x_TD if gate_TD is None else F.silu(gate_TD).mul_(x_TD)
        output_TO = torch.addmm(residual_TD, value_TD, product.weight_OD.T)
        low_TR = product.onto(output_TO, value_TD)
        ctx.scale = scale
        ctx.save_for_backward(x_TD, gate_TD, low_TR, *flat)
        return output_TO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, gate_TD, low_TR, *flat = ctx.saved_tensors
        (product,) = _products(flat, [ctx.scale])
        wanted = ctx.needs_input_grad
        open_TD = F.silu(gate_TD) if gate_TD is not None else None
        value_TD = x_TD if open_TD is None else open_TD * x_TD
        own = product.own_gradients(grad_TO, value_TD, low_TR, wanted[4:])
        x_grad = gate_grad = None
        if wanted[1] or wanted[2]:
            x_grad = product.input_gradient(grad_TO, None)
            if open_TD is not None:
                gate_grad = torch.ops.aten.silu_backward(torch.mul(x_grad, x_TD, out=value_TD), gate_TD)
                x_grad.mul_(open_TD)
        return grad_TO, x_grad, gate_grad, None, *own


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


def _products(flat: Sequence[Any], scales: Sequence[float]) -> list[Product]:
    return [Product(*flat[4 * i : 4 * i + 4], scale) for i, scale in enumerate(scales)]  # type: ignore[call-arg]
