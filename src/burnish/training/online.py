"""The online stage: group-relative policy optimisation against the learned reward, on a leash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from burnish.config import Recipe
from burnish.models.artifacts import load_reward, load_version, save_version
from burnish.objectives.stream import Stream
from burnish.objectives.terms import Outputs, entropy_term, kl_term, likelihood_term, policy_term
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.rewards.learned import score_answers
from burnish.sampling import Engine, Params, Sample
from burnish.store import Store, Work, derive_seed
from burnish.tasks.chat import ChatTask
from burnish.training.loop import Loop, Settings
from burnish.training.rollouts import Budgets, Rollouts
from burnish.training.settings import rl_settings, shown

VERSION = 1
KEPT_SAMPLES = 3


def train_online(
    recipe: Recipe, start: Record, reward: Record, dataset: Record, store: Store, cache: Path, progress: Progress
) -> Record:
    """Improve ``start`` against ``reward`` into a new version; the reference is a frozen copy of ``start``.

    The last checkpoint within the budgets of KL and length is kept, checked once more on dev prompts at the end.
    """
    assert recipe.rl is not None
    table = recipe.rl
    choices = rl_settings(recipe)
    work = Work(
        kind="version",
        stage="rl",
        version=VERSION,
        settings={
            "rl": table.model_dump(mode="json") | {n: c.value for n, c in choices.items()},
            "evaluate": {"max_new_tokens": recipe.evaluate.max_new_tokens},
        },
        parents=(start, reward, dataset),
        seed=derive_seed(recipe.seed, "rl"),
        project=recipe.name,
    )

    def make() -> Mapping[str, Json]:
        loaded = load_version(store, start, cache, trainable=True, seed=work.seed)
        policy, task = loaded.model, ChatTask(loaded.renderer, recipe.evaluate.max_new_tokens)
        scorer = load_reward(store, reward, cache)
        params = Params(1.0, 1.0, recipe.evaluate.max_new_tokens, work.seed, loaded.renderer.stop_ids)
        rows = store.datasets.rows(dataset.id, "prompts") or store.datasets.rows(dataset.id, "train")

        def keep(step: int, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[Sample]]) -> list[str]:
            return keep_samples(store, task, start, work, step, prompts, groups)

        rollouts = Rollouts(
            sampler=lambda: Engine(policy.merged(), slots=table.prompts * table.group),
            reference=policy.sibling(frozen_adapter(store, start)),
            score=lambda prompts, answers: score_answers(scorer, prompts, answers),
            keep=keep,
            prompts=[task.prompt_ids(row) for row in rows],
            prompts_per_rollout=table.prompts,
            group=table.group,
            params=params,
            budgets=Budgets(table.stop_kl, table.stop_length),
            seed=work.seed,
            demonstrations=[task.supervised(row) for row in store.datasets.rows(dataset.id, "train")]
            if table.demonstrations
            else (),
        )
        return _train(recipe, work, loaded, rollouts, dataset, store, progress, choices)

    return store.once(work, make, progress=progress)
