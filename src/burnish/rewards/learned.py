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
    """The reward of every answer to every prompt; a prompt's answers share its forward.

    Args:
        prompts: N prompts as ids.
        answers: For each prompt its answers as ids, stop token included where it was said.

    Returns:
        N lists of rewards, in the scale of Bradley-Terry: a difference of d means odds of exp(d).
    """
    trees = [
        Tree(prompt, tuple(Answer(ids, [0.0] * len(ids)) for ids in group))
        for prompt, group in zip(prompts, answers, strict=True)
    ]
    scores: list[float] = []
    with torch.no_grad():
        for stream in pack(trees, budget):
            scores += model.scores(stream).tolist()
    found = iter(scores)
    return [[next(found) for _ in group] for group in answers]


@dataclass(frozen=True)
class Ensemble:
    """Reward models as one (Coste et al. 2023, arXiv:2310.02743): the mean, less ``penalty`` times the deviation.

    ``centres`` are the models' mean scores of held-out answers, taken off before they are compared: comparisons say
    nothing about a score's zero, so models may differ in it without differing in anything they learned.
    """

    models: Sequence[RewardModel]
    centres: Sequence[float]
    penalty: float = 0.0

    def __call__(self, asked: Sequence[Asked], samples: Groups) -> Paid:
        ids = [[sample.ids for sample in group] for group in samples]
        scores_MNG = [score_answers(model, [prompt.ids for prompt in asked], ids) for model in self.models]
        if len(scores_MNG) == 1:
            return Paid([list(group) for group in scores_MNG[0]])
        values: list[list[float | None]] = []
        spreads = []
        for scores_MG in zip(*scores_MNG, strict=True):
            values.append([])
            for scores_M in zip(*scores_MG, strict=True):
                mean, spread = mean_and_deviation(scores_M, self.centres)
                values[-1].append(mean - self.penalty * spread)
                spreads.append(spread)
        return Paid(values, figures={"uncertainty": sum(spreads) / len(spreads)})


def mean_and_deviation(scores_M: Sequence[float], centres_M: Sequence[float]) -> tuple[float, float]:
    """Mean and population deviation of M models' scores of one answer, each less its model's centre."""
    apart = [score - centre for score, centre in zip(scores_M, centres_M, strict=True)]
    mean = sum(apart) / len(apart)
    return mean, math.sqrt(sum((score - mean) ** 2 for score in apart) / len(apart))
