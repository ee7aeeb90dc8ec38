"""The online stage: policy optimisation against a reward, learned or summed of parts, on a leash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from burnish.config import Recipe, Rl
from burnish.errors import TrainingError
from burnish.models.artifacts import Loaded, load_rewards, load_version, save_version
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.models.spans import SpanModel
from burnish.models.value import Critic
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs
from burnish.parts import Parts, credit_contract, environment_contract, examples_of, score_contract, sources
from burnish.progress import Progress
from burnish.records import Json, Record, Row
from burnish.rewards.against import StartAnswers
from burnish.rewards.build import Means, reward_of
from burnish.rewards.criteria import require_weighable, weighed_centre
from burnish.rewards.learned import score_answers
from burnish.rewards.scores import Asked
from burnish.rewards.spans import SpanReader
from burnish.sampling import Engine, Params, Sample, Sampler, Served, require_exact
from burnish.store import Store, Work, derive_seed, digest_of
from burnish.tasks import task_for
from burnish.tasks.chat import ChatTask
from burnish.training.adapting import adapted, keyed_adapt
from burnish.training.brake import Brake, Budgets
from burnish.training.episodes import episodes_of
from burnish.training.fresh import Fresh
from burnish.training.held_out import HeldOut
from burnish.training.passes import Learner
from burnish.training.plan import plan_of
from burnish.training.rollouts import Rollouts
from burnish.training.settings import Choice, rl_settings, said, shown
from burnish.training.shared import SharedLayers, share_layers

VERSION = 7
KEPT_SAMPLES = 3
BUDGET = 512  # tokens in a forward with gradient: 1,024 need a fifth more memory and are hardly faster
ALONG = 1024  # tokens in one that goes back along what the sampler computed, a layer at a time
DEV_PROMPTS = 24  # answered before each rollout: enough for the budgets, and a fifth of a rollout's time
WON = ("held_out", "dev_held_out_gain", "dev_win_share", "dev_votes_human", "dev_votes_simulated", "dev_votes_judge")
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
    watch: Record | None = None,
    let_vote: Callable[[str], None] = lambda campaign: None,
    spans: Record | None = None,
) -> Record:
    """Improve ``start`` against a reward into a new version; the reference is ``start``, frozen.

    The reward is the weighted sum of the recipe's parts: of learned ones the mean of ``rewards``, of dense ones what
    ``spans`` reads. ``watch`` is the reward model that the brake judges by; ``let_vote`` lets simulated raters vote on
    a campaign. Of the checkpoints that the brake lets pass, the one that wins most on dev prompts is kept.

    Raises:
        PartError: An own reward or credit function breaks its contract, or raises.
    """
    assert recipe.rl is not None
    table = recipe.rl
    choices = rl_settings(recipe)
    work = _work(recipe, start, [*rewards, *filter(None, (watch, spans))], dataset, parts, choices)

    def make() -> Mapping[str, Json]:
        frozen = load_version(store, start, cache, progress=progress)
        loaded, own = adapted(recipe, frozen, work.seed)
        policy, task = loaded.model, task_for(recipe, loaded.renderer)
        params = _params(recipe, work, loaded)
        rows = store.datasets.rows(dataset.id, "prompts") or store.datasets.rows(dataset.id, "train")
        _require_contracts(parts, rows, table)
        means, watching = _means(recipe, store, cache, frozen, rewards, watch, spans, parts, task, params)
        reference, shared = _reference(frozen.model, [*means.learned, *watching], policy, progress)
        rollouts = Rollouts(
            sampler=_sampler_of(table, policy, store.begin(work)),
            reference=reference,
            score=reward_of(recipe, means),
            plan=plan_of(table, choices["kl"].value, recipe.evaluate.max_new_tokens, parts.credit),
            keep=partial(_keep_samples, store, task, start, work, rows),
            prompts=[Asked(task.prompt_ids(row), row) for row in rows],
            prompts_per_rollout=table.prompts,
            group=table.group,
            params=params,
            seed=work.seed,
            shared=shared,
            kind=table.sampler,
            trainer=policy if table.knobs().importance_cap is not None else None,
            learner=policy if table.sampler == "exact" else None,
            demonstrations=_demonstrations(recipe, task, store, dataset),
            shown=_written(task, rows) if table.luffy is not None else None,
            episodes=episodes_of(table, parts.environment, task.renderer, policy.context),
        )
        dev = [Asked(task.prompt_ids(row), row) for row in store.datasets.rows(dataset.id, "dev")[:DEV_PROMPTS]]
        brake = _brake(rollouts, dev, watching, _fresh(recipe, store, work, start, task, let_vote), table)
        return _train(recipe, work, loaded, rollouts, brake, store, progress, choices | own)

    return store.once(work, make, progress=progress)


def _params(recipe: Recipe, work: Work, loaded: Loaded) -> Params:
    params = Params(1.0, 1.0, recipe.evaluate.max_new_tokens, work.seed, loaded.renderer.stop_ids)
    require_exact(params)
    return params


def _means(
    recipe: Recipe,
    store: Store,
    cache: Path,
    start: Loaded,
    rewards: Sequence[Record],
    watch: Record | None,
    spans: Record | None,
    parts: Parts,
    task: ChatTask,
    params: Params,
) -> tuple[Means, list[RewardModel]]:
    """What the parts of the reward ask, and the reward model that only watches, where there is one."""
    assert recipe.rl is not None
    slots, learned = recipe.rl.prompts, [*rewards, *([watch] if watch else [])]
    weights = _weights(recipe, learned)
    models = [model.weighed(weights) for model in load_rewards(store, learned, cache, like=start)]
    answered = StartAnswers(lambda: Engine(start.model, slots=slots), params)
    centres = [weighed_centre(record.body, weights) for record in rewards]
    marking = load_rewards(store, [spans] if spans is not None else [], cache, like=start, kind=SpanModel)
    reader = SpanReader(marking[0], task.renderer) if marking else None
    means = Means(parts, task, models[: len(rewards)], centres, answered, store.path, reader)
    return means, models[len(rewards) :]


def _reference(
    start: LanguageModel, models: Sequence[RewardModel], policy: LanguageModel, progress: Progress
) -> tuple[LanguageModel, SharedLayers | None]:
    """The reference, and the layers that it, the reward models and the policy run once for all of them."""
    reference = start.merged() if models else start  # as the trunk of a reward model is
    trunks = [model.trunk for model in models]
    shared = share_layers([reference, *trunks], policy)
    for who, model in (*(("reward", trunk) for trunk in trunks[:1]), ("policy", policy)):
        if isinstance(model.kept, SharedLayers):
            progress.say(f"rl: {who} and start have {model.kept.first} layers in common, which are run once for both")
        elif model is not policy:
            progress.say("rl: reward and start have no layers in common: each runs by itself")
    return (reference if shared else start), shared


def _sampler_of(table: Rl, policy: LanguageModel, folder: Path) -> Callable[[], Sampler]:
    """What makes the sampler of the policy as it is by then; ``folder`` is for what a server reads.

    Raises:
        SamplingError: A server is asked for, and the host names none.
        TrainingError: (when made) Rounded weights are asked for, and this model has no such layers here.
    """
    if table.sampler == "server":
        return partial(Served.of_host(folder / "served").sampler, policy)
    weights = table.sampler

    def engine() -> Engine:
        made = Engine(policy, slots=table.prompts * table.group, weights=weights, trail=policy.trail)
        if weights != "exact" and made.weights != weights:
            what = f'rl.sampler = "{weights}" has no such layers for this model here'
            mend = 'set rl.sampler = "exact"; rounded weights need float32 on a CPU and a model of known form'
            raise TrainingError(what, mend=mend)
        return made

    return engine


def room(policy: LanguageModel, trees: Sequence[Tree]) -> int:
    """The largest number of tokens in one forward with gradient of these trees."""
    return ALONG if policy.trail is not None and policy.trail.holds(trees) else BUDGET


def _brake(
    rollouts: Rollouts, dev: Sequence[Asked], watch: Sequence[RewardModel], fresh: Fresh | None, table: Rl
) -> Brake:
    budgets = Budgets(table.stop_kl, table.stop_length, table.stop_repetition, table.stop_diversity)
    return Brake(rollouts, dev, budgets, partial(score_answers, watch[0]) if watch else None, fresh)


def _fresh(
    recipe: Recipe, store: Store, work: Work, start: Record, task: ChatTask, let_vote: Callable[[str], None]
) -> Fresh | None:
    """Who asks raters about the policy while it learns; None where the recipe wants no comparisons."""
    assert recipe.rl is not None
    asked = recipe.rl.fresh_comparisons
    number = (DEV_PROMPTS if recipe.reward and not recipe.rl.environment else 0) if asked == "auto" else asked
    if not number:
        return None
    sources, folder = recipe.feedback.sources, store.begin(work)
    # named by what the policy learns from, not by the record of its reward, which holds when people voted: what
    # simulated raters say is drawn by the name, and must be the same in a run that was killed and in one that was not
    inputs = [parent.body.get("reward", parent.digest) for parent in work.parents]
    name = f"rl-{digest_of([dict(work.settings), work.seed, *inputs])[:16]}"
    return Fresh(store, recipe.name, name, start.id, task, sources, number, folder, let_vote)


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
            "feedback": {"simulate": recipe.feedback.simulate, "sources": list(recipe.feedback.sources)},
            **({"reward": {"criteria": recipe.weights}} if recipe.weights else {}),
            **({"adapt": asked} if (asked := keyed_adapt(recipe.adapt)) else {}),
            **sources((*parts.rewards.values(), parts.credit, parts.environment)),
        },
        parents=(start, *rewards, dataset),
        seed=derive_seed(recipe.seed, "rl"),
        project=recipe.name,
    )


def _weights(recipe: Recipe, rewards: Sequence[Record]) -> Mapping[str, float]:
    """What the recipe weighs the heads of these reward models with.

    Raises:
        TrainingError: It weighs one that a model did not learn.
    """
    for record in rewards:
        require_weighable(recipe.weights, record.body["left_out"])
    return recipe.weights


def _require_contracts(parts: Parts, rows: Sequence[Row], table: Rl) -> None:
    for part in parts.rewards.values():
        score_contract(part, examples_of(rows))
    if parts.credit:
        credit_contract(parts.credit.name, parts.credit)
    if parts.environment:
        environment_contract(parts.environment, rows, table.turns, table.paid_by_environment)


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
    trained = Learner(
        "rl", recipe.adapt, learner.parameters(), forward, terms, BUDGET, policy.kept is not None, partial(room, policy)
    )
    loop = trained.loop(rollouts, table.updates, choices, store.begin(work), progress, work.settings)
    loop.held_out = HeldOut(brake.look, rollouts.plan.inner.updates, better="higher", first=True)
    done, stopped = loop.run()
    if brake.fresh is not None:
        brake.fresh.withdraw()
    if stopped:
        progress.say(f"rl: stopped by its brake: {stopped}")
    progress.say(f"rl: {done} updates kept, the best on dev prompts that the brake let pass")
    before = brake.before
    best = loop.seen["best"]["figures"] if loop.seen else before  # outside its budgets at the first look: the start
    figures = {"updates": done, "stopped": stopped, "before": before, "after": {name: best[name] for name in before}}
    figures["won"] = {name: best[name] for name in WON if name in best}
    settings = shown({**choices, **({"criteria": Choice(recipe.weights, "recipe")} if recipe.weights else {})})
    return save_version(store, policy, loaded.renderer, stage="rl", settings=settings, figures=figures)


def _keep_samples(
    store: Store,
    task: ChatTask,
    start: Record,
    work: Work,
    rows: Sequence[Row],
    step: int,
    chosen: Sequence[int],
    groups: Sequence[Sequence[Sample]],
) -> list[str]:
    """Keep the first answer to a few of the ``chosen`` rows' prompts, for people to read; returns the exchanges' ids.

    They are bound to the version that training started from, with the number of updates since in their settings.
    """
    settings = {"temperature": 1.0, "updates": step}
    names = [f"{work.id}-{step}-{i}" for i in range(min(KEPT_SAMPLES, len(chosen)))]
    known = store.exchanges.many(names)  # a rollout that was killed and is replayed stored them before
    with store.write() as conn:
        for name, index, group in zip(names, chosen, groups, strict=False):
            if name not in known:
                row = rows[index]
                prompt = task.prompt_ids(row)
                exchange = task.exchange(work.project, start.id, row, prompt, group[0], "rollout", settings, id=name)
                store.exchanges.add(conn, exchange)
    return names
