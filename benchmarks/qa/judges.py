"""Judges that never met what they judge: linear Bradley-Terry models of people's comparisons, cross-fitted over folds.

A judge scores an answer by a weighted sum of its features, and learns the weights from comparisons alone. It is convex
and has one solution, so that nothing of what it says hangs on a training run. Axes: Q questions, A answers to one, D
features, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FOLDS = 5
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # candidates: which one, every judge finds without the judged fold
STEPS, TOLERANCE = 50, 1e-10


@dataclass(frozen=True)
class Question:
    """The features of its answers [A, D], and what people said: (better, worse) as places of answers."""

    features_AD: Array
    decided: Sequence[tuple[int, int]]


def fold_of(place: int) -> int:
    """The fold of the question at this place: questions were drawn in no order that means anything."""
    return place % FOLDS


def fit(questions: Sequence[Question], penalty: float) -> Array:
    """The weights [D] that make people's choices most likely, less ``penalty`` times their squared length a half.

    A feature is measured in its own deviations over pairs, so that the penalty means the same for each.
    """
    apart_PD = _apart(questions)
    scale_D = np.sqrt((apart_PD**2).mean(axis=0))
    scale_D[scale_D == 0] = np.inf  # it never differs, so it says nothing
    x_PD = apart_PD / scale_D / np.sqrt(apart_PD.shape[1])
    w_D = np.zeros(x_PD.shape[1])
    for _ in range(STEPS):
        wrong_P = 1 / (1 + np.exp(np.clip(x_PD @ w_D, -500, 500)))
        gradient_D = penalty * w_D - x_PD.T @ wrong_P / len(x_PD)
        curved_DD = (x_PD.T * (wrong_P * (1 - wrong_P))) @ x_PD / len(x_PD) + penalty * np.eye(len(w_D))
        step_D = np.linalg.solve(curved_DD, gradient_D)
        w_D -= step_D
        if np.abs(step_D).max() < TOLERANCE:
            break
    found: Array = w_D / scale_D
    return found


def right(weights_D: Array, questions: Sequence[Question]) -> list[float]:
    """For each decided pair 1 where the weights order it as people did, 0.5 where they see no difference."""
    return [float(margin > 0) + 0.5 * float(margin == 0) for margin in _apart(questions) @ weights_D]


def penalty_for(questions: Sequence[Question]) -> float:
    """The candidate that foresees most pairs of questions that it was not fitted on; of equals the strictest."""
    parts = [[q for place, q in enumerate(questions) if fold_of(place) == fold] for fold in range(FOLDS)]
    usable = [fold for fold, part in enumerate(parts) if any(q.decided for q in part)]

    def foreseen(penalty: float) -> float:
        hits: list[float] = []
        for fold in usable:
            rest = [q for other, part in enumerate(parts) if other != fold for q in part]
            hits += right(fit(rest, penalty), parts[fold])
        return sum(hits) / len(hits)

    return max(sorted(PENALTIES, reverse=True), key=foreseen)


def cross_fitted(questions: Sequence[Question], others: dict[str, Sequence[Array]]) -> dict[str, Any]:
    """Scores by each fold's judge of what it did not see: of the known answers, and of further ones by name.

    Args:
        others: For each name, the features [A, D] of further answers to each question.

    Returns:
        "known" and each name: the scores of each question's answers; "penalties": of the judges, by fold.
    """
    scores: dict[str, Any] = {name: [[]] * len(questions) for name in ("known", *others)}
    scores["penalties"] = []
    for fold in range(FOLDS):
        met = [question for place, question in enumerate(questions) if fold_of(place) != fold]
        penalty = penalty_for(met)
        weights_D = fit(met, penalty)
        scores["penalties"].append(penalty)
        for place in range(fold, len(questions), FOLDS):
            scores["known"][place] = (questions[place].features_AD @ weights_D).tolist()
            for name, features in others.items():
                scores[name][place] = (features[place] @ weights_D).tolist()
    return scores


def _apart(questions: Sequence[Question]) -> Array:
    """The better answer's features minus the worse one's, for each decided pair [P, D]."""
    found = [q.features_AD[better] - q.features_AD[worse] for q in questions for better, worse in q.decided]
    return np.array(found)
