"""A model's forward over the slot cache in few operators: what the engine runs where the model is of a known form.

Transformers' layers take about forty operators each, in which a decode step of few rows spends as long as in its
products. Here the projections of one input are one product, a residual is the start of the product that ends in it, and
nothing is transposed. Its twin is transformers' own forward, which runs wherever a model is of another form.

Axes: T tokens of the step, N of them with logits, D width, H query heads, K key heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from burnish.models.adapters import detach
from burnish.models.attention import refuse
from burnish.models.language import LanguageModel
from burnish.models.layer import fits
from burnish.models.memory import let_go, release, unwritten_files
from burnish.models.trail import Trail
from burnish.sampling.cache import ATTENTION, Plan, SlotCache
from burnish.sampling.operators import Operators, ways
from burnish.sampling.packed import ROUNDING, ROUNDINGS, HalfLinear, Int8Linear, Weights, pack_weights, twin

TRIAL = ((0, 5), (1, 37))  # slots and tokens on which the first layer is compared with its twin


class Layer:
    """One decoder layer, with weights of its own: the layer that it was made of is not needed any more.

    An adapter on it is folded in, here and not before: never are two copies of all layers there.
    """

    def __init__(self, layer: Any, weights: Weights, operators: Operators) -> None:
        detach(layer, merge=True)
        attention, mlp = layer.self_attn, layer.mlp
        self.index, self.scale, self.head = int(attention.layer_idx), float(attention.scaling), int(attention.head_dim)
        self.queries = attention.q_proj.out_features // self.head
        self.keys = attention.k_proj.out_features // self.head
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.norms = (attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None
        self.qkv = _joined([attention.q_proj, attention.k_proj, attention.v_proj], weights)
        self.out = _joined([attention.o_proj], weights)
        self.gate_up = _joined([mlp.gate_proj, mlp.up_proj], weights)
        self.down = _joined([mlp.down_proj], weights)
        self.operators = operators

    def __call__(self, hidden_TD: Tensor, cos_T1E: Tensor, sin_T1E: Tensor, plan: Plan) -> Tensor:
        """``sin`` has its first half negated: the halves of a head are swapped, not subtracted."""
        operators = self.operators
        heads_THE = self.qkv(operators.norm(hidden_TD, self.before)).view(len(hidden_TD), -1, self.head)
        if self.norms:
            query_THE, key_TKE = heads_THE[:, : self.queries], heads_THE[:, self.queries : self.queries + self.keys]
            for part, norm in zip((query_THE, key_TKE), self.norms, strict=True):
                part.copy_(operators.norm(part, norm))
        mixed_THE = operators.attend(self.index, heads_THE, self.keys, cos_T1E, sin_T1E, self.scale, plan)
        hidden_TD = self.out(mixed_THE.flatten(1), hidden_TD)
        opened_TF = operators.gate(self.gate_up(operators.norm(hidden_TD, self.between)))
        return self.down(opened_TF, hidden_TD)


class Decoder:
    """A causal language model taken apart into layers; it owns the model, whose own layers are gone."""

    def __init__(self, module: Any, first: Layer, weights: Weights) -> None:
        self._trunk = module.model
        self._layers = [first]
        layers, unwritten = self._trunk.layers, unwritten_files()
        del layers[0]
        while len(layers):  # each goes as soon as it is laid out, and what was mapped from a file with it
            layer = layers.pop(0)
            read = list(layer.parameters())
            self._layers.append(Layer(layer, weights, first.operators))
            let_go(read, unwritten)
        read = list(module.lm_head.parameters())
        self._head = module.lm_head = twin(module.lm_head, weights)
        let_go(read, unwritten)
        release()

    @classmethod
    def of(cls, module: Any, weights: Weights) -> Decoder | None:
        """The decoder of a model, or None: it is of another form, or its first layer disagrees with its twin."""
        layers = getattr(getattr(module, "model", None), "layers", [])
        if weights == "plain" or not layers or refuse(module.config) or type(module.lm_head) is not nn.Linear:
            return None
        if module.device.type != "cpu" or not all(map(fits, layers)):
            return None
        if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
            return None  # trained layers are float32, embeddings may be what the host holds frozen weights in
        head, gated = int(layers[0].self_attn.head_dim), layers[0].mlp.down_proj.weight.shape[1]
        for operators in ways(head, gated):
            first = Layer(layers[0], weights, operators)
            products = (first.qkv, first.out, first.gate_up, first.down)
            if any(type(product) is nn.Linear for product in products):
                return None
            if _agrees(first, layers[0], module):
                return cls(module, first, weights)
        return None

    @property
    def weights(self) -> Weights:
        """ "int8" or "half" where every layer has a twin of that kind, else "exact"."""
        products = [p for layer in self._layers for p in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        kinds = {type(product) for product in (*products, self._head)}
        return "int8" if kinds == {Int8Linear} else "half" if kinds == {HalfLinear} else "exact"

    def __call__(self, plan: Plan, last: list[int], trail: Trail | None = None) -> Tensor:
        """Logits [N, V] after the tokens at ``last``; what comes out of each layer is kept in the ``trail``."""
        hidden_TD = self._trunk.embed_tokens(torch.tensor(plan.ids))
        cos_T1E, sin_T1E = _angles(self._trunk, hidden_TD, plan.positions_T)
        for layer in self._layers:
            hidden_TD = layer(hidden_TD, cos_T1E, sin_T1E, plan)
            if trail is not None:
                trail.record(layer.index, hidden_TD)
        logits_NV: Tensor = self._head(self._layers[0].operators.norm(hidden_TD[last], self._trunk.norm))
        return logits_NV


def laid_out(model: LanguageModel | Any, weights: Weights) -> tuple[Any, Decoder | None]:
    """The module that the engine owns, and its decoder where it is of a known form.

    The decoder folds a plain adapter in, layer by layer; any other one is folded before.
    """
    ways = (model.frozen_copy, model.merged) if isinstance(model, LanguageModel) else (lambda: model,)
    for way in ways:
        made = way()
        module = made.module if isinstance(made, LanguageModel) else made
        module.eval().set_attn_implementation(ATTENTION)
        decoder = Decoder.of(module, weights)
        if decoder is not None:
            return module, decoder
    pack_weights(module, weights)
    return module, None


def _joined(linears: list[nn.Linear], weights: Weights) -> nn.Module:
    """Linear layers of one input as one."""
    one = linears[0]
    if len(linears) > 1:
        one = nn.Linear(one.in_features, sum(part.out_features for part in linears), bias=False, device="meta")
        one.weight = nn.Parameter(torch.cat([part.weight.detach() for part in linears]), requires_grad=False)
        if linears[0].bias is not None:
            one.bias = nn.Parameter(torch.cat([part.bias.detach() for part in linears]), requires_grad=False)
    return twin(one, weights)


def _angles(trunk: Any, hidden_TD: Tensor, positions_T: Tensor) -> tuple[Tensor, Tensor]:
    cos_1TE, sin_1TE = trunk.rotary_emb(hidden_TD[None], positions_T[None])
    sin_T1E = sin_1TE[0, :, None].clone()
    sin_T1E[..., : sin_T1E.shape[-1] // 2].neg_()
    return cos_1TE[0, :, None], sin_T1E


@torch.inference_mode()
def _agrees(made: Layer, layer: Any, module: Any) -> bool:
    """Whether the layer gives what transformers' gives: for two prompts, and for a token that follows each."""
    tokens = sum(length for _, length in TRIAL)
    hidden_TD = module.model.embed_tokens(torch.arange(tokens + len(TRIAL)) % module.config.vocab_size)
    found, wanted = [], []
    caches = SlotCache(len(TRIAL)), SlotCache(len(TRIAL))
    for part_TD, asked in (
        (hidden_TD[:tokens], [(slot, 0, length) for slot, length in TRIAL]),
        (hidden_TD[tokens:], [(slot, length, 1) for slot, length in TRIAL]),
    ):
        plans = [Plan(cache, tokens) for cache in caches]
        for plan in plans:
            plan.cache.reserve(len(TRIAL), tokens)
            for slot, past, length in asked:
                plan.add(slot, past, [0] * length)
            plan.seal(hidden_TD.device, hidden_TD.dtype)
        cos_T1E, sin_T1E = _angles(module.model, part_TD, plans[0].positions_T)
        found.append(made(part_TD, cos_T1E, sin_T1E, plans[0]) - part_TD)
        turns = module.model.rotary_emb(part_TD[None], plans[1].positions_T[None])
        wanted.append(layer(part_TD[None], position_embeddings=turns, plan=plans[1])[0] - part_TD)
    apart, size = torch.cat(found) - torch.cat(wanted), torch.cat(wanted)
    if rounding := ROUNDINGS.get(type(made.qkv)):
        return bool(apart.square().mean() <= (4 * rounding) ** 2 * size.square().mean())
    return bool(apart.abs().max() <= ROUNDING * size.abs().max())
