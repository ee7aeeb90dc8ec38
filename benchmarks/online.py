"""The step loop of reinforcement learning on a policy of one's own: the stage's own rollouts, terms and updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish.config import Rl
from burnish.models.language import LanguageModel
from burnish.models.value import Critic
from burnish.objectives import Outputs, Stream
from burnish.progress import Silent
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Score
from burnish.sampling import Params, Sampler
from burnish.training.loop import Loop, Settings
from burnish.training.plan import plan_of
from burnish.training.rollouts import Rollouts


def online_loop(
    policy: LanguageModel,
    sampler: Callable[[], Sampler],
    reference: LanguageModel,
    ids: Sequence[int],
    table: Rl,
    seed: int,
    pay: Score,
    longest: int,
    settings: Settings,
    folder: Path,
    stop_ids: tuple[int, ...] = (),
) -> tuple[Loop, Rollouts]:
    """The loop before its first update, and where its windows come from.

    A prompt is one of ``ids``; an answer has ``longest`` ids, or ends with one of ``stop_ids``; ``pay`` gives rewards.
    """
    plan = plan_of(table, 0.0, longest)
    learner: Any = Critic(policy) if plan.critic else policy
    rollouts = Rollouts(
        sampler=sampler,
        reference=reference,
        score=pay,
        plan=plan,
        keep=lambda *_: [],
        prompts=[Asked([n], Row((Message("user", str(n)),), None, at)) for at, n in enumerate(ids, 1)],
        prompts_per_rollout=table.prompts,
        group=table.group,
        params=Params(1.0, 1.0, longest, seed, stop_ids),
        seed=seed,
        critic=learner.logp if plan.critic else None,
    )

    def forward(stream: Stream) -> Outputs:
        outputs: Outputs = learner.logp(stream, entropy=True)
        return outputs

    return Loop(learner.parameters(), forward, rollouts, plan.terms, settings, folder, Silent()), rollouts
