"""How fast this machine multiplies at the shapes of the packaged model, by the number of rows.

    python benchmarks/products.py [ROWS ...]

Prints GFLOP/s of the product with a weight as a linear layer holds it (forward), with the weight itself (input
gradient), with weights laid out beforehand by oneDNN in both directions, and with weights laid out for the sampler's
kernel (0 where it cannot be built).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from burnish.sampling.kernel import kernel

SHAPES = [(576, 576), (576, 192), (576, 1536), (1536, 576)]  # inputs, outputs
WEIGHTS = 6  # different ones in turn, so that no cache holds them all


def rate(work: Callable[[torch.Tensor], object], weights: list[torch.Tensor], operations: float) -> float:
    """GFLOP/s of the fastest of seven rounds over the weights."""
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        for weight in weights:
            work(weight)
        best = min(best, time.perf_counter() - began)
    return operations * len(weights) / best / 1e9


def main() -> None:
    rows = [int(text) for text in sys.argv[1:]] or [1, 8, 32, 128, 390, 780, 1557]
    print(f"{torch.get_num_threads()} threads\n")
    print("| rows | inputs | outputs | forward | gradient | oneDNN | oneDNN, gradient | kernel |")
    print("|---|---|---|---|---|---|---|---|")
    packed, made = torch.ops.mkldnn, kernel()
    for count in rows:
        for inputs, outputs in SHAPES:
            weights = [torch.randn(outputs, inputs) for _ in range(WEIGHTS)]
            x, grad = torch.randn(count, inputs), torch.randn(count, outputs)
            laid = [packed._reorder_linear_weight(weight, count) for weight in weights]
            turned = [packed._reorder_linear_weight(weight.T.contiguous(), count) for weight in weights]
            operations = 2.0 * count * inputs * outputs
            found = [
                rate(lambda weight, x=x: x @ weight.T, weights, operations),
                rate(lambda weight, grad=grad: grad @ weight, weights, operations),
                rate(lambda weight, x=x: packed._linear_pointwise(x, weight, None, "none", [], ""), laid, operations),
                rate(lambda w, x=grad: packed._linear_pointwise(x, w, None, "none", [], ""), turned, operations),
                rate(lambda w, x=x: made.product(x, w, None), [made.pack(w) for w in weights], operations)
                if made else 0.0,
            ]  # fmt: skip
            print(
                f"| {count} | {inputs} | {outputs} | " + " | ".join(f"{value:.0f}" for value in found) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
