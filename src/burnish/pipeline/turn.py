"""One turn of the circle, closed by records: each line takes records and returns one.

data -> sft -> evaluation -> gate -> registry -> votes -> reward -> rl -> evaluation -> gate -> registry

With [preference] in place of [reward] and [rl], one stage learns from votes, from a file, or from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from burnish.config import Recipe
from burnish.evaluation import decide, evaluate, judge_campaign, judged
from burnish.feedback import simulate_marks, simulate_votes, snapshot, waited_for, waiting
from burnish.pipeline.collect import collect_pairs
from burnish.pipeline.judging import ask_judge
from burnish.pipeline.refusals import require_possible
from burnish.records import Record, Split
from burnish.store import Work, derive_seed
from burnish.training.online import train_online
from burnish.training.preference import train_preference
from burnish.training.reward import train_reward
from burnish.training.spans import train_spans
from burnish.training.supervised import train_supervised

if TYPE_CHECKING:
    from burnish.pipeline.project import Project

PAGE_PAIRS = 24  # pairs of the serving version that the compare page offers between turns


@dataclass(frozen=True)
class Outcome:
    """What a turn came to: "promoted", "refused", "waiting", or "trained" where it was not to go further.

    ``records`` are its stages, by name.
    """

    state: str
    number: int
    records: Mapping[str, Record]
    why: str = ""
    repeated: bool = False  # every stage was finished before: nothing ran


def _improver(recipe: Recipe) -> Literal["preference", "rl"] | None:
    """The stage that makes the turn's candidate out of the supervised version; None where that is the candidate."""
    if recipe.preference is not None:
        return "preference"
    return "rl" if recipe.rl is not None else None


class Waiting(Exception):
    """People's votes are missing; the turn goes on at the next call."""


def run_turn(project: Project, number: int) -> Outcome:
    """Walk the circle once; finished stages are found, not repeated."""
    made: dict[str, Record] = {}
    known = len(project.store.records(project.recipe.name))
    why = ""
    try:
        _fine_tune(project, made)
        _first_gate(project, made)
        if made["verdict"].body["passed"] and _improver(project.recipe) is not None:
            why = _from_feedback(project, number, made)
    except Waiting as waits:
        return Outcome("waiting", number, made, str(waits))
    passed = bool(made["verdict"].body["passed"]) and not why
    if passed:
        project.promote_once(made["candidate"])
    made["turn"] = _turn_record(project, number, made, passed, why)
    repeated = len(project.store.records(project.recipe.name)) == known
    return Outcome("promoted" if passed else "refused", number, made, why, repeated)


def run_training(project: Project, number: int, last: str) -> Outcome:
    """The training stages of the turn up to ``last``, without evaluation, gate and promotion.

    The records are those of `run_turn`, which finds them and goes on.
    """
    made: dict[str, Record] = {}
    known = len(project.store.records(project.recipe.name))
    try:
        _fine_tune(project, made)
        if last != "sft":
            made["start"], _ = project.start(number, made["sft"])
            _improve(project, number, made, last)
    except Waiting as waits:
        return Outcome("waiting", number, made, str(waits))
    return Outcome("trained", number, made, "", len(project.store.records(project.recipe.name)) == known)


def _fine_tune(project: Project, made: dict[str, Record]) -> None:
    """Data, base and supervised version."""
    recipe, store, cache, progress = project.recipe, project.store, project.cache, project.progress
    _ = project.parts  # a name that leads nowhere is said before anything is spent
    made["dataset"] = dataset = project.prepare()
    learned: tuple[Split, ...] = ("train", "dev", *(("preferences",) if recipe.data.preferences else ()))
    require_possible(project, {name: store.datasets.rows(dataset.id, name) for name in learned})
    made["base"] = base = project.base()
    made["sft"] = made["candidate"] = train_supervised(
        recipe, base, dataset, store, cache, progress, project.teacher(), project.parts.sft
    )


