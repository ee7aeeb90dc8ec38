"""A judge as a part of the reward: how each answer fares against the start version's own answer to the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from burnish.errors import TrainingError
from burnish.rewards.judge import Judge
from burnish.rewards.scores import Asked, Groups, Paid
from burnish.sampling import Params, Sample, Sampler
from burnish.tasks.chat import ChatTask


@dataclass
class StartAnswers:
    """The greedy answer of the start version to each prompt, sampled when it is first asked for."""

    sampler: Callable[[], Sampler]
    params: Params
    known: dict[tuple[int, ...], Sample] = field(default_factory=dict)

    def __call__(self, asked: Sequence[Asked]) -> list[Sample]:
        """One answer for each prompt."""
        prompts = [tuple(prompt.ids) for prompt in asked]
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.known]
        if new:
            found = self.sampler().sample(new, 1, replace(self.params, temperature=0.0))
            self.known |= {prompt: group[0] for prompt, group in zip(new, found, strict=True)}
        return [self.known[prompt] for prompt in prompts]


def fare(
    judge: Judge, task: ChatTask, start: StartAnswers, may_fail: bool, asked: Sequence[Asked], samples: Groups
) -> Paid:
    """1 where the judge prefers an answer to the start version's, 0 where it prefers that one, 0.5 for a tie.

    Raises:
        TrainingError: The judge refuses, or has no usable answer and may not fail.
    """
    text = task.renderer.text
    cases = [
        (prompt.row, text(sample.ids), text(answer.ids))
        for prompt, group, answer in zip(asked, samples, start(asked), strict=True)
        for sample in group
    ]
    found = judge.prefer(cases)
    if found.why is not None and not may_fail:
        raise TrainingError(found.why, mend='with failures = "count" such answers leave their group, and are counted')
    values = iter(found.values[0])
    return Paid([[next(values) for _ in group] for group in samples], found.why)
