"""The same recipe under several seeds, pooled: a gain counts when it is there over seeds and prompts."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.metrics import UTILITY, metric_of
from burnish.pipeline.project import Project
from burnish.records import Figure, Record
from burnish.statistics import crossed_bootstrap

POOLED = ("loss", "length", "distinct_2", "cut")


def parse_seeds(text: str) -> list[int]:
    """Seeds from "1,2,3".

    Raises:
        ConfigError: Not whole numbers, a seed twice, or none.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'"{text}" is no list of seeds', mend="--seeds 1,2,3") from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f'"{text}" names a seed twice, or a negative one', mend="--seeds 1,2,3")
    return seeds


def repeated(project: Project, seeds: Sequence[int]) -> list[str]:
    """Run each seed in a store of its own under ``repeat/`` and pool its last evaluation.

    A seed whose turn ended before the test prompts were read (the first gate said no, or rl kept no update) has found
    nothing better than its start: it counts as no difference on every prompt.

    Returns:
        A line for each seed, then the pooled differences of the candidate from its start, each with its interval over
        seeds and prompts, then whether the gain holds: by the task's utility, else by the recipe's own metric (the
        first one), else by the loss.
    """
    lines: list[str] = []
    evaluations: list[Record | None] = []
    telling = (UTILITY, *project.recipe.evaluate.metrics, "loss")
    for seed in seeds:
        run = project.with_seed(seed)
        project.progress.say(f"seed {seed}")
        outcome = run.run()
        if outcome.state == "waiting":
            return [f"seed {seed}: {outcome.why}"]
        evaluation = outcome.records["evaluation"]
        tested = evaluation.body["split"] == "test"
        evaluations.append(evaluation if tested else None)
        found = _one(evaluation, outcome.records.get("judgement"), telling) if tested else outcome.why or "not tested"
        lines.append(f"seed {seed}: {outcome.state}; {found}")
    lines.append("")
    wanted = dict.fromkeys((*telling, *POOLED))
    figures = {metric: figure for metric in wanted if (figure := pooled(evaluations, metric)) is not None}
    lines += [f"pooled {metric}: {_shown(figure)}" for metric, figure in figures.items()]
    return [*lines, concluded(telling, figures)]


def concluded(telling: Sequence[str], figures: Mapping[str, Figure]) -> str:
    """Whether the gain holds by the first of the ``telling`` metrics that was measured: its interval lies on the good
    side of zero."""
    asked = _first(telling, figures)
    if asked is None:
        return "no gain: no seed's candidate was tested"
    figure, known = figures[asked], metric_of(asked)
    lower = known is not None and known.better == "lower"
    worst = figure.high if lower else figure.low
    holds = worst is not None and (worst < 0 if lower else worst > 0)
    return f"{'the' if holds else 'no'} gain holds over seeds and prompts, by {asked}"


def pooled(evaluations: Sequence[Record | None], metric: str) -> Figure | None:
    """Candidate minus start over seeds and prompts, None among the evaluations standing for no difference; None where
    the metric was not measured.

    Raises:
        EvaluationError: The evaluations have other prompts.
    """
    tested = [evaluation.body for evaluation in evaluations if evaluation is not None]
    if not tested:
        return None
    rows = tested[0]["rows"]
    table: list[list[float]] = [[0.0] * len(rows) for _ in range(len(evaluations) - len(tested))]
    for body in tested:
        if body["rows"] != rows:
            raise EvaluationError("the runs were evaluated on other prompts: they cannot be pooled")
        own, start = body["items"][body["candidate"]], body["items"][body["start"]]
        if metric not in own or metric not in start or None in own[metric] or None in start[metric]:
            return None
        table.append([a - b for a, b in zip(own[metric], start[metric], strict=True)])
    return crossed_bootstrap(table, seed=0)


def _one(evaluation: Record, judgement: Record | None, telling: Sequence[str]) -> str:
    differences = evaluation.body["differences"][evaluation.body["start"]]
    metric = _first(telling, differences)
    said = [] if metric is None else [f"{metric} {_shown(Figure(**differences[metric]))}"]
    if judgement is not None:
        said.append(f"win rate {_shown(Figure(**judgement.body['win_rate']))}")
    return ", ".join(said)


def _first(telling: Sequence[str], measured: Container[str]) -> str | None:
    """The most telling metric that was measured."""
    return next((metric for metric in telling if metric in measured), None)


def _shown(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"
