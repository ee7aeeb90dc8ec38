"""Reports say what the records hold."""

from __future__ import annotations

import pytest

from burnish.errors import EvaluationError
from burnish.evaluation import dominant_part, lines, table
from burnish.evaluation.gates import decide
from burnish.records import Record
from evaluation.samples import RECIPE, Desk


def figure(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "clusters": 96, "level": 0.95}


def evaluated(desk: Desk, **gains: float) -> Record:
    """An evaluation in which rl gains so much on each part of the score."""
    metrics = ["loss", "length", *[f"score.{name}" for name in gains]]
    return desk.evaluation(
        contenders={"base": desk.base.id, "prompt_only": desk.base.id, "start": desk.sft.id, "production": desk.sft.id,
                    "rl": desk.rl.id},
        names={"base": "support@0", "prompt_only": "support@0", "start": "support@1", "production": "support@1",
               "rl": "support@2"},
        figures={name: {m: figure(n + 1.0) for m in metrics}
                 for n, name in enumerate(("base", "prompt_only", "start", "production", "rl"))},
        differences={"start": {"loss": figure(0.2), **{f"score.{n}": figure(value) for n, value in gains.items()}}},
        changed={"rl": 90},
    )  # fmt: skip


def test_one_row_for_each_version_with_all_its_names(desk: Desk):
    found = table(evaluated(desk, utility=0.5, step=0.1))
    assert [row["name"] for row in found["rows"]] == ["base", "prompt_only", "production = start", "rl"]
    assert found["columns"] == ["score.utility", "score.step", "loss", "length"]
    assert found["rows"][3]["cells"]["loss"] == figure(5.0)
    assert found["rows"][0]["version"] == "support@0"


def test_the_lines_hold_figures_with_intervals_votes_and_the_verdict(desk: Desk):
    evaluation = evaluated(desk, utility=0.5, step=0.1, offer=0.4)
    judgement = desk.judgement(evaluation, agreement=figure(0.8))
    verdict = decide(RECIPE, desk.store, candidate=desk.rl, evaluation=evaluation, judgement=judgement, stage="rl")
    said = "\n".join(lines(evaluation, verdict, judgement))
    assert "| rl (support@2) | 5.00 [4.90, 5.10] | 0.75 [0.66, 0.83] |" in said
    assert "rl minus start: utility 0.50 [0.40, 0.60]" in said
    assert "90 of 96 answers differ from support@1's" in said
    assert "rl preferred to start: 0.75 [0.66, 0.83] (96 simulated votes of 2 raters" in said
    assert 'one part explains most of the gain: "offer" gave 0.40 of 0.50 in utility' in said
    assert "gate: passed" in said and "win rate against support@1" in said
    assert "decision 1 on these test prompts: one-sided at 95.0%" in said
    assert "step" not in said.split("gate")[0].replace("steps", "")  # the parts stay in the table for the pages


def test_the_lines_do_without_a_score_and_without_votes(desk: Desk):
    said = "\n".join(lines(evaluated(desk)))
    assert "rl minus start: loss 0.20" in said and "gate" not in said and "preferred" not in said


@pytest.mark.parametrize(
    ("gains", "part"),
    [
        ({"utility": 1.0, "step": 0.6, "offer": 0.4}, "step"),
        ({"utility": 1.0, "step": 0.5, "offer": 0.5}, None),
        ({"utility": -1.0, "step": -0.9, "offer": -0.1}, None),
        ({"utility": 0.2, "step": 0.5, "offer": -0.3}, "step"),
        ({"utility": 1.0}, None),
    ],
)
def test_a_part_that_explains_over_half_of_the_gain_is_named(desk: Desk, gains, part):
    sentence = dominant_part(evaluated(desk, **gains))
    assert (part in sentence) if part else sentence is None


def test_only_compared_contenders_can_be_asked_about(desk: Desk):
    with pytest.raises(EvaluationError, match="not compared"):
        dominant_part(evaluated(desk, utility=1.0), against="base")