def _first_gate(project: Project, made: dict[str, Record]) -> None:
    """The supervised version on held-out prompts, and the gate that lets it serve."""
    recipe, store, cache, progress = project.recipe, project.store, project.cache, project.progress
    dataset, base, sft = made["dataset"], made["base"], made["sft"]
    last = _improver(recipe) is None
    contenders = {"base": base, "sft": sft}
    if last and recipe.evaluate.prompt_only:
        contenders["prompt_only"] = base
    if last:
        contenders["production"] = project.serving_before(sft, base)
    made["evaluation"] = evaluate(
        recipe,
        store,
        dataset=dataset,
        split="test" if last else "dev",
        contenders=contenders,
        candidate="sft",
        start="base",
        score=project.score,
        metrics=project.parts.metrics,
        cache=cache,
        progress=progress,
    )
    rules = recipe.gate if last and recipe.gate else None
    made["verdict"] = decide(
        recipe, store, candidate=sft, evaluation=made["evaluation"], judgement=None, rules=rules, stage="sft"
    )
    if not last and made["verdict"].body["passed"]:
        project.promote_once(sft, only_first=True)


def _from_feedback(project: Project, number: int, made: dict[str, Record]) -> str:
    """Votes, the stages that learn from them, the gate, and the pairs for the next turn; why no gate was reached."""
    start, production = project.start(number, made["sft"])
    made["start"] = start
    _improve(project, number, made)
    if made["candidate"].body["figures"]["updates"]:
        _judge(project, made, production)
        best, why = made["candidate"] if made["verdict"].body["passed"] else start, ""
    else:  # nothing to judge: the test prompts stay unread
        stopped = made["candidate"].body["figures"]["stopped"]
        stage = _improver(project.recipe)
        best, why = start, f"{stage} kept no update: {stopped or 'none was better on what it was not trained on'}"
    if project.recipe.vote_kinds:  # else votes would teach nothing
        made["next"] = collect_pairs(
            project.recipe,
            best,
            made["dataset"],
            number + 1,
            PAGE_PAIRS,
            project.store,
            project.cache,
            project.progress,
            stage="page",
            reward=made.get("reward"),
        )
    return why


def _improve(project: Project, number: int, made: dict[str, Record], last: str = "rl") -> None:
    """A version improved by preference optimisation, or against a reward: learned from judged rows or from votes on the
    start version's answers, an own one, or several. Ends early where a reward is the ``last`` stage.
    """
    recipe, store, cache, progress = project.recipe, project.store, project.cache, project.progress
    dataset, start = made["dataset"], made["start"]
    if recipe.vote_kinds:
        _collect_votes(project, number, made)
    if recipe.preference is not None:
        made["preference"] = made["candidate"] = train_preference(
            recipe, start, dataset, made.get("snapshot"), store, cache, progress, project.parts.preference
        )
        return
    if recipe.reward is not None:
        half: Literal["first"] | None = "first" if recipe.rl is not None and recipe.rl.watch else None
        for model in range(recipe.reward.models):
            name = f"reward-{model + 1}" if model else "reward"
            cast = made.get("snapshot") if recipe.reward.votes else None  # other kinds of vote teach it nothing
            made[name] = train_reward(recipe, start, cast, store, cache, progress, model, half, dataset)
        if half:
            made["watch"] = train_reward(recipe, start, made["snapshot"], store, cache, progress, 0, "second")
    if last == "reward":
        return
    if recipe.spans is not None:
        made["spans"] = train_spans(recipe, start, made.get("snapshot"), dataset, store, cache, progress)
    if last == "spans":
        return
    learned = [record for name, record in made.items() if name.partition("-")[0] == "reward"]
    made["candidate"] = train_online(
        recipe,
        start,
        learned,
        dataset,
        store,
        cache,
        progress,
        project.parts,
        made.get("watch"),
        partial(_let_others_vote, project),
        made.get("spans"),
    )


