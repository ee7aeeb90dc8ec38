"""The matrix-product bound of an update: how long its products would take if nothing else were done.

Counted are the products of the linear layers, of their adapters, of the output head and of attention: forward, input
gradient, and the adapters' own gradients. Norms, gates, softmax, positions and all copying are not, so a share of 100 %
cannot be reached. Each shape is timed alone, on several different weights, in the faster of the two orders that torch
can take; of attention's squares only the part below the diagonal counts.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections import Counter
from collections.abc import Sequence

import torch

from burnish.models.language import LanguageModel
from burnish.models.layer import LINEARS
from burnish.objectives import Span, Stream

Shape = tuple[int, int, int]  # rows, inner, columns


def products(base: LanguageModel, stream: Stream, rank: int, first: int, head: bool, reference: bool) -> Counter[Shape]:
    """The products of one stream whose layers from ``first`` on are trained, by shape."""
    tokens, supervised = len(stream.ids_T), len(stream.take_S)
    found: Counter[Shape] = Counter()
    for number, layer in enumerate(base.trunk.layers):
        for name in LINEARS:
            wide, deep = layer.get_submodule(name).weight.shape  # outputs, inputs
            if reference:
                found[tokens, deep, wide] += 1
            if number < first:
                continue
            found[tokens, deep, wide] += 1
            if number > first or name not in LINEARS[:3]:  # nothing below the first trained layer wants a gradient
                found[tokens, wide, deep] += 1
            found[tokens, deep, rank] += 1  # x A^T
            found[tokens, rank, wide] += 1  # (x A^T) B^T
            found[tokens, wide, rank] += 1  # g B
            found[tokens, rank, deep] += 1  # (g B) A
            found[rank, tokens, deep] += 1  # A's gradient
            found[wide, tokens, rank] += 1  # B's gradient
    if head:
        words, width = base.head.shape
        found[supervised, width, words] += 2 if reference else 1
        found[supervised, words, width] += 1
    return found


def seconds_of(shapes: Counter[Shape], repeats: int = 5) -> float:
    """The seconds of all these products, each shape timed alone."""
    return sum(_seconds(shape, repeats) * count for shape, count in shapes.items())


def bound(streams: Sequence[Stream], base: LanguageModel, rank: int, first: int, head: bool, reference: bool) -> float:
    """Seconds of the streams' products."""
    total: Counter[Shape] = Counter()
    depth = len(base.trunk.layers)
    attended = 0.0
    for stream in streams:
        total += products(base, stream, rank, first, head, reference)
        times = 6 * (depth - first) + 2 * depth * reference  # two products forward, four for the gradients
        attended += times * sum(_attention(span, base) for span in stream.spans)
    return seconds_of(total) + attended


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


def _seconds(shape: Shape, repeats: int) -> float:
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
