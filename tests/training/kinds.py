"""A small run of every kind of training, on whatever base it is given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from burnish.config import Rl
from burnish.models.adapters import Lora
from burnish.models.distillation import Student, with_top
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.models.value import Critic
from burnish.objectives import METHODS, Answer, Outputs, Stream, Term, Tree, distillation_term, pairwise_term
from burnish.objectives.terms import likelihood_term
from burnish.progress import Silent
from burnish.training.boundaries import keep_boundaries
from burnish.training.loop import Loop, Settings
from burnish.training.passes import Epochs
from burnish.training.plan import plan_of
from burnish.training.remembered import Remembered, with_reference
from training.test_rollouts import rollouts_of

Forward = Callable[[Stream], Outputs]
Prepared = tuple[dict[str, torch.nn.Parameter], Forward, Any, list[Term], bool]
UPDATES = 6


def rows(answers: int = 1) -> list[Tree]:
    """Four prompts, each with so many answers."""

    def answer(row: int, number: int) -> Answer:
        ids = [(11 * row + 5 * number + 3 * place) % 200 for place in range(3 + row + number)]
        return Answer(ids, [1.0] * len(ids), row=row)

    figures = {"preference": 1.0, "votes": 1.0} if answers == 2 else {}
    return [Tree(range(4 + n), tuple(answer(n, k) for k in range(answers)), figures) for n in range(4)]


def sft(base: LanguageModel, folder: Path, how: Lora | Full | None = None) -> Prepared:
    model = base.trainable(how or Lora(4))
    keep_boundaries(model, rows(), 2, folder, "base", Silent(), "sft")
    return model.parameters(), model.logp, Epochs(rows(), 4, 0, every=2), [likelihood_term()], False


def dpo(base: LanguageModel, folder: Path) -> Prepared:
    model = base.trainable(Lora(4))
    trees = with_reference(rows(2), base, Remembered(folder / "logps", "base"), Silent())
    return model.parameters(), model.logp, Epochs(trees, 4, 0, every=2), METHODS["dpo"].terms({}), False


def reward(base: LanguageModel, folder: Path) -> Prepared:
    model = RewardModel.on(base, Lora(4), layers=1, seed=0)
    keep_boundaries(model.trunk, rows(2), 2, folder, "base", Silent(), "reward", keep_last=True)

    def forward(stream: Stream) -> Outputs:
        return Outputs(scores_A=model.scores(stream))

    return model.parameters(), forward, Epochs(rows(2), 4, 0, every=2), [pairwise_term()], True


def distilled(base: LanguageModel, folder: Path, stored: bool = False) -> Prepared:
    model, teacher = base.trainable(Lora(4)), base.sibling(lora=Lora(4), trainable=True)
    for name, parameter in teacher.parameters().items():  # B starts at zero: the teacher would be the student
        parameter.data += 0.2 if name.endswith("lora_B") else 0.0
    trees = with_top(rows(), teacher, 4, 2.0, budget=30) if stored else rows()
    student = Student(model, None if stored else teacher, temperature=2.0)
    return model.parameters(), student.logp, Epochs(trees, 4, 0, every=2), [distillation_term(1.0, stored)], False


def rl(base: LanguageModel, folder: Path, algorithm: str) -> Prepared:
    model = base.trainable(Lora(4))
    plan = plan_of(Rl(prompts=2, group=3, algorithm=algorithm), 0.1, 6)
    learner = Critic(model) if plan.critic else model
    critic = learner.logp if isinstance(learner, Critic) else None
    rollouts = rollouts_of(model, reference=base, plan=plan, critic=critic)
    terms = [*plan.terms, rollouts.mismatch_term()]
    return learner.parameters(), partial(learner.logp, entropy=True), rollouts, terms, False


KINDS: dict[str, Callable[[LanguageModel, Path], Prepared]] = {
    "sft": sft,
    "sft, last layer": partial(sft, how=Lora(4, layers=1)),
    "sft, dora": partial(sft, how=Lora(4, method="dora")),
    "sft, full": partial(sft, how=Full()),
    "sft, last layer full": partial(sft, how=Full(layers=1)),
    "dpo": dpo,
    "reward": reward,
    "distillation": distilled,
    "distillation, stored": partial(distilled, stored=True),
    "grpo": partial(rl, algorithm="grpo"),
    "ppo": partial(rl, algorithm="ppo"),
}


class Run:
    """A run of a kind: what it logged, and what came out."""

    def __init__(self, kind: str, base: LanguageModel, folder: Path, updates: int = UPDATES, stop: int | None = None):
        self.parameters, forward, windows, terms, keep_last = KINDS[kind](base, folder)
        settings = Settings(updates, 1e-2, "constant", budget=40, keep_last=keep_last)
        self.loop = Loop(self.parameters, forward, windows, terms, settings, folder / "run", Silent())
        if stop is not None:
            self._stop_before(windows, stop)
        with contextlib.suppress(KeyboardInterrupt):
            self.loop.run()
        self.losses = [line["loss"] for line in self.loop.log.read(folder / "run")]

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().cpu() for name, parameter in self.parameters.items()}

    @staticmethod
    def _stop_before(windows: Any, step: int) -> None:
        window = windows.window

        def until(number: int) -> Sequence[Tree]:
            if number == step:
                raise KeyboardInterrupt
            trees: Sequence[Tree] = window(number)
            return trees

        windows.window = until
