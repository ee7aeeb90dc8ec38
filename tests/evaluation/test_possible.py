"""Rules that nothing can pass are known beforehand, and no other rule is called so."""

from __future__ import annotations

import pytest

from burnish.evaluation import never_passes
from evaluation.samples import gate

SIDES = {"base", "start", "production"}


@pytest.mark.parametrize(
    ("rule", "clusters", "said"),
    [
        (gate("loss", against="start", better_by=0.0), 49, "49 independent held-out prompts, and a gate needs 50"),
        (gate("loss", against="start", better_by=0.0), 50, None),
        (gate("loss", against="prompt_only", better_by=0.0), 60, "prompt_only is not among the contenders"),
        (
            gate("win_rate", against="start", at_least=0.5),
            60,
            "nobody judges the answers of a recipe without [preference] or [rl]",
        ),
        (gate("score.utility", at_least=0.5), 60, "the task gives no score: only simulated raters do"),
        # Wilson with z = 1.645: 60 / (60 + 2.706) = 0.957 is the best lower end, and 1 - 0.957 the best upper one
        (gate("changed", at_least=0.97), 60, "even if all of 60 prompts say yes, the lower end is 0.957"),
        (gate("changed", at_least=0.95), 60, None),
        (gate("cut", at_most=0.03), 60, "even if none of 60 prompts says yes, the upper end is 0.043"),
        (gate("cut", at_most=0.05), 60, None),
    ],
)
def test_never(rule, clusters: int, said: str | None) -> None:
    assert never_passes(rule, clusters, SIDES, judged=False, scored=False) == said


def test_votes_and_scores_make_them_possible() -> None:
    assert never_passes(gate("win_rate", against="start", at_least=0.5), 60, SIDES, judged=True, scored=False) is None
    assert never_passes(gate("score.utility", at_least=0.5), 60, SIDES, judged=False, scored=True) is None
