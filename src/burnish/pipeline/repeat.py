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

    Returns:
        A line for each seed, then the pooled differences of the candidate from its start, each with its interval over
        seeds and prompts, then whether the gain holds.
    """
    lines, evaluations = [], []
    for seed in seeds:
        run = project.with_seed(seed)
        project.progress.say(f"seed {seed}")
        outcome = run.run()
        if outcome.state == "waiting":
            return [f"seed {seed}: {outcome.why}"]
        evaluation = outcome.records["evaluation"]
        evaluations.append(evaluation)
        lines.append(f"seed {seed}: {outcome.state}; {_one(evaluation, outcome.records.get('judgement'))}")
    lines.append("")
    for metric in POOLED:
        figure = pooled(evaluations, metric)
        if figure is not None:
            lines.append(f"pooled {metric}: {_shown(figure)}")
    gain = pooled(evaluations, "score.utility") or pooled(evaluations, "loss")
    assert gain is not None
    better = "score.utility" in evaluations[0].body["items"][evaluations[0].body["candidate"]]
    holds = gain.low is not None and gain.high is not None and (gain.low > 0 if better else gain.high < 0)
    lines.append("the gain holds over seeds and prompts" if holds else "no gain holds over seeds and prompts")
    return lines


def pooled(evaluations: Sequence[Record], metric: str) -> Figure | None:
    """Candidate minus start over seeds and prompts; None where it was not measured.

    Raises:
        EvaluationError: The evaluations have other prompts.
    """
    rows = evaluations[0].body["rows"]
    table: list[list[float]] = []
    for evaluation in evaluations:
        body = evaluation.body
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
