"""Rollouts: groups of answers of the current policy, scored, turned into windows, and watched by a brake."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from burnish.errors import TrainingError
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Stream, Tree, pack
from burnish.objectives.terms import Outputs, Term, TermResult
from burnish.rewards.scores import Asked, Score, Scores, rewarded
from burnish.sampling import MISMATCH_LIMIT, Params, Sample, Sampler, mismatch
from burnish.store import derive_seed
from burnish.training.held_out import Stop

MINIBATCHES = 2
MISMATCH_TOKENS = 2000  # fewer say too little about whether sampler and trainer agree


Credit = Callable[[Sequence[Sequence[float]]], list[list[float]]]
Keep = Callable[[int, Sequence[int], Sequence[Sequence[Sample]]], list[str]]


@dataclass(frozen=True)
class Budgets:
    """How far the policy may go from its start: KL in nats per token, and the share its mean length may move."""

    kl: float
    length: float

    def exceeded(self, kl: float, length: float, start_length: float) -> str | None:
        """Why to stop, or None."""
        if not kl <= self.kl:
            return f"KL to the start is {kl:.3f} nats a token, over rl.stop_kl = {self.kl}"
        moved = length / start_length - 1
        if not abs(moved) <= self.length:
            return f"the mean length moved by {moved:+.0%}, over rl.stop_length = {self.length:.0%}"
        return None


@dataclass
class Rollouts:
    """Windows of reinforcement learning: ``prompts_per_rollout`` groups a rollout, cut into two minibatches.

    ``sampler`` makes the engine of the current policy; ``score`` gives rewards, ``credit`` turns a rollout's into
    advantages; ``keep`` stores a few samples for people to read and returns their ids; ``demonstrations`` are
    supervised trees mixed into every window. ``dev`` are prompts that are never trained on: before each rollout the
    policy answers them with the same draws as before the first, and the budgets are checked there. A rollout's own
    prompts change every time, and their lengths with them.
    A rollout depends on its number, the seed and the policy alone, so that a killed one is replayed whole.
    """

    sampler: Callable[[], Sampler]
    reference: LanguageModel
    score: Score
    credit: Credit
    keep: Keep
    prompts: Sequence[Asked]
    dev: Sequence[Asked]
    prompts_per_rollout: int
    group: int
    params: Params
    budgets: Budgets
    seed: int
    demonstrations: Sequence[Tree] = ()
    state: dict[str, Any] = field(default_factory=dict)
    part: int = 0
    _groups: list[Tree] = field(default_factory=list)
    _figures: Mapping[str, Any] = field(default_factory=dict)
    _engine: Sampler | None = None  # of the look before a rollout, whose policy it shares

    def window(self, step: int) -> list[Tree]:
        rollout, self.part = divmod(step, MINIBATCHES)
        if self.part == 0:
            self._groups = self._collect(rollout, step)
        else:
            self._figures = {}
        size = -(-len(self._groups) // MINIBATCHES)
        return [*self._groups[self.part * size : (self.part + 1) * size], *self._shown(step)]

    def boundary(self, step: int) -> bool:
        return step % MINIBATCHES == 0

    def figures(self) -> Mapping[str, Any]:
        return self._figures

    def measure(
        self, engine: Sampler, asked: Sequence[Asked], n: int, seed: int, rollout: int | None = None
    ) -> tuple[list[list[Sample]], list[Tree], dict[str, Any]]:
        """Sample and score ``n`` answers to each prompt: the samples, the groups as trees, and their figures.

        Answers without a reward are in the samples alone. ``rollout`` is the number of a rollout, None for a look.
        """
        sampled = engine.sample([prompt.ids for prompt in asked], n, replace(self.params, seed=seed))
        scores = self.score(asked, sampled, self.state.setdefault("scales", {}), rollout)
        paid, samples, scores = rewarded(asked, sampled, scores, least=min(n, 2))
        advantages = self.credit(scores.total) if n > 1 else [[0.0] for _ in scores.total]
        trees = self._with_reference(
            [
                Tree(prompt.ids, tuple(_answer(s, a, row) for s, a in zip(group, advantage, strict=True)))
                for row, (prompt, group, advantage) in enumerate(zip(paid, samples, advantages, strict=True))
            ]
        )
        return sampled, trees, _figures(samples, scores, trees)

    def on_dev(self, engine: Sampler | None = None) -> dict[str, float]:
        """The policy on the dev prompts, one answer each: reward and its parts, KL, length, share of cut answers."""
        *_, figures = self.measure(engine or self.sampler(), self.dev, 1, derive_seed(self.seed, "dev"))
        parts = [name for name in figures if name.startswith("reward/")]
        return {f"dev_{name}": figures[name] for name in ("reward", *parts, "kl", "length", "cut_share")}

    def exceeded(self, dev: Mapping[str, float]) -> str | None:
        """Why the policy is outside its budgets, by its figures on the dev prompts; None while it is inside."""
        return self.budgets.exceeded(dev["dev_kl"], dev["dev_length"], self.state["before"]["dev_length"])

    def held_out(self, step: int) -> dict[str, float]:
        """The policy's figures on dev after ``step`` updates, its reward there as "held_out".

        Raises:
            Stop: It is outside its budgets.
        """
        self._engine = self.sampler()
        dev = self.on_dev(self._engine)
        self.state.setdefault("before", dev)  # of the first look, before any update
        figures = {"held_out": dev["dev_reward"], **dev}
        why = self.exceeded(dev)
        if why:
            raise Stop(why, figures)
        return figures

    def _collect(self, rollout: int, step: int) -> list[Tree]:
        engine, self._engine = self._engine or self.sampler(), None
        chosen = self._chosen(rollout)
        seed = derive_seed(self.seed, "rollout", str(rollout))
        samples, trees, figures = self.measure(engine, [self.prompts[i] for i in chosen], self.group, seed, rollout)
        self._figures = {**figures, "samples": self.keep(step, chosen, samples)}
        return trees

    def _chosen(self, rollout: int) -> list[int]:
        """The prompts of a rollout, by index: the next ones of a fixed order, a new order for each pass."""
        found: list[int] = []
        for place in range(rollout * self.prompts_per_rollout, (rollout + 1) * self.prompts_per_rollout):
            turn, index = divmod(place, len(self.prompts))
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "prompts", str(turn)))
            found.append(torch.randperm(len(self.prompts), generator=generator).tolist()[index])
        return found

    def _shown(self, step: int) -> list[Tree]:
        """The demonstrations of an update: as many as it has groups, in turn."""
        if not self.demonstrations:
            return []
        size = max(1, self.prompts_per_rollout // MINIBATCHES)
        return [self.demonstrations[(step * size + i) % len(self.demonstrations)] for i in range(size)]

    def _with_reference(self, trees: Sequence[Tree]) -> list[Tree]:
        """The same trees with "reference_logp": logprobs under the start version, at the sampling temperature."""
        found: list[float] = []
        with torch.no_grad():
            for stream in pack(trees, 2048, keep_last=False):
                logp = self.reference.logp(stream, temperature=self.params.temperature).logp_S
                assert logp is not None
                found += logp.tolist()
        at = iter(found)
        return [
            Tree(
                tree.prompt,
                tuple(
                    Answer(a.ids, a.weights, {**a.streams, "reference_logp": [next(at) for _ in a.ids]}, a.row)
                    for a in tree.answers
                ),
            )
            for tree in trees
        ]

    def mismatch_term(self) -> Term:
        """Mean exp |trainer logprob - sampler logprob| on fresh samples, before the policy moved. Weight 0.

        Raises (in the loss):
            TrainingError: Over ``MISMATCH_LIMIT`` on ``MISMATCH_TOKENS`` tokens or more.
        """

        def count(trees: Sequence[Tree]) -> float:
            answers = [a for t in trees for a in t.answers if "old_logp" in a.streams]
            return 0.0 if self.part else sum(a.units for a in answers)

        def loss(outputs: Outputs, stream: Stream) -> TermResult:
            assert outputs.logp_S is not None
            zero = torch.zeros(())
            on = stream.present.get("old_logp")
            if self.part or on is None or not on.any():
                return TermResult(zero)
            fresh = int(on.sum())
            apart = fresh * mismatch(stream.streams["old_logp"][on].tolist(), outputs.logp_S.detach()[on].tolist())
            total, tokens = self.state.get("mismatch", (0.0, 0))
            total, tokens = total + apart, tokens + fresh
            self.state["mismatch"] = (total, tokens)
            mean = total / tokens
            if tokens >= MISMATCH_TOKENS and not mean <= MISMATCH_LIMIT:
                raise TrainingError(
                    f"sampler and trainer disagree: mean exp |logprob difference| is {mean:.4f}, over {MISMATCH_LIMIT}",
                    mend="this is a bug of the sampler or the trainer; please report it with `burnish doctor`",
                )
            return TermResult(torch.tensor(apart), {}, float(fresh))

        return Term("mismatch", "token", 0.0, count, loss)


def _answer(sample: Sample, advantage: float, row: int) -> Answer:
    length = len(sample.ids)
    return Answer(sample.ids, [1.0] * length, {"old_logp": sample.logprobs, "advantage": [advantage] * length}, row)


def _figures(samples: Sequence[Sequence[Sample]], scores: Scores, trees: Sequence[Tree]) -> dict[str, Any]:
    flat = [sample for group in samples for sample in group]
    all_rewards = [reward for group in scores.total for reward in group]
    if not all(map(math.isfinite, all_rewards)):
        raise TrainingError(f"a reward is not finite: {all_rewards}", mend="train the reward again")
    apart = [
        old - ref
        for tree in trees
        for answer in tree.answers
        for old, ref in zip(answer.streams["old_logp"], answer.streams["reference_logp"], strict=True)
    ]
    idle = sum(len(a.ids) for t in trees for a in t.answers if a.streams["advantage"][0] == 0.0)
    return {
        "reward": sum(all_rewards) / len(all_rewards),
        **scores.figures(),
        "kl": sum(apart) / len(apart),
        "length": sum(len(s.ids) for s in flat) / len(flat),
        "cut_share": sum(s.finish_reason == "length" for s in flat) / len(flat),
        "diversity": sum(len({tuple(s.ids) for s in group}) / len(group) for group in samples) / len(samples),
        "idle_share": idle / len(apart),
    }
