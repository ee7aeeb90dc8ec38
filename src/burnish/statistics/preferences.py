"""What comparisons say: win rates, strengths, and how far raters agree. Shapes: N votes, K versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

import numpy as np

from burnish.errors import EvaluationError
from burnish.records import Choice, Figure
from burnish.statistics.checks import Array, between, finite
from burnish.statistics.resampling import mean_interval

WORTH: dict[Choice, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}


def win_rate(choices: Sequence[Choice], clusters: Sequence[Hashable], *, seed: int, level: float = 0.95) -> Figure:
    """How often "a" was preferred, a tie counting as half, with its interval over clusters (prompts)."""
    worth_N = [WORTH[choice] for choice in choices]
    return mean_interval(worth_N, clusters, seed=seed, level=level)


def agreement(votes: Iterable[tuple[Hashable, Hashable, Choice]], *, seed: int, level: float = 0.95) -> Figure:
    """How often two raters of one item choose the same side: what a reward model's accuracy is held against.

    Takes (item, rater, choice). Pairs of votes of which one is a tie are left out, as they are where the
    accuracy of a reward model is measured. Each pair of raters counts once; the interval is over items. Where
    each side is chosen with probability p, raters agree p^2 + (1-p)^2 of the time and the best guess is right
    max(p, 1-p) of the time: a perfect model may lie above this figure, never above (1 + sqrt(2 x - 1)) / 2.

    Raises:
        EvaluationError: No item was judged by two raters who both took a side, or a rater judged an item
        twice.
    """
    by_item: dict[Hashable, dict[Hashable, Choice]] = defaultdict(dict)
    for item, rater, choice in votes:
        if rater in by_item[item]:
            raise EvaluationError(f"rater {rater} has two votes on {item}")
        by_item[item][rater] = choice
    same: list[float] = []
    items: list[Hashable] = []
    for item, by_rater in by_item.items():
        for first, second in combinations(by_rater.values(), 2):
            if "tie" not in (first, second):
                same.append(float(first == second))
                items.append(item)
    if not same:
        raise EvaluationError(
            "agreement is unknown: no item was judged by two raters who both took a side",
            mend="raise feedback.overlap, so that more items are put before several raters",
        )
    return mean_interval(same, items, seed=seed, level=level)


def bradley_terry(wins: Sequence[Sequence[float]] | Array) -> Array:
    """Strengths of K versions that make the observed wins most likely (Bradley and Terry 1952).

    Args:
        wins: K x K; ``wins[i][j]`` is how often i beat j, a tie being half a win for each. The diagonal is
        ignored.

    Returns:
        K positive strengths that sum to 1; i beats j with probability s_i / (s_i + s_j).

    Raises:
        EvaluationError: Not a square table of counts, or one in which some group never lost to the others (or
            was never compared with them): then no finite maximum exists.
    """
    wins_KK = np.array(finite(wins, "the table of wins"))  # type: ignore[arg-type]
    if wins_KK.ndim != 2 or wins_KK.shape[0] != wins_KK.shape[1]:
        raise EvaluationError("the table of wins is not square")
    between(wins_KK, 0, np.inf, "the table of wins")
    np.fill_diagonal(wins_KK, 0)
    _require_connected(wins_KK)
    games_KK = wins_KK + wins_KK.T
    scores_K = np.zeros(wins_KK.shape[0])
    for _ in range(200):  # Newton's method on the concave log-likelihood; the mean score is held at zero
        chance_KK = 1 / (1 + np.exp(scores_K[None, :] - scores_K[:, None]))
        gradient_K = (wins_KK - games_KK * chance_KK).sum(axis=1)
        if np.abs(gradient_K).max() < 1e-10 * games_KK.sum():
            return np.exp(scores_K) / np.exp(scores_K).sum()
        weight_KK = games_KK * chance_KK * (1 - chance_KK)
        curvature_KK = np.diag(weight_KK.sum(axis=1)) - weight_KK
        step_K = np.linalg.lstsq(curvature_KK, gradient_K, rcond=None)[0]
        scores_K = scores_K + step_K / max(1.0, float(np.abs(step_K).max()))  # a long step may overshoot
    raise EvaluationError("the strengths did not converge", mend="report the table of wins")


def _require_connected(wins_KK: Array) -> None:
    """Each version must have beaten each other one, directly or through others (Ford 1957)."""
    reach_KK = (wins_KK > 0) | np.eye(len(wins_KK), dtype=bool)
    for _ in range(len(wins_KK)):
        reach_KK = (reach_KK.astype(np.int64) @ reach_KK) > 0
    if not reach_KK.all():
        raise EvaluationError(
            "strengths are unknown: some versions never lost to, or never met, the others",
            mend="collect more comparisons between them",
        )
