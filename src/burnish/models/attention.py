"""Attention over a flat stream, registered with transformers under our own name, and what it refuses.

Axes: T packed tokens, H heads, K key heads, G query heads of a key head, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from burnish.errors import ModelError
from burnish.objectives import Span, above

NAME = "burnish_flat"
# Architectures whose trunk is plain causal attention and whose logits are the head's product, nothing else.
KNOWN = ("llama", "mistral", "qwen2", "qwen3")


def register() -> str:
    """Make the flat attention known to transformers, without a mask function, so that no mask is built.

    Returns its name.
    """
    AttentionInterface.register(NAME, flat_attention)
    return NAME


def flat_attention(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1HTD: Tensor,
    value_1HTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    spans: Sequence[Span] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Per span: causal attention over itself, and over all of the spans above it.

    Returns the output [1, T, H, D] and no weights.

    Raises:
        ModelError: It was called without spans, or with a mask or dropout, which it does not implement.
    """
    if spans is None or attention_mask is not None or dropout:
        raise ModelError("flat attention was called without spans, or with a mask or dropout")
    lengths = [span.stop - span.start for span in spans]
    # Key heads are the batch, and their query heads read the same keys through a view: nothing is repeated in memory.
    grouped_KGTD = query_1HTD[0].unflatten(0, (key_1HTD.shape[1], -1))
    # Split, not sliced: the gradient of a slice is as long as the whole stream, once for every span.
    queries = grouped_KGTD.split(lengths, 2)
    keys, values = (x_1HTD[0].unsqueeze(1).split(lengths, 2) for x_1HTD in (key_1HTD, value_1HTD))
    parts = []
    for length, query, key, value, parents in zip(lengths, queries, keys, values, above(spans), strict=True):
        mask = None
        if parents:
            key = torch.cat([*(keys[parent] for parent in parents), key], 2)
            value = torch.cat([*(values[parent] for parent in parents), value], 2)
            depth = key.shape[2] - length
            mask = torch.ones(length, depth + length, dtype=torch.bool, device=query.device).tril(depth)
        heads = (len(query), query.shape[1], -1, -1)
        part = F.scaled_dot_product_attention(
            query, key.expand(heads), value.expand(heads), attn_mask=mask, is_causal=mask is None, scale=scaling
        )
        parts.append(part.permute(2, 0, 1, 3))
    return torch.cat(parts).flatten(1, 2)[None], None


def refuse(config: PretrainedConfig) -> str | None:
    """Why the flat path cannot run this architecture, or None. What it does not know, it refuses."""
    if config.model_type not in KNOWN:
        return f'the architecture "{config.model_type}" is not among {", ".join(KNOWN)}'
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"it has layers of another kind: {', '.join(sorted(kinds))}"
    for name in ("attn_logit_softcapping", "final_logit_softcapping", "attention_dropout"):
        if getattr(config, name, None):
            return f"{name} is {getattr(config, name)}"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):  # the angles depend on the longest position in the batch
        return f"rope_type is {rope}"
    return None


def window(config: PretrainedConfig) -> int | None:
    """The sliding window in tokens, which no path through the stream may exceed; None where there is none."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    if not getattr(config, "use_sliding_window", True):
        return None
    return getattr(config, "sliding_window", None)
