"""Which rules no candidate could ever pass: known before anything is spent."""

from __future__ import annotations

from collections.abc import Collection

from burnish.config import Gate
from burnish.evaluation.gates import ALPHA, LEAST_CLUSTERS
from burnish.evaluation.metrics import SCORE, figure_of, metric_of
from burnish.statistics import alpha_for_use


def never_passes(rule: Gate, clusters: int, contenders: Collection[str], judged: bool, scored: bool) -> str | None:
    """Why the rule is a no whatever the candidate; None where some candidate could pass it.

    Args:
        clusters: Independent held-out prompts of the split that decides.
        contenders: What the evaluation will measure: base, start, production, prompt_only.
        judged: Raters will compare the answers.
        scored: The task gives a score of its own.
    """
    if clusters < LEAST_CLUSTERS:
        return f"{clusters} independent held-out prompts, and a gate needs {LEAST_CLUSTERS}"
    if rule.against is not None and rule.against not in contenders:
        return f"{rule.against} is not among the contenders"
    if rule.metric == "win_rate" and not judged:
        return "nobody judges the answers of a recipe without [preference] or [rl]"
    if rule.metric.startswith(SCORE) and not scored:
        return "the task gives no score: only simulated raters do"
    metric = metric_of(rule.metric)
    if metric is None or not metric.share:
        return None
    if rule.at_least is not None and _end(clusters, 1.0) < rule.at_least:
        return f"even if all of {clusters} prompts say yes, the lower end is {_end(clusters, 1.0):.3f}"
    if rule.at_most is not None and _end(clusters, 0.0) > rule.at_most:
        return f"even if none of {clusters} prompts says yes, the upper end is {_end(clusters, 0.0):.3f}"
    return None


def _end(clusters: int, best: float) -> float:
    """The end of the interval that a rule looks at, for the best shares there can be: all the same, or all but one."""
    level = 1 - 2 * alpha_for_use(1, ALPHA)
    share = metric_of("cut")
    ends = []
    for values in ([best] * clusters, [1 - best, *[best] * (clusters - 1)]):
        figure = figure_of(values, range(clusters), seed=0, level=level, metric=share)
        assert figure.low is not None and figure.high is not None
        ends.append(figure.low if best else figure.high)
    return max(ends) if best else min(ends)
