"""The brake of reinforcement learning: it watches the policy on prompts that are never trained on, and stops it.

Rewards rise while answers degrade (Gao, Schulman and Hilton 2023). Before each rollout the policy answers the same dev
prompts with the same draws as before the first; a rollout's own prompts change every time, and their figures with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.rewards.scores import Asked
from burnish.store import derive_seed
from burnish.training.held_out import Stop
from burnish.training.rollouts import Rollouts

REPEATED, DISTINCT = 4, 2  # tokens of the n-grams that repetition and diversity count


@dataclass(frozen=True)
class Budgets:
    """How far the policy may go from its start.

    ``kl`` in nats per token; ``length`` and ``diversity`` as the share that the mean length may move by and that the
    share of distinct 2-grams may fall by; ``repetition`` as what the share of repeated 4-grams may rise by.
    """

    kl: float
    length: float
    repetition: float
    diversity: float

    def exceeded(self, now: Mapping[str, float], start: Mapping[str, float]) -> str | None:
        """Why to stop, by the figures on dev now and before the first update; None inside all budgets.

        A figure that is not a number is outside.
        """
        if not now["dev_kl"] <= self.kl:
            return f"KL to the start is {now['dev_kl']:.3f} nats a token, over rl.stop_kl = {self.kl}"
        moved = now["dev_length"] / start["dev_length"] - 1
        if not abs(moved) <= self.length:
            return f"the mean length moved by {moved:+.0%}, over rl.stop_length = {self.length:.0%}"
        risen = now["dev_repetition"] - start["dev_repetition"]
        if not risen <= self.repetition:
            return f"repeated 4-grams rose by {risen:.0%}, over rl.stop_repetition = {self.repetition:.0%}"
        fallen = 1 - now["dev_distinct"] / start["dev_distinct"] if start["dev_distinct"] else 0.0
        if not fallen <= self.diversity:
            return f"distinct 2-grams fell by {fallen:.0%}, over rl.stop_diversity = {self.diversity:.0%}"
        return None


@dataclass
class Brake:
    """What looks at the policy before each rollout. Its memory is part of the rollouts' state, so of checkpoints."""

    rollouts: Rollouts
    dev: Sequence[Asked]
    budgets: Budgets

    @property
    def before(self) -> Mapping[str, float]:
        """The figures on dev before the first update."""
        return dict(self.rollouts.state["before"])

    def look(self, step: int) -> dict[str, float]:
        """The policy's figures on dev after ``step`` updates, its reward there as "held_out".

        Raises:
            Stop: It is outside its budgets.
        """
        dev = self._on_dev()
        self.rollouts.state.setdefault("before", dev)  # of the first look, before any update
        figures = {"held_out": dev["dev_reward"], **dev}
        why = self.budgets.exceeded(dev, self.before)
        if why:
            raise Stop(why, figures)
        return figures

    def _on_dev(self) -> dict[str, float]:
        """The policy on the dev prompts, one answer each."""
        seed = derive_seed(self.rollouts.seed, "dev")
        measured = self.rollouts.measure(self.rollouts.sampler(), self.dev, 1, seed)
        figures: dict[str, Any] = measured.figures()
        parts = [name for name in figures if name.startswith("reward/")]
        answers = [sample.ids for group in measured.drawn for sample in group]
        said = {"repetition": repetition(answers), "distinct": distinct(answers)}
        kept = {name: figures[name] for name in ("reward", *parts, "kl", "length", "cut_share")}
        return {f"dev_{name}": value for name, value in (kept | said).items()}


def repetition(answers: Sequence[Sequence[int]], n: int = REPEATED) -> float:
    """1 - distinct n-grams / n-grams, each answer's own, over the n-grams of all answers; 0 where there is none."""
    grams = [_grams(answer, n) for answer in answers]
    total = sum(map(len, grams))
    return 1 - sum(len(set(each)) for each in grams) / total if total else 0.0


def distinct(answers: Sequence[Sequence[int]], n: int = DISTINCT) -> float:
    """Distinct n-grams of all answers together / their n-grams (Li et al. 2016); 0 where there is none."""
    grams = [gram for answer in answers for gram in _grams(answer, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _grams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
