"""The learned reward as a scorer of sampled answers: one model, or several whose deviation says how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from burnish.models.reward import RewardModel
from burnish.objectives.stream import Answer, Tree, pack
from burnish.rewards.scores import Asked, Groups, Paid


def score_answers(
    model: RewardModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    budget: int = 2048,
) -> list[list[float]]:
    """The reward of every answer to every prompt, by the model's weights; a prompt's answers share its forward.

    Args:
        prompts: N prompts as ids.
        answers: For each prompt its answers as ids, stop token included where it was said.

    Returns:
        N lists of rewards, in the scale of Bradley-Terry: a difference of d means odds of exp(d).
    """
    return weighed(model, scores_by_head(model, prompts, answers, budget))


def weighed(model: RewardModel, scores_NGH: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """The rewards of answers from what each head says of them, by the model's weights."""
    weights = model.weights_H.tolist()
    return [
        [sum(weight * score for weight, score in zip(weights, scores_H, strict=True)) for scores_H in group]
        for group in scores_NGH
    ]


def scores_by_head(
    model: RewardModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    budget: int = 2048,
) -> list[list[list[float]]]:
    """What each head says of every answer to every prompt: as ``score_answers``, with H scores in a reward's place."""
    trees = [
        Tree(prompt, tuple(Answer(ids, [0.0] * len(ids)) for ids in group))
        for prompt, group in zip(prompts, answers, strict=True)
    ]
    scores: list[list[float]] = []
    with torch.no_grad():
        for stream in pack(trees, budget):
            scores += model.by_head(stream).tolist()
    found = iter(scores)
    return [[next(found) for _ in group] for group in answers]


@dataclass(frozen=True)
class Ensemble:
    """Reward models as one (Coste et al. 2023, arXiv:2310.02743): the mean, less ``penalty`` times the deviation.

    ``centres`` are the models' mean scores of held-out answers, taken off before they are compared: comparisons say
    nothing about a score's zero, so models may differ in it without differing in anything they learned. What the heads
    of criteria say on average is among the figures, under their names.
    """

    models: Sequence[RewardModel]
    centres: Sequence[float]
    penalty: float = 0.0

    def __call__(self, asked: Sequence[Asked], samples: Groups) -> Paid:
        ids = [[sample.ids for sample in group] for group in samples]
        found = [scores_by_head(model, [prompt.ids for prompt in asked], ids) for model in self.models]
        figures = _mean_by_head(self.models, found)
        scores_MNG = [weighed(model, scores) for model, scores in zip(self.models, found, strict=True)]
        if len(scores_MNG) == 1:
            return Paid([list(group) for group in scores_MNG[0]], figures=figures)
        values: list[list[float | None]] = []
        spreads = []
        for scores_MG in zip(*scores_MNG, strict=True):
            values.append([])
            for scores_M in zip(*scores_MG, strict=True):
                mean, spread = mean_and_deviation(scores_M, self.centres)
                values[-1].append(mean - self.penalty * spread)
                spreads.append(spread)
        return Paid(values, figures=figures | {"uncertainty": sum(spreads) / len(spreads)})


def _mean_by_head(
    models: Sequence[RewardModel], scores_MNGH: Sequence[Sequence[Sequence[Sequence[float]]]]
) -> dict[str, float]:
    """What each head says on average over all answers and models; nothing of a model that has one head alone."""
    names = models[0].names
    if len(names) == 1:
        return {}
    said = [scores_H for scores_NGH in scores_MNGH for group in scores_NGH for scores_H in group]
    return {name: sum(scores) / len(scores) for name, scores in zip(names, zip(*said, strict=True), strict=True)}


def mean_and_deviation(scores_M: Sequence[float], centres_M: Sequence[float]) -> tuple[float, float]:
    """Mean and population deviation of M models' scores of one answer, each less its model's centre."""
    apart = [score - centre for score, centre in zip(scores_M, centres_M, strict=True)]
    mean = sum(apart) / len(apart)
    return mean, math.sqrt(sum((score - mean) ** 2 for score in apart) / len(apart))
