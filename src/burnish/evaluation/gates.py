"""The gate: named rules over a candidate's measured figures. Whatever cannot be known is a no.

Every rule is one-sided: at error alpha, an end of the two-sided interval at level 1 - 2 alpha. All rules must hold, so
that the chance to pass a candidate that fails one of them is alpha at most (Berger 1982).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from burnish.config import Gate, Recipe
from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.metrics import METRICS, SCORE, difference_of, figure_of, metric_of, ratio_numbers, shown
from burnish.records import Figure, Json, Record, Rule
from burnish.statistics import alpha_for_use
from burnish.store import Store, Work, derive_seed

VERSION = 1
ALPHA = 0.1  # of all decisions on one held-out set together; the first spends half of it and is one-sided at 95 %
LEAST_CLUSTERS = 50
REFERENCES = ("production", "start", "base", "prompt_only")
RELATIVE = ("changed", "kl", "length_ratio", "win_rate")  # their numbers name a reference already
BOUNDS = {
    "at_least": "at least",
    "at_most": "at most",
    "better_by": "better by more than",
    "not_worse_by": "not worse by",
}


def _rule(metric: str, against: str = "start", **bound: float) -> Gate:
    return Gate.model_validate({"metric": metric, "against": against, **bound})


_PREFERRED = (
    _rule("win_rate", against="production", at_least=0.5),
    _rule("loss", against="production", not_worse_by=0.3),
    _rule("length_ratio", against="production", at_least=0.7),
    _rule("length_ratio", against="production", at_most=1.3),
    _rule("distinct_2", against="production", not_worse_by=0.05),
)
RULES: Mapping[str, tuple[Gate, ...]] = {
    "sft": (_rule("loss", better_by=0.0), _rule("changed", at_least=0.05)),
    "preference": _PREFERRED,
    "rl": _PREFERRED,
}


def check_rules(rules: Sequence[Gate], own: Sequence[str] = ()) -> None:
    """Refuse rules that no evaluation can answer, before anything is spent; ``own`` are the recipe's own metrics.

    Raises:
        ConfigError: An unknown metric or reference, or a bound that does not go with the metric.
    """
    for number, rule in enumerate(rules, 1):
        where = f"gate {number}"
        metric = metric_of(rule.metric)
        if metric is None or (":" in rule.metric and rule.metric not in own):
            near = difflib.get_close_matches(rule.metric, [*METRICS, *own], n=1)
            known = (
                f"known: {', '.join(METRICS)}, {SCORE}NAME for what the task's score says, and the own metrics of "
                f"evaluate.metrics ({', '.join(own) or 'none'})"
            )
            mend = f'did you mean "{near[0]}"? {known}' if near else known
            raise ConfigError(f'unknown metric "{rule.metric}"', where=where, mend=mend)
        if rule.against is not None and rule.against not in REFERENCES:
            raise ConfigError(
                f'unknown reference "{rule.against}"', where=where, mend=f"known: {', '.join(REFERENCES)}"
            )
        bound, _ = _bound(rule)
        if bound in ("better_by", "not_worse_by"):
            if rule.metric in RELATIVE or metric.better is None:
                raise ConfigError(
                    f"{rule.metric} is neither better nor worse than a reference's", where=where,
                    mend="use at_least or at_most",
                )  # fmt: skip
        elif rule.metric in ("length_ratio", "win_rate"):
            if rule.against is None:
                raise ConfigError(f"{rule.metric} needs against", where=where, mend='against = "start", for example')
        elif rule.against is not None and rule.metric not in RELATIVE:
            raise ConfigError(
                f"{bound} looks at the candidate's own {rule.metric}, so against means nothing", where=where,
                mend="leave against out, or use better_by or not_worse_by",
            )  # fmt: skip


def decide(
    recipe: Recipe,
    store: Store,
    *,
    candidate: Record,
    evaluation: Record,
    judgement: Record | None = None,
    rules: Sequence[Gate] | None = None,
    stage: str = "sft",
) -> Record:
    """The verdict on a candidate; kind "verdict", parents: candidate, evaluation and judgement.

    Without ``rules`` those of the stage hold. The n-th verdict on one held-out set spends 0.1 / (n (n + 1)): the first
    is one-sided at 95 %, and all of them together err with probability 0.1, however many there will be. A rule that
    cannot be answered is a no with its reason.

    Raises:
        ConfigError: See ``check_rules``.
        EvaluationError: The evaluation measured another candidate, or the judgement belongs to another evaluation.
    """
    asked = tuple(rules) if rules else RULES[stage]
    check_rules(asked, recipe.evaluate.metrics)
    body = evaluation.body
    if body["contenders"][body["candidate"]] != candidate.id:
        raise EvaluationError(f"{evaluation.id} measured another candidate than {candidate.name or candidate.id}")
    if judgement is not None and judgement.body["evaluation"] != evaluation.id:
        raise EvaluationError(f"{judgement.id} judged another evaluation than {evaluation.id}")
    settings: dict[str, Json] = {
        "stage": stage,
        "rules": [rule.model_dump(exclude_none=True) for rule in asked],
        "alpha": ALPHA,
    }
    parents = tuple(record for record in (candidate, evaluation, judgement) if record is not None)
    work = Work("verdict", "gate", VERSION, settings, parents, derive_seed(recipe.seed, "gate"), recipe.name)

    def make() -> dict[str, Json]:
        before = _decided_before(store, work.project, evaluation)
        use = len(before) + 1
        alpha = alpha_for_use(use, ALPHA)
        answers = [_answer(rule, evaluation, judgement, alpha, work.seed) for rule in asked]
        return {
            "stage": stage,
            "passed": all(answer.passed for answer in answers),
            "candidate": candidate.id,
            "evaluation": evaluation.id,
            "judgement": None if judgement is None else judgement.id,
            "rules": [asdict(answer) for answer in answers],
            "held_out": {"dataset": body["dataset"], "split": body["split"], "clusters": len(set(body["clusters"]))},
            "decided_before": before,
            "alpha": alpha,
            "alpha_spent": sum(alpha_for_use(n, ALPHA) for n in range(1, use + 1)),
        }

    return store.once(work, make)


def recheck(rule: Mapping[str, Json]) -> str | None:
    """Why a rule of a kept verdict does not hold, from its figure alone; None where it does."""
    try:
        figure = None if rule["figure"] is None else Figure(**rule["figure"])
        bound, _, value = str(rule["bound"]).partition(" ")
        return _objection(rule["metric"], bound, float(value), figure)
    except (KeyError, TypeError, ValueError):
        return "the rule cannot be read"


def _answer(rule: Gate, evaluation: Record, judgement: Record | None, alpha: float, seed: int) -> Rule:
    bound, value = _bound(rule)
    figure: Figure | None = None
    try:
        figure = _measure(rule, evaluation, judgement, 1 - 2 * alpha, seed)
        objection = _objection(rule.metric, bound, value, figure)
    except EvaluationError as error:
        objection = error.what
    why = _sentence(rule, evaluation.body, figure, objection)
    return Rule(rule.metric, rule.against, f"{bound} {value!r}", figure, objection is None, why)


def _measure(rule: Gate, evaluation: Record, judgement: Record | None, level: float, seed: int) -> Figure:
    """The figure that a rule speaks about.

    Raises:
        EvaluationError: It was not measured, or its reference was not among the contenders.
    """
    body = evaluation.body
    clusters, own = body["clusters"], body["items"][body["candidate"]]
    reference = None if rule.against is None else _resolve(rule.against, body)
    if rule.metric == "win_rate":
        return figure_of(_votes(body, judgement, reference), clusters, seed=seed, level=level)
    metric = metric_of(rule.metric)
    name = "length" if rule.metric == "length_ratio" else rule.metric
    if name not in own or metric is None:
        raise EvaluationError(f"{rule.metric} was not measured")
    if rule.metric in ("changed", "kl"):
        if reference is not None and body["contenders"][reference] != body["contenders"][body["start"]]:
            raise EvaluationError(f"{rule.metric} is measured against the start only")
        reference = None
    if reference is None:
        return figure_of(own[name], clusters, seed=seed, level=level, metric=metric)
    other = body["items"][reference]
    if name not in other:
        raise EvaluationError(f"{rule.metric} was not measured for {rule.against}")
    if rule.metric == "length_ratio":
        return figure_of(ratio_numbers(own[name], other[name]), clusters, seed=seed, level=level)
    return difference_of(own[name], other[name], clusters, seed=seed, level=level)


def _votes(body: Mapping[str, Json], judgement: Record | None, reference: str | None) -> list[float | None]:
    if judgement is None:
        raise EvaluationError("nobody has judged the answers")
    found = judgement.body
    ids = body["contenders"]
    wanted = (ids[body["candidate"]], None if reference is None else ids[reference])
    if (ids[found["candidate"]], ids[found["reference"]]) != wanted:
        raise EvaluationError(f"the votes compare {found['candidate']} with {found['reference']}")
    return list(found["items"])


def _resolve(against: str, body: Mapping[str, Json]) -> str:
    """The contender that a reference names."""
    name = body["start"] if against == "start" else against
    if name not in body["contenders"]:
        raise EvaluationError(f"{against} was not among the contenders")
    return str(name)


def _objection(metric: str, bound: str, value: float, figure: Figure | None) -> str | None:
    """Why a figure does not meet a bound; None where it does. Fails closed."""
    if figure is None or figure.low is None or figure.high is None:
        return "it has no interval" if figure and math.isfinite(figure.value) else "it is not a number"
    if not all(map(math.isfinite, (figure.value, figure.low, figure.high, value))):
        return "it is not a finite number"
    if figure.clusters < LEAST_CLUSTERS:
        return f"{figure.clusters} independent prompts are too few: a gate needs {LEAST_CLUSTERS}"
    if not figure.high - figure.low > 1e-9 * max(1.0, abs(figure.value)):
        return "its interval has no width: every prompt gives the same number"
    known = metric_of(metric)
    lower = known is not None and known.better == "lower"
    worst = -figure.high if lower else figure.low  # of a difference, turned so that more is better
    met = {
        "at_least": figure.low >= value,
        "at_most": figure.high <= value,
        "better_by": worst > value,
        "not_worse_by": worst > -value,
    }
    if bound not in met:
        return f'there is no bound "{bound}"'
    return None if met[bound] else "its interval does not meet the bound"


def _sentence(rule: Gate, body: Mapping[str, Json], figure: Figure | None, objection: str | None) -> str:
    """For people: "win rate against support@1: 0.61 [0.55, 0.66], needed at least 0.5: yes"."""
    bound, value = _bound(rule)
    against = ""
    if rule.against is not None:
        name = body["start"] if rule.against == "start" else rule.against
        against = f" against {body['names'].get(name, rule.against)}"
    measured = "not measured" if figure is None else shown(figure)
    known = metric_of(rule.metric)
    if bound in ("better_by", "not_worse_by") and known is not None:
        measured += f" ({known.better} is better)"
    answer = "yes" if objection is None else f"no, {objection}"
    return f"{rule.metric.replace('_', ' ')}{against}: {measured}, needed {BOUNDS[bound]} {value:g}: {answer}"


def _bound(rule: Gate) -> tuple[str, float]:
    """The name and value of the rule's one bound."""
    given = {
        "at_least": rule.at_least,
        "at_most": rule.at_most,
        "better_by": rule.better_by,
        "not_worse_by": rule.not_worse_by,
    }
    return next((name, float(value)) for name, value in given.items() if value is not None)


def _decided_before(store: Store, project: str, evaluation: Record) -> list[str]:
    """The verdicts whose held-out prompts include one of this evaluation's: adding rows makes no fresh set."""
    split = evaluation.body["split"]
    verdicts = [v for v in store.records(project, "verdict") if v.body["held_out"]["split"] == split]
    prompts: dict[str, set[object]] = {}
    for dataset in {evaluation.body["dataset"], *(v.body["held_out"]["dataset"] for v in verdicts)}:
        prompts[dataset] = {(row.prompt, row.documents) for row in store.datasets.rows(dataset, split)}
    mine = prompts[evaluation.body["dataset"]]
    return [
        v.id
        for v in verdicts
        if v.body["held_out"]["dataset"] == evaluation.body["dataset"]
        or not mine.isdisjoint(prompts[v.body["held_out"]["dataset"]])
    ]
