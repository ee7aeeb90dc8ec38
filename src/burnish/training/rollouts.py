"""Rollouts: groups of answers of the current policy, scored and turned into windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from burnish.errors import TrainingError
from burnish.models.language import LanguageModel
from burnish.models.memory import release
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs, Term, TermResult
from burnish.records import Row
from burnish.rewards.scores import Asked, Score, rewarded
from burnish.sampling import (
    MISMATCH_HALF,
    MISMATCH_INT8,
    MISMATCH_LIMIT,
    MISMATCH_ROUNDED,
    MISMATCH_SERVED,
    Params,
    Sample,
    Sampler,
    mismatch,
)
from burnish.store import derive_seed
from burnish.training.credit.kl import controlled
from burnish.training.episodes import Episodes, turns
from burnish.training.measured import Measured, as_trees, with_reference, with_shown, with_trainer, with_values
from burnish.training.plan import Plan
from burnish.training.shared import SharedLayers

MISMATCH_TOKENS = 2000  # fewer say too little about whether sampler and trainer agree
LIMITS = {"exact": MISMATCH_LIMIT, "half": MISMATCH_HALF, "int8": MISMATCH_INT8, "server": MISMATCH_SERVED}
MENDS = {
    "exact": "this is a bug of the sampler or the trainer; please report it with `burnish doctor`",
    "half": '16 bits are too coarse for this model: set rl.sampler = "exact"',
    "int8": '8 bits are too coarse for this model: set rl.sampler = "half" or "exact"',
    "server": "the server runs another base, or rounds it too coarsely",
}

Keep = Callable[[int, Sequence[int], Sequence[Sequence[Sample]]], list[str]]


@dataclass
class Rollouts:
    """Windows of reinforcement learning: ``prompts_per_rollout`` groups a rollout, cut as the ``plan`` says.

    ``sampler`` makes the engine of the current policy; ``score`` gives rewards, the plan's credit makes a lesson of
    them; ``critic`` is the forward that values tokens, where the plan has one; ``keep`` stores a few samples for people
    to read and returns their ids; ``episodes`` plays conversations with an environment, where there is one.
    ``demonstrations`` are supervised trees mixed into every window, ``shown`` gives the written answer that joins a
    prompt's group, where the plan wants one. ``shared`` are layers that the reference has in common with the policy and
    with models that the reward asks. ``kind`` is the recipe's ``rl.sampler``; ``trainer`` is the policy, where its own
    logprobs of what was drawn are wanted beside the sampler's; ``learner`` is the policy, where the first update on a
    rollout may go back along what its sampler computed.
    A rollout depends on its number, the seed and the policy alone, so that a killed one is replayed whole.
    """

    sampler: Callable[[], Sampler]
    reference: LanguageModel
    score: Score
    plan: Plan
    keep: Keep
    prompts: Sequence[Asked]
    prompts_per_rollout: int
    group: int
    params: Params
    seed: int
    demonstrations: Sequence[Tree] = ()
    critic: Callable[[Stream], Outputs] | None = None
    shown: Callable[[Row], Sequence[int] | None] | None = None
    shared: SharedLayers | None = None
    kind: str = "exact"
    trainer: LanguageModel | None = None
    learner: LanguageModel | None = None
    episodes: Episodes | None = None
    state: dict[str, Any] = field(default_factory=dict)
    part: int = 0
    _groups: list[Tree] = field(default_factory=list)
    _figures: Mapping[str, Any] = field(default_factory=dict)

    def window(self, step: int) -> list[Tree]:
        inner = self.plan.inner
        rollout, self.part = divmod(step, inner.updates)
        if self.part == 0:
            self._groups = self.collect(rollout, step)
        else:
            self._figures = {}
            self._leave_trail()
        turn, place = divmod(self.part, inner.minibatches)
        groups = self._in_turn(rollout, turn)
        first, last = (-(-len(groups) * at // inner.minibatches) for at in (place, place + 1))
        return [*(groups[first:last] or groups), *self._shown(step)]

    def boundary(self, step: int) -> bool:
        return step % self.plan.inner.updates == 0

    def figures(self) -> Mapping[str, Any]:
        return self._figures

    def collect(self, rollout: int, step: int) -> list[Tree]:
        """The groups of a rollout; others are drawn in the place of those that teach nothing, if the plan says so."""
        self._forget()
        chosen = self._chosen(rollout)
        if self.learner is not None:
            prompts = {tuple(self.prompts[i].ids) for i in chosen}
            answers = len(chosen) * self.group * self.params.max_new_tokens
            self.learner.lay_trail(sum(map(len, prompts)) + answers)
        drawn = self._draw(rollout, 0, chosen)
        for draw in range(1, self.plan.draws + 1):
            missing = self.prompts_per_rollout - len(self._telling(drawn))
            if missing <= 0:
                break
            drawn += self._draw(rollout, draw, self._others(rollout, draw, missing))
        telling = self._telling(drawn)
        silent = [n for n in range(len(drawn.trees)) if n not in telling]
        kept = drawn.at(sorted([*telling, *silent][: self.prompts_per_rollout]))
        if self.critic is not None:
            kept = replace(kept, trees=with_values(kept.trees, self.critic, self.shared is not None))
        figures = drawn.figures()
        trees, learned = self.plan.lesson(kept, self._kl_weight(rollout, figures["kl"]))
        self._figures = {
            **figures,
            **learned,
            **({} if self.episodes is None else {"turns": turns(drawn.drawn)}),
            "redrawn_share": len(drawn.trees) / self.prompts_per_rollout - 1,
            "samples": self.keep(step, chosen, drawn.drawn),
        }
        return trees

    def measure(self, asked: Sequence[Asked], n: int, seed: int, rollout: int | None = None) -> Measured:
        """Sample ``n`` answers to each prompt, score them, and run those with a reward under the start version.

        ``rollout`` is the number of a rollout, None for a look.
        """
        if rollout is None:
            self._forget()
        drawn = self._sampled(asked, n, replace(self.params, seed=seed))
        release()
        graded = drawn if rollout is None or self.shown is None else with_shown(drawn, asked, self.shown)
        scores = self.score(asked, graded, self.state.setdefault("scales", {}), rollout)
        paid, samples, scores = rewarded(asked, graded, scores, least=min(n, 2))
        trees, temperature = as_trees([prompt.ids for prompt in paid], samples), self.params.temperature
        if self.trainer is not None:
            trees = with_trainer(trees, self.trainer, temperature)
        trees = with_reference(trees, self.reference, temperature)
        release()
        return Measured(samples, scores, trees, drawn)

    def _forget(self) -> None:
        if self.shared is not None:
            self.shared.forget()
        self._leave_trail()

    def _leave_trail(self) -> None:
        if self.learner is not None:
            self.learner.trail = None

    def _sampled(self, asked: Sequence[Asked], n: int, params: Params) -> list[list[Sample]]:
        """``n`` answers to each prompt, by an engine of their own.

        One that has answered other prompts computes in other shapes, and its logprobs differ from those of a resumed
        run in the last bits; and its copy of the weights is gone before anything else needs memory.
        """
        engine = self.sampler()
        if self.episodes is not None:
            return self.episodes.play(engine, asked, n, params)
        return engine.sample([prompt.ids for prompt in asked], n, params)

    def _draw(self, rollout: int, draw: int, chosen: Sequence[int]) -> Measured:
        seed = derive_seed(self.seed, "rollout", str(rollout), *([str(draw)] if draw else []))
        return self.measure([self.prompts[i] for i in chosen], self.group, seed, rollout)

    def _telling(self, measured: Measured) -> list[int]:
        """Where the groups are whose rewards teach something."""
        return [n for n, rewards_G in enumerate(measured.scores.total) if self.plan.filter(rewards_G)]

    def _others(self, rollout: int, draw: int, most: int) -> list[int]:
        """Prompts, by index, that are drawn in the place of others."""
        seed = derive_seed(self.seed, "others", str(rollout), str(draw))
        return torch.randperm(len(self.prompts), generator=torch.Generator().manual_seed(seed)).tolist()[:most]

    def _kl_weight(self, rollout: int, kl: float) -> float:
        """The weight of the KL in this rollout, adapted after it where it has a target; the same when replayed."""
        leash = self.plan.kl
        known = self.state.get("kl_weight", {"rollout": -1, "next": leash.weight})
        now = known["now"] if known["rollout"] == rollout else known["next"]
        then = now if leash.target is None else controlled(now, kl, leash.target)
        self.state["kl_weight"] = {"rollout": rollout, "now": now, "next": then}
        return float(now)

    def _in_turn(self, rollout: int, turn: int) -> list[Tree]:
        """The groups in the order of a pass: as they were drawn in the first, in another order in each later one."""
        if turn == 0:
            return self._groups
        seed = derive_seed(self.seed, "pass", str(rollout), str(turn))
        order = torch.randperm(len(self._groups), generator=torch.Generator().manual_seed(seed)).tolist()
        return [self._groups[i] for i in order]

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
        size = max(1, self.prompts_per_rollout // self.plan.inner.minibatches)
        return [self.demonstrations[(step * size + i) % len(self.demonstrations)] for i in range(size)]

    def mismatch_term(self) -> Term:
        """Mean exp |trainer logprob - sampler logprob| on fresh samples, before the policy moved. Weight 0.

        Raises (in the loss):
            TrainingError: Over the sampler's ``LIMITS`` (in bfloat16 at least ``MISMATCH_ROUNDED``) on
                ``MISMATCH_TOKENS`` tokens or more.
        """
        limit = max(LIMITS[self.kind], MISMATCH_ROUNDED if self.reference.dtype == torch.bfloat16 else 1.0)
        drawn = "old_logp" if self.trainer is None else "sampled_logp"

        def count(trees: Sequence[Tree]) -> float:
            answers = [a for t in trees for a in t.answers if drawn in a.streams]
            return 0.0 if self.part else sum(a.units for a in answers)

        def loss(outputs: Outputs, stream: Stream) -> TermResult:
            assert outputs.logp_S is not None
            zero = torch.zeros(())
            on = stream.present.get(drawn)
            if self.part or on is None or not on.any():
                return TermResult(zero)
            fresh = int(on.sum())
            apart = fresh * mismatch(stream.streams[drawn][on].tolist(), outputs.logp_S.detach()[on].tolist())
            total, tokens = self.state.get("mismatch", (0.0, 0))
            total, tokens = total + apart, tokens + fresh
            self.state["mismatch"] = (total, tokens)
            mean = total / tokens
            if tokens >= MISMATCH_TOKENS and not mean <= limit:
                raise TrainingError(
                    f"sampler and trainer disagree: mean exp |logprob difference| is {mean:.4f}, over {limit}",
                    mend=MENDS[self.kind],
                )
            return TermResult(torch.tensor(apart), {}, float(fresh))

        return Term("mismatch", "token", 0.0, count, loss)
