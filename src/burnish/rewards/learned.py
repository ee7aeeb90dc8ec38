"""The learned reward as a scorer of sampled answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from burnish.models.reward import RewardModel
from burnish.objectives.stream import Answer, Tree, pack


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