def _collect_votes(project: Project, number: int, made: dict[str, Record]) -> None:
    """Pairs of the start version's answers before raters, and their votes, frozen once enough are in."""
    recipe, store, cache, progress = project.recipe, project.store, project.cache, project.progress
    dataset, start = made["dataset"], made["start"]
    if number == 1 or project.raters("train") or recipe.feedback.judge is not None:
        pairs = recipe.feedback.pairs
        made["campaign"] = campaign = collect_pairs(recipe, start, dataset, number, pairs, store, cache, progress)
        _let_simulated_vote(project, campaign.body["campaign"], "train")
        ask_judge(project, campaign.body["campaign"])
    for kinds, least in waited_for(recipe):
        _require_votes(project.votes_cast(kinds=kinds), least, " marked answers" if "span" in kinds else "")
    made["snapshot"] = snapshot(
        store, recipe.name, parents=(start,), seed=recipe.seed, sources=recipe.feedback.sources, turn=number
    )


def _judge(project: Project, made: dict[str, Record], production: Record) -> None:
    """The improved version on test prompts, before raters who never voted, and the gate.

    Rules of the recipe's own that read no votes need no rater, where no reward was learned.
    """
    recipe, store, improved = project.recipe, project.store, made["candidate"]
    name = "preference" if recipe.preference is not None else "rl"
    contenders = {"base": made["base"], "start": made["start"], "production": production, name: improved}
    if recipe.evaluate.prompt_only:
        contenders["prompt_only"] = made["base"]
    made["evaluation"] = evaluation = evaluate(
        recipe,
        store,
        dataset=made["dataset"],
        split="test",
        contenders=contenders,
        candidate=name,
        start="start",
        score=project.score,
        metrics=project.parts.metrics,
        cache=project.cache,
        progress=project.progress,
    )
    judgement = None
    if recipe.reward is not None or not recipe.gate or any(rule.metric == "win_rate" for rule in recipe.gate):
        judging = judge_campaign(store, recipe.name, evaluation, name, "production", recipe.feedback.judge_votes)
        _let_simulated_vote(project, judging, "judge")
        _require_votes(*waiting(store, recipe.name, judging))
        made["judgement"] = judgement = judged(store, recipe.name, judging, evaluation, recipe.seed)
    made["verdict"] = decide(
        recipe,
        store,
        candidate=improved,
        evaluation=evaluation,
        judgement=judgement,
        rules=recipe.gate or None,
        stage=name,
    )


def _let_others_vote(project: Project, campaign: str) -> None:
    """Who compares current answers beside people while a policy learns; those who judge the outcome stay fresh."""
    _let_simulated_vote(project, campaign, "train")
    if "judge" in project.recipe.feedback.sources:  # nobody else reads it
        ask_judge(project, campaign)


def _let_simulated_vote(project: Project, campaign: str, purpose: Literal["train", "judge"]) -> None:
    raters = project.raters(purpose)
    if raters:
        asked = project.recipe.feedback.criteria
        simulate_votes(project.store, project.recipe.name, campaign, raters, project.progress, asked)
    if raters and purpose == "train" and "span" in project.recipe.vote_kinds:
        simulate_marks(project.store, project.recipe.name, campaign, raters, project.recipe.error_types)


def _require_votes(done: int, wanted: int, what: str = "") -> None:
    if done < wanted:
        raise Waiting(f"waiting for feedback: {done} of {wanted}{what}")


def _turn_record(project: Project, number: int, made: Mapping[str, Record], passed: bool, why: str) -> Record:
    """The turn itself: what it started from, what it was fed, what came out, and why where no gate was reached."""
    stages = {name: record.id for name, record in made.items()}
    work = Work(
        kind="turn",
        stage="turn",
        version=1,
        settings={"number": number},
        parents=tuple({r.id: r for r in made.values()}.values()),
        seed=derive_seed(project.recipe.seed, "turn", str(number)),
        project=project.recipe.name,
    )
    return project.store.once(work, lambda: {"number": number, "stages": stages, "passed": passed, "why": why})
