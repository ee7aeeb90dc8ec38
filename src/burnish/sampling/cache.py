"""The slot cache, the plan of one step, and the attention function that reads both.

A step is one flat axis of tokens. First come the rows: single tokens, each at the end of its own slot. Then come the
segments: stretches of a prompt. Every token's key and value go into its slot, and attention reads slots only, so that
nothing is padded and requests of any length share a step.

Axes: T tokens of the step, R rows, S slots, H query heads, K key heads, G query heads for each key head, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from burnish.errors import SamplingError

ATTENTION = "burnish_cached"
LENGTH_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of the step, which follow ``past`` cached tokens of their slot."""

    slot: int
    start: int
    stop: int
    past: int


class SlotCache:
    """Keys and values of every layer, [slots, key heads, length, head size], grown to what is asked for.

    The layers' shapes are learned from their first write. Slots double, up to ``most``, so that requests that come
    one by one do not copy the cache each time.
    """

    def __init__(self, most: int) -> None:
        self.most, self.slots, self.length = most, 0, 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def reserve(self, slots: int, length: int) -> None:
        """Make room for so many slots of so many tokens; what is cached stays."""
        length = -(-length // LENGTH_BLOCK) * LENGTH_BLOCK
        if slots <= self.slots and length <= self.length:
            return
        if slots > self.slots:
            slots = min(self.most, max(slots, 2 * self.slots))
        old_slots, old_length = self.slots, self.length
        self.slots, self.length = max(slots, self.slots), max(length, self.length)
        for layer, pair in self._layers.items():
            grown = tuple(self._empty(tensor) for tensor in pair)
            for new, old in zip(grown, pair, strict=True):
                new[:old_slots, :, :old_length] = old
            self._layers[layer] = (grown[0], grown[1])

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of a slot to another, in every layer."""
        for layer in self._layers:
            self.copy_layer(layer, source, target, length)

    def copy_layer(self, layer: int, source: int, target: int, length: int) -> None:
        for tensor in self._layers[layer]:
            tensor[target, :, :length] = tensor[source, :, :length]

    def clear(self, slot: int) -> None:
        """Forget a slot's numbers: a NaN left behind would reach the next request through the mask."""
        for pair in self._layers.values():
            for tensor in pair:
                tensor[slot] = 0

    def write(self, layer: int, key_TKD: Tensor, value_TKD: Tensor, slots_T: Tensor, positions_T: Tensor) -> None:
        """Put the step's keys and values at their slots and positions."""
        for cached, new in zip(self.room(layer, key_TKD, value_TKD), (key_TKD, value_TKD), strict=True):
            cached[slots_T, :, positions_T] = new

    def room(self, layer: int, key_TKD: Tensor, value_TKD: Tensor) -> tuple[Tensor, Tensor]:
        """What ``read`` gives, made for keys and values like these where the layer has none."""
        if layer not in self._layers:
            self._layers[layer] = (self._empty(key_TKD[:1]), self._empty(value_TKD[:1]))
        return self._layers[layer]

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [slots, key heads, length, head size], not copied."""
        return self._layers[layer]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for pair in self._layers.values() for tensor in pair)

    def _empty(self, like: Tensor) -> Tensor:
        # zeros, not empty: a masked score of NaN memory would still be NaN times 0 in the product with the values
        return like.new_zeros(self.slots, like.shape[1], self.length, like.shape[-1])


@dataclass(slots=True)
class Plan:
    """What one forward does: its tokens, where they belong, and prefixes to copy between slots.

    ``copies`` (source, target, length) are done in every layer after the step's tokens are written and in their order,
    so that a prompt can be read by its siblings in the very step that runs it.
    """

    cache: SlotCache
    longest: int
    ids: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    rows: int = 0
    segments: list[Segment] = field(default_factory=list)
    copies: list[tuple[int, int, int]] = field(default_factory=list)
    layers: set[int] = field(default_factory=set)
    slots_T: Tensor = field(init=False)
    positions_T: Tensor = field(init=False)
    mask_SL: Tensor = field(init=False)
    every_slot: bool = False  # row i is slot i: then nothing is gathered
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def add(self, slot: int, past: int, ids: Sequence[int]) -> int:
        """Add tokens that follow ``past`` cached ones; returns the index of the last. Single tokens come first."""
        if len(ids) == 1 and not self.segments:
            self.rows += 1
        else:
            self.segments.append(Segment(slot, len(self.ids), len(self.ids) + len(ids), past))
        self.ids += ids
        self.slots += [slot] * len(ids)
        self.positions += range(past, past + len(ids))
        return len(self.ids) - 1

    def seal(self, device: torch.device, dtype: torch.dtype) -> None:
        """Build the tensors that every layer shares. A slot without a row gets a row that nobody reads."""
        self.slots_T = torch.tensor(self.slots, device=device)
        self.positions_T = torch.tensor(self.positions, device=device)
        if not self.rows:
            return
        last_S = torch.zeros(1 + max(self.slots[: self.rows]), dtype=torch.long, device=device)
        last_S[self.slots_T[: self.rows]] = self.positions_T[: self.rows]
        seen_SL = torch.arange(int(last_S.max()) + 1, device=device) <= last_S[:, None]
        self.mask_SL = torch.zeros(seen_SL.shape, dtype=dtype, device=device).masked_fill_(~seen_SL, float("-inf"))
        self.every_slot = self.slots[: self.rows] == list(range(len(last_S)))
        self._masks.clear()

    def mask(self, key_heads: int) -> Tensor:
        """What is added to the rows' scores, [slots x key heads, 1, L]; the same for every layer, so made once."""
        if key_heads not in self._masks:
            self._masks[key_heads] = self.mask_SL.repeat_interleave(key_heads, 0)[:, None]
        return self._masks[key_heads]


Rows = Callable[[Tensor, Tensor, Tensor, float, Plan], Tensor]


def cached_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    plan: Plan | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over the slot cache, in the signature of transformers' attention functions.

    Args:
        query: [1, H, T, D]; ``key`` and ``value`` are [1, K, T, D].
        plan: The step; the model's forward hands it through.

    Returns:
        [1, T, H, D], and no attention weights.

    Raises:
        SamplingError: The layer asks for attention that is not implemented here.
    """
    if plan is None or attention_mask is not None:
        raise SamplingError("a sampling engine owns this model", mend="load another copy for anything else")
    _refuse(others, plan)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_THD, key_TKD, value_TKD = (x[0].transpose(0, 1) for x in (query, key, value))
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    return attend(layer, query_THD, key_TKD, value_TKD, scale, plan)[None], None


def attend(layer: int, query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, scale: float, plan: Plan) -> Tensor:
    """Write the step's keys and values of a layer, and attend over what its slots then hold: [T, H, D]."""
    plan.cache.write(layer, key_TKD, value_TKD, plan.slots_T, plan.positions_T)
    return attend_written(layer, query_THD, scale, plan, _rows)


def attend_written(layer: int, query_THD: Tensor, scale: float, plan: Plan, rows: Rows) -> Tensor:
    """Attend over what a layer's slots hold once the step is written: [T, H, D]; ``rows`` does it for the rows."""
    plan.layers.add(layer)
    for source, target, length in plan.copies:
        plan.cache.copy_layer(layer, source, target, length)
    keys, values = plan.cache.read(layer)
    if plan.rows == len(query_THD):
        return rows(query_THD, keys, values, scale, plan)
    out_THD = query_THD.new_empty(*query_THD.shape[:2], values.shape[-1])
    if plan.rows:
        out_THD[: plan.rows] = rows(query_THD[: plan.rows], keys, values, scale, plan)
    for segment in plan.segments:
        query_1HTD = query_THD[segment.start : segment.stop].transpose(0, 1)[None]
        out_THD[segment.start : segment.stop] = _segment(query_1HTD, keys, values, scale, segment)
    return out_THD


def _rows(query_RHD: Tensor, keys: Tensor, values: Tensor, scale: float, plan: Plan) -> Tensor:
    """One query a slot, over a slice of the cache.

    Two batched products: the fused kernel is made for many queries and slower here. The G query heads of a key head
    are the rows of its product, so that keys are not repeated.
    """
    (slots, length), key_heads, size = plan.mask_SL.shape, keys.shape[1], keys.shape[3]
    query_SHD = query_RHD
    if not plan.every_slot:
        query_SHD = query_RHD.new_zeros(slots, *query_RHD.shape[1:])
        query_SHD[plan.slots_T[: plan.rows]] = query_RHD
    query_XGD = query_SHD.reshape(slots * key_heads, -1, size)
    keys_XLD = keys[:slots].flatten(0, 1)[:, :length]
    values_XLD = values[:slots].flatten(0, 1)[:, :length]
    scores = torch.baddbmm(plan.mask(key_heads), query_XGD, keys_XLD.transpose(1, 2), alpha=scale)
    out_SHD = torch.bmm(torch.softmax(scores, dim=-1), values_XLD).view(slots, -1, values.shape[3])
    return out_SHD if plan.every_slot else out_SHD[plan.slots_T[: plan.rows]]


def _segment(query_1HTD: Tensor, keys: Tensor, values: Tensor, scale: float, segment: Segment) -> Tensor:
    """Causal over the slot's cached tokens and the segment itself."""
    length = segment.past + segment.stop - segment.start
    keys_1KLD = keys[segment.slot : segment.slot + 1, :, :length]
    values_1KLD = values[segment.slot : segment.slot + 1, :, :length]
    mask = None
    if segment.past:
        mask = torch.ones(query_1HTD.shape[2], length, dtype=torch.bool, device=keys.device).tril_(segment.past)
    out_1HTD = F.scaled_dot_product_attention(
        query_1HTD, keys_1KLD, values_1KLD, mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return out_1HTD[0].transpose(0, 1)


def _refuse(others: dict[str, Any], plan: Plan) -> None:
    window = others.get("sliding_window")
    if window is not None and window < plan.longest:
        raise SamplingError(
            f"the model attends over a sliding window of {window} tokens, shorter than {plan.longest}",
            mend=f"give the engine max_length={window}, or take a model with full attention",
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise SamplingError(f"the model's attention uses {name}", mend="take a model with plain attention")


AttentionInterface.register(ATTENTION, cached_attention)
