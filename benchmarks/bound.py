"""The matrix-product bound of an update: how long its products would take if nothing else were done.

Counted are the products of the linear layers, of their adapters, of the output head and of attention: forward, input
gradient, and the adapters' own gradients. Norms, gates, softmax, positions and all copying are not, so a share of 100 %
cannot be reached. Each shape is timed alone, on several different weights, in the faster of the two orders that torch
can take; of attention's squares only the part below the diagonal counts. Streams of nearly as many tokens share a
timing: it is taken at a multiple of 64 tokens and counted in proportion.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence

import torch

from burnish.models.language import LanguageModel
from burnish.models.layer import LINEARS
from burnish.objectives import Span, Stream

Shape = tuple[int, int, int]  # rows, inner, columns
NEAR = 64  # tokens between two timings


def products(
    base: LanguageModel, stream: Stream, rank: int, first: int, head: bool, reference: bool
) -> dict[Shape, float]:
    """How often each product is taken for one stream whose layers from ``first`` on are trained, by shape.

    After the last layer's attention only the positions that the head or the reward reads are left.
    """
    read = stream.last_A if stream.last_A is not None else stream.take_S
    found: dict[Shape, float] = defaultdict(float)
    for number, layer in enumerate(base.trunk.layers):
        for name in LINEARS:
            wide, deep = layer.get_submodule(name).weight.shape  # outputs, inputs
            below = name in LINEARS[:3]
            tokens, times = _near(len(stream.ids_T if below or number < len(base.trunk.layers) - 1 else read))
            if reference:
                found[tokens, deep, wide] += times
            if number < first:
                continue
            found[tokens, deep, wide] += times
            if number > first or not below:  # nothing below the first trained layer wants a gradient
                found[tokens, wide, deep] += times
            found[tokens, deep, rank] += times  # x A^T
            found[tokens, rank, wide] += times  # (x A^T) B^T
            found[tokens, wide, rank] += times  # g B
            found[tokens, rank, deep] += times  # (g B) A
            found[rank, tokens, deep] += times  # A's gradient
            found[wide, tokens, rank] += times  # B's gradient
    if head:
        supervised, times = _near(len(stream.take_S))
        words, width = base.head.shape
        found[supervised, width, words] += times * (2 if reference else 1)
        found[supervised, words, width] += times
    return found


def _near(tokens: int) -> tuple[int, float]:
    """The multiple of ``NEAR`` to time instead, and what one of its timings counts."""
    near = max(NEAR, round(tokens / NEAR) * NEAR)
    return near, tokens / near


def bound(streams: Sequence[Stream], base: LanguageModel, rank: int, first: int, head: bool, reference: bool) -> float:
    """Seconds of the streams' products."""
    total: dict[Shape, float] = defaultdict(float)
    depth = len(base.trunk.layers)
    attended = 0.0
    for stream in streams:
        for shape, count in products(base, stream, rank, first, head, reference).items():
            total[shape] += count
        times = 6 * (depth - first) + 2 * depth * reference  # two products forward, four for the gradients
        attended += times * sum(_attention(span, base) for span in stream.spans)
    return sum(_seconds(shape) * count for shape, count in total.items()) + attended


def _attention(span: Span, base: LanguageModel) -> float:
    """Seconds of one of attention's products for a span: scores of its tokens with what they may see."""
    own, above = span.stop - span.start, span.parent[1] - span.parent[0] if span.parent else 0
    config = base.module.config
    seen = (own * above + own * own / 2) / (own * (own + above))
    return seen * _scores(int(config.num_attention_heads), own, int(config.head_dim), own + above)


@functools.cache
def _scores(heads: int, rows: int, width: int, columns: int) -> float:
    left, right = torch.randn(heads, rows, width), torch.randn(heads, width, columns)

    def once() -> float:
        began = time.perf_counter()
        left @ right
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(5))


def _seconds(shape: Shape, repeats: int = 5) -> float:
    rows, inner, columns = shape
    left = torch.randn(rows, inner)
    right = [torch.randn(inner, columns) for _ in range(1 if inner * columns > 1 << 22 else 6)]
    turned = [part.T.contiguous() for part in right]

    def once(transposed: bool) -> float:
        began = time.perf_counter()
        for weight in turned if transposed else right:
            left @ (weight.T if transposed else weight)
        return (time.perf_counter() - began) / len(right)

    once(False), once(True)
    return min(statistics.median(once(order) for _ in range(repeats)) for order in (False, True))
