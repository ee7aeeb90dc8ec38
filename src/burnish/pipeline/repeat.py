"""The same recipe under several seeds, pooled: a gain counts when it is there over seeds and prompts."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.errors import ConfigError, EvaluationError
from burnish.pipeline.project import Project
from burnish.records import Figure, Record
from burnish.statistics import crossed_bootstrap

POOLED = ("score.utility", "loss", "length", "distinct_2", "cut")


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
        seeds and prompts, then whether the gain holds.
    """
    lines: list[str] = []
    evaluations: list[Record | None] = []
    for seed in seeds:
        run = project.with_seed(seed)
        project.progress.say(f"seed {seed}")
        outcome = run.run()
        if outcome.state == "waiting":
            return [f"seed {seed}: {outcome.why}"]
        evaluation = outcome.records["evaluation"]
        tested = evaluation.body["split"] == "test"
        evaluations.append(evaluation if tested else None)
        found = _one(evaluation, outcome.records.get("judgement")) if tested else outcome.why or "not tested"
        lines.append(f"seed {seed}: {outcome.state}; {found}")
    lines.append("")
    figures = {metric: pooled(evaluations, metric) for metric in (*POOLED, *project.recipe.evaluate.metrics)}
    lines += [f"pooled {metric}: {_shown(figure)}" for metric, figure in figures.items() if figure is not None]
    better, less = figures["score.utility"], figures["loss"]
    if better is not None:
        holds = better.low is not None and better.low > 0
    else:
        holds = less is not None and less.high is not None and less.high < 0
    lines.append("the gain holds over seeds and prompts" if holds else "no gain holds over seeds and prompts")
    return lines


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


def _one(evaluation: Record, judgement: Record | None) -> str:
    body = evaluation.body
    metric = "score.utility" if "score.utility" in body["differences"][body["start"]] else "loss"
    text = f"{metric} {_shown(Figure(**body['differences'][body['start']][metric]))}"
    return text + (f", win rate {_shown(Figure(**judgement.body['win_rate']))}" if judgement else "")


def _shown(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"
