"""Drawing token ids from logits: one uniform number per row and the inverse of the cumulative distribution.

A truncated row keeps its ``top_k`` most likely ids, of these the fewest that together reach ``top_p`` of their mass
(Holtzman et al. 2020, arXiv:1904.09751), and of these the ones at least ``min_p`` times as likely as the likeliest
(Nguyen et al. 2024, arXiv:2407.01082).

Axes: N rows, V vocabulary, B blocks of the vocabulary, I ids inside a block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 256


class Columns(NamedTuple):
    """How each row is drawn, float64 [N]: temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 keep every id.

    ``uniform`` is in [0, 1), and ignored by greedy rows.
    """

    temperature_N: Tensor
    top_k_N: Tensor
    top_p_N: Tensor
    min_p_N: Tensor
    uniform_N: Tensor


def draw(logits_NV: Tensor, columns: Columns) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one id per row.

    Returns:
        ids_N, logp_N (log-softmax(logits / temperature) of the id before truncation, temperature 1 for greedy rows) and
        finite_N: False where the logits are NaN or +inf or all -inf; such a row's id means nothing.
    """
    temperature_N, top_k_N, top_p_N, min_p_N, uniform_N = columns
    greedy_N = temperature_N == 0
    scaled_NV = logits_NV.float()
    if not bool(((temperature_N == 1) | greedy_N).all()):
        scaled_NV = scaled_NV / torch.where(greedy_N, 1.0, temperature_N).float()[:, None]
    probs_NV = scaled_NV.softmax(dim=-1)
    blocks_NB, probs_NBI = _blocks(probs_NV)
    finite_N = torch.isfinite(blocks_NB.sum(dim=-1))

    ids_N = _invert(probs_NBI, blocks_NB, uniform_N).clamp_(max=logits_NV.shape[1] - 1)  # NaN finds no place
    truncated_N = (top_k_N > 0) | (top_p_N < 1) | (min_p_N > 0)
    for row in torch.nonzero(truncated_N & finite_N & ~greedy_N).flatten().tolist():
        limits = int(top_k_N[row]), float(top_p_N[row]), float(min_p_N[row])
        ids_N[row] = _truncated(probs_NV[row], *limits, float(uniform_N[row]))
    if bool(greedy_N.any()):
        ids_N[greedy_N] = scaled_NV[greedy_N].argmax(dim=-1)
    return ids_N, probs_NV.gather(1, ids_N[:, None])[:, 0].log(), finite_N


def _blocks(probs_NV: Tensor) -> tuple[Tensor, Tensor]:
    over = probs_NV.shape[1] % BLOCK
    probs_NBI = (F.pad(probs_NV, (0, BLOCK - over)) if over else probs_NV).unflatten(1, (-1, BLOCK))
    return probs_NBI.sum(dim=-1).double(), probs_NBI


def _invert(probs_NBI: Tensor, blocks_NB: Tensor, uniform_N: Tensor) -> Tensor:
    """The block that holds the uniform's share of the mass, then the id inside it: V sums, but only B + I to scan."""
    target_N = uniform_N * blocks_NB.sum(dim=-1)
    block_N, before_N = _search(blocks_NB, target_N)
    inside_NI = probs_NBI[torch.arange(len(block_N), device=block_N.device), block_N].double()
    return block_N * BLOCK + _search(inside_NI, target_N - before_N)[0]


def _search(mass_NK: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """First entry whose cumulative mass exceeds the target, and the mass before it. Never an entry without mass:
    a target that rounding put below 0 gets the first entry that has some, one at or past the end the last."""
    device = mass_NK.device
    mass_NK, target_N = mass_NK.cpu(), target_N.cpu()  # a GPU's running sums vary from run to run
    sums_NK = mass_NK.cumsum(dim=-1)
    found_N1 = torch.searchsorted(sums_NK, target_N[:, None].clamp(min=0), right=True)
    last_N1 = torch.searchsorted(sums_NK, sums_NK[:, -1:].contiguous())
    found_N1 = torch.minimum(found_N1, last_N1).clamp_(max=mass_NK.shape[1] - 1)
    return found_N1[:, 0].to(device), (sums_NK - mass_NK).gather(1, found_N1)[:, 0].to(device)


def _truncated(probs_V: Tensor, top_k: int, top_p: float, min_p: float, uniform: float) -> Tensor:
    """One id of those that are kept; only as many are sorted as are needed to know which."""
    most = min(top_k or len(probs_V), len(probs_V))
    count = most if top_k else min(BLOCK, most)
    while True:
        ordered_K, ids_K = probs_V.topk(count)
        sums_K = ordered_K.double().cpu().cumsum(dim=0)
        mass = top_p * (float(sums_K[-1]) if top_k else 1.0)
        likely = int((ordered_K >= min_p * ordered_K[0]).sum())
        if count == most or float(sums_K[-1]) >= mass or likely < count:
            break
        count = min(count * 8, most)
    reached = int(torch.searchsorted(sums_K, mass)) + 1 if top_p < 1 else count
    kept = min(reached, likely, count)
    return ids_K[_search(ordered_K[None, :kept].double(), uniform * sums_K[kept - 1 : kept])[0]][0]
