"""The online stage: policy optimisation against a reward, learned or summed of parts, on a leash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from burnish.config import Recipe
from burnish.errors import TrainingError
from burnish.models.artifacts import Loaded, load_rewards, load_version, save_version
from burnish.models.value import Critic
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs
from burnish.parts import Parts, credit_contract, examples_of, score_contract, sources
from burnish.progress import Progress
from burnish.records import Json, Record, Row
from burnish.rewards.against import StartAnswers
from burnish.rewards.build import Means, reward_of
from burnish.rewards.scores import Asked
from burnish.sampling import Engine, Params, Sample, require_exact
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.tasks.chat import ChatTask
from burnish.training.adapting import adapted, keyed_adapt
from burnish.training.brake import Brake, Budgets
from burnish.training.held_out import HeldOut
from burnish.training.passes import Learner
from burnish.training.plan import plan_of
from burnish.training.rollouts import Rollouts
from burnish.training.settings import Choice, rl_settings, said, shown

VERSION = 4
KEPT_SAMPLES = 3
DEV_PROMPTS = 24  # answered before each rollout: enough for the budgets, and a fifth of a rollout's time
NO_PARTS = Parts()


def train_online(
    recipe: Recipe,
    start: Record,
    rewards: Sequence[Record],
    dataset: Record,
    store: Store,
    cache: Path,
    progress: Progress,
    parts: Parts = NO_PARTS,
) -> Record:
    """Improve ``start`` against a reward into a new version; the reference is ``start``, frozen.

    The reward is the weighted sum of the recipe's parts, the learned one the mean of the models of ``rewards``. Of the
    checkpoints within the brake's budgets, the one with the highest reward on dev prompts is kept.

    Raises:
        PartError: An own reward or credit function breaks its contract, or raises.
    """
    assert recipe.rl is not None
    table = recipe.rl
    choices = rl_settings(recipe)
    work = _work(recipe, start, rewards, dataset, parts, choices)

    def make() -> Mapping[str, Json]:
        frozen = load_version(store, start, cache, progress=progress)
        loaded, own = adapted(recipe, frozen, work.seed)
        choices.update(own)
        policy, task = loaded.model, task_for(recipe, loaded.renderer)
        params = Params(1.0, 1.0, recipe.evaluate.max_new_tokens, work.seed, loaded.renderer.stop_ids)
        require_exact(params)
        rows = store.datasets.rows(dataset.id, "prompts") or store.datasets.rows(dataset.id, "train")
        _require_contracts(parts, rows)
        models = load_rewards(store, rewards, cache, like=frozen)
        answered = StartAnswers(lambda: Engine(frozen.model.merged(), slots=table.prompts), params)

        def keep(step: int, chosen: Sequence[int], groups: Sequence[Sequence[Sample]]) -> list[str]:
            return _keep_samples(store, task, start, work, step, [rows[i] for i in chosen], groups)

        rollouts = Rollouts(
            sampler=lambda: Engine(policy.merged(), slots=table.prompts * table.group),
            reference=frozen.model,
            score=reward_of(
                recipe, Means(parts, task, models, [reward.body["centre"] for reward in rewards], answered, store.path)
            ),
            plan=plan_of(table, choices["kl"].value, recipe.evaluate.max_new_tokens, parts.credit),
            keep=keep,
            prompts=[Asked(task.prompt_ids(row), row) for row in rows],
            prompts_per_rollout=table.prompts,
            group=table.group,
            params=params,
            seed=work.seed,
            demonstrations=_demonstrations(recipe, task, store, dataset),
            shown=_written(task, rows) if table.luffy is not None else None,
        )
        dev = [Asked(task.prompt_ids(row), row) for row in store.datasets.rows(dataset.id, "dev")[:DEV_PROMPTS]]
        budgets = Budgets(table.stop_kl, table.stop_length, table.stop_repetition, table.stop_diversity)
        return _train(recipe, work, loaded, rollouts, Brake(rollouts, dev, budgets), store, progress, choices)

    return store.once(work, make, progress=progress)


def _work(
    recipe: Recipe,
    start: Record,
    rewards: Sequence[Record],
    dataset: Record,
    parts: Parts,
    choices: Mapping[str, Choice],
) -> Work:
    assert recipe.rl is not None
    return Work(
        kind="version",
        stage="rl",
        version=VERSION,
        settings={
            "rl": recipe.rl.model_dump(mode="json") | recipe.rl.given() | {n: c.value for n, c in choices.items()},
            "evaluate": {"max_new_tokens": recipe.evaluate.max_new_tokens},
            **({"adapt": asked} if (asked := keyed_adapt(recipe.adapt)) else {}),
            **sources((*parts.rewards.values(), parts.credit)),
        },
        parents=(start, *rewards, dataset),
        seed=derive_seed(recipe.seed, "rl"),
        project=recipe.name,
    )


def _require_contracts(parts: Parts, rows: Sequence[Row]) -> None:
    for part in parts.rewards.values():
        score_contract(part, examples_of(rows))
    if parts.credit:
        credit_contract(parts.credit.name, parts.credit)


def _demonstrations(recipe: Recipe, task: ChatTask, store: Store, dataset: Record) -> list[Tree]:
    """The training rows as trees, where the recipe mixes their likelihood in."""
    assert recipe.rl is not None
    shown = recipe.rl.chord is not None or recipe.rl.given().get("demonstrations")
    return [task.trained(row) for row in store.datasets.rows(dataset.id, "train")] if shown else []


def _written(task: ChatTask, rows: Sequence[Row]) -> Callable[[Row], Sequence[int] | None]:
    """The ids of the answer that a prompt's row holds.

    Raises:
        TrainingError: No row holds one.
    """
    if all(row.answer is None for row in rows):
        what = "rl.luffy puts written answers into the groups, and no prompt has one"
        raise TrainingError(what, mend="give the rows of data.prompts answers, or leave data.prompts out")
    return lambda row: None if row.answer is None else task.supervised(row).answers[0].ids


def _train(
    recipe: Recipe,
    work: Work,
    loaded: Loaded,
    rollouts: Rollouts,
    brake: Brake,
    store: Store,
    progress: Progress,
    choices: Mapping[str, Choice],
) -> Mapping[str, Json]:
    assert recipe.rl is not None
    table = recipe.rl
    policy, temperature = loaded.model, rollouts.params.temperature
    learner = Critic(policy) if rollouts.plan.critic else policy

    entropy = any(term.entropy for term in rollouts.plan.terms)

    def forward(stream: Stream) -> Outputs:
        return learner.logp(stream, temperature=temperature, entropy=entropy)

    if isinstance(learner, Critic):
        rollouts.critic = learner.logp
    terms = [*rollouts.plan.terms, rollouts.mismatch_term()]
    progress.say(f"rl: {said(choices)}")
    trained = Learner("rl", recipe.adapt, learner.parameters(), forward, terms)
    loop = trained.loop(rollouts, table.updates, choices, store.begin(work), progress, work.settings)
    loop.held_out = HeldOut(brake.look, rollouts.plan.inner.updates, better="higher", first=True)
    done, stopped = loop.run()
    if stopped:
        progress.say(f"rl: stopped by its brake: {stopped}")
    progress.say(f"rl: {done} updates kept, the best on dev prompts within the budgets")
    before = brake.before
    best = loop.seen["best"]["figures"] if loop.seen else before  # outside its budgets at the first look: the start
    figures = {"updates": done, "stopped": stopped, "before": before, "after": {name: best[name] for name in before}}
    return save_version(store, policy, loaded.renderer, stage="rl", settings=shown(choices), figures=figures)


def _keep_samples(
    store: Store,
    task: ChatTask,
    start: Record,
    work: Work,
    step: int,
    rows: Sequence[Row],
    groups: Sequence[Sequence[Sample]],
) -> list[str]:
    """Keep the first answer to each of a few prompts, for people to read; returns the exchanges' ids.

    They are bound to the version that training started from, with the number of updates since in their settings.
    """
    settings = {"temperature": 1.0, "updates": step}
    names = [f"{work.id}-{step}-{i}" for i in range(min(KEPT_SAMPLES, len(rows)))]
    known = store.exchanges.many(names)  # a rollout that was killed and is replayed stored them before
    with store.write() as conn:
        for name, row, group in zip(names, rows, groups, strict=False):
            if name not in known:
                prompt = task.prompt_ids(row)
                exchange = task.exchange(work.project, start.id, row, prompt, group[0], "rollout", settings, id=name)
                store.exchanges.add(conn, exchange)
    return names
