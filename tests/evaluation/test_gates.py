"""The gate passes what is better, and nothing else; whatever cannot be known is a no."""

from __future__ import annotations

import math

import pytest

from burnish.config import Gate
from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.gates import RULES, check_rules, decide, recheck
from burnish.records import Record
from evaluation.samples import RECIPE, Desk, gate, noise, rows


def verdict(desk: Desk, evaluation: Record, judgement: Record | None = None, *rules: Gate, stage: str = "rl") -> Record:
    return decide(
        RECIPE,
        desk.store,
        candidate=desk.rl,
        evaluation=evaluation,
        judgement=judgement,
        rules=rules or None,
        stage=stage,
    )


def only(desk: Desk, rule: Gate, **changes) -> dict:
    """The answer to one rule over the desk's numbers with some of the candidate's changed."""
    judgement_items = changes.pop("judged", None)
    clusters = changes.pop("clusters", None)
    evaluation = desk.evaluation(desk.numbers(**changes), clusters=clusters, seed=len(desk.store.records("support")))
    judgement = desk.judgement(evaluation, judgement_items) if rule.metric == "win_rate" else None
    found = verdict(desk, evaluation, judgement, rule).body
    assert found["passed"] == found["rules"][0]["passed"]
    return found["rules"][0]


def test_the_default_rules_pass_a_better_candidate(desk: Desk):
    body = desk.passed().body
    assert [rule["metric"] for rule in body["rules"]] == [rule.metric for rule in RULES["rl"]]
    why = body["rules"][0]["why"]
    assert why.startswith("win rate against support@1: 0.75 [0.6") and why.endswith("needed at least 0.5: yes")
    assert body["candidate"] == desk.rl.id
    assert desk.rl.id in desk.passed().parents
    assert body["rules"][0]["figure"]["level"] == pytest.approx(0.9)  # two-sided: 5 % on the side that decides


def test_the_supervised_rules_want_a_lower_loss(desk: Desk):
    better = desk.evaluation(desk.numbers(loss=noise(96, 1.5, 0.3, 1)), seed=1)
    assert verdict(desk, better, stage="sft").body["passed"]
    worse = desk.evaluation(desk.numbers(loss=noise(96, 2.5, 0.3, 1)), seed=2)
    body = verdict(desk, worse, stage="sft").body
    assert not body["passed"] and not body["rules"][0]["passed"] and body["rules"][1]["passed"]


@pytest.mark.parametrize(
    ("loss", "rule", "passes"),
    [
        (1.5, {"better_by": 0.0}, True),
        (1.5, {"better_by": 0.6}, False),
        (2.5, {"better_by": 0.0}, False),
        (2.2, {"not_worse_by": 0.3}, True),
        (2.5, {"not_worse_by": 0.3}, False),
        (1.0, {"not_worse_by": 0.3}, True),
    ],
)
def test_a_loss_is_better_when_it_is_lower(desk: Desk, loss, rule, passes):
    assert only(desk, gate("loss", "start", **rule), loss=noise(96, loss, 0.3, 1))["passed"] is passes


def test_more_diversity_is_better(desk: Desk):
    assert only(desk, gate("distinct_2", "start", not_worse_by=0.05))["passed"]
    assert not only(desk, gate("distinct_2", "start", not_worse_by=0.05), distinct_2=noise(96, 0.5, 0.1, 1))["passed"]


def test_the_mean_alone_is_not_enough_the_interval_must_clear_the_bound(desk: Desk):
    answer = only(desk, gate("loss", "start", better_by=0.0), loss=noise(96, 1.97, 0.8, 1))
    assert answer["figure"]["value"] < 0 < answer["figure"]["high"]
    assert not answer["passed"] and "its interval does not meet the bound" in answer["why"]


def test_own_figures_against_bounds(desk: Desk):
    assert only(desk, gate("kl", at_most=0.15))["passed"]
    assert not only(desk, gate("kl", at_most=0.04))["passed"]
    assert only(desk, gate("score.utility", at_least=1.0))["passed"]
    assert not only(desk, gate("score.utility", at_least=1.5))["passed"]
    assert only(desk, gate("length_ratio", "start", at_most=1.3))["passed"]
    assert not only(desk, gate("length_ratio", "start", at_most=1.3), length=noise(96, 45, 3, 1))["passed"]


def test_a_share_that_never_happens_may_pass(desk: Desk):
    assert only(desk, gate("repeats", at_most=0.05))["passed"]
    assert not only(desk, gate("repeats", at_most=0.01))["passed"]


@pytest.mark.parametrize("rule", [gate("loss", "start", not_worse_by=9.0), gate("kl", at_most=9.0)])
def test_not_a_number_is_a_no(desk: Desk, rule: Gate):
    for bad in (math.nan, math.inf, -math.inf):
        answer = only(desk, rule, **{rule.metric: [bad, *noise(95, 0.1, 0.01, 1)]})
        assert not answer["passed"] and "not a number" in answer["why"]


def test_fewer_than_fifty_clusters_are_a_no_however_many_items(desk: Desk):
    rule = gate("kl", at_most=0.15)
    assert only(desk, rule, clusters=[n % 50 for n in range(96)])["passed"]
    answer = only(desk, rule, clusters=[n % 49 for n in range(96)])
    assert not answer["passed"] and "49 independent prompts are too few" in answer["why"]


def test_an_interval_without_width_is_a_no(desk: Desk):
    for value in (0.05, 0.1, 1 / 3):
        answer = only(desk, gate("kl", at_most=9.0), kl=[value] * 96)
        assert not answer["passed"] and "no width" in answer["why"]
    assert not only(desk, gate("win_rate", "start", at_least=0.5), judged=[1.0] * 96)["passed"]


def test_what_was_not_measured_is_a_no(desk: Desk):
    numbers = desk.numbers()
    del numbers["rl"]["kl"]
    answers = verdict(desk, desk.evaluation(numbers, seed=1), None, gate("kl", at_most=9.0)).body["rules"]
    assert not answers[0]["passed"] and answers[0]["figure"] is None and "was not measured" in answers[0]["why"]
    assert "was not measured" in only(desk, gate("score.names", at_least=0.0))["why"]
    assert "was not among the contenders" in only(desk, gate("loss", "prompt_only", not_worse_by=9.0))["why"]
    nobody = verdict(desk, desk.evaluation(seed=2), None, gate("win_rate", "start", at_least=0.0)).body
    assert not nobody["passed"] and "nobody has judged" in nobody["rules"][0]["why"]


def test_votes_against_another_reference_do_not_count(desk: Desk):
    answer = only(desk, gate("win_rate", "base", at_least=0.0))
    assert not answer["passed"] and "compare rl with start" in answer["why"]


def test_one_rule_that_fails_fails_the_verdict(desk: Desk):
    evaluation = desk.evaluation(desk.numbers(distinct_2=noise(96, 0.3, 0.1, 1)))
    body = verdict(desk, evaluation, desk.judgement(evaluation)).body
    assert not body["passed"] and [rule["passed"] for rule in body["rules"]] == [True, True, True, True, False]


def test_a_win_rate_below_a_half_is_a_no(desk: Desk):
    assert only(desk, gate("win_rate", "start", at_least=0.5), judged=[float(n % 4 != 0) for n in range(96)])["passed"]
    assert not only(desk, gate("win_rate", "start", at_least=0.5), judged=[float(n % 2) for n in range(96)])["passed"]


def test_erased_items_are_left_out(desk: Desk):
    judged = [None if n < 10 else float(n % 4 != 0) for n in range(96)]
    answer = only(desk, gate("win_rate", "start", at_least=0.5), judged=judged)
    assert answer["passed"] and answer["figure"]["clusters"] == 86


def test_each_further_verdict_on_the_same_prompts_spends_less(desk: Desk):
    rule = gate("kl", at_most=0.15)
    first = verdict(desk, desk.evaluation(seed=1), None, rule)
    assert first.body["alpha"] == pytest.approx(0.05) and first.body["decided_before"] == []
    assert verdict(desk, desk.evaluation(seed=1), None, rule).id == first.id  # the same question spends nothing
    second = verdict(desk, desk.evaluation(seed=2), None, rule).body
    assert second["alpha"] == pytest.approx(0.1 / 6) and second["decided_before"] == [first.id]
    assert second["alpha_spent"] == pytest.approx(0.05 + 0.1 / 6)
    widths = [
        rules[0]["figure"]["high"] - rules[0]["figure"]["low"] for rules in (first.body["rules"], second["rules"])
    ]
    assert widths[0] < widths[1]


def test_rows_added_to_a_held_out_set_make_no_fresh_set(desk: Desk):
    rule = gate("kl", at_most=0.15)
    verdict(desk, desk.evaluation(seed=1), None, rule)
    grown, fresh = desk.new_dataset(rows(97)), desk.new_dataset(rows(96, start=200))
    assert len(verdict(desk, desk.evaluation(dataset=grown, seed=2), None, rule).body["decided_before"]) == 1
    assert verdict(desk, desk.evaluation(dataset=fresh, seed=3), None, rule).body["decided_before"] == []


def test_a_verdict_is_about_the_version_that_was_measured(desk: Desk):
    evaluation = desk.evaluation()
    with pytest.raises(EvaluationError, match="another candidate"):
        decide(RECIPE, desk.store, candidate=desk.sft, evaluation=evaluation, stage="rl")
    with pytest.raises(EvaluationError, match="another evaluation"):
        verdict(desk, desk.evaluation(seed=5), desk.judgement(evaluation))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (gate("win_rat", "start", at_least=0.5), 'did you mean "win_rate"'),
        (gate("accuracy", at_least=0.5), "known: loss, length"),
        (gate("loss", "champion", better_by=0.0), "known: production, start"),
        (gate("length", "start", better_by=1.0), "use at_least or at_most"),
        (gate("win_rate", "start", better_by=0.1), "use at_least or at_most"),
        (gate("win_rate", at_least=0.5), "needs against"),
        (gate("loss", "start", at_most=2.0), "leave against out"),
    ],
)
def test_a_rule_that_nothing_can_answer_is_refused_before_any_work(rule, message):
    with pytest.raises(ConfigError, match=message) as refused:
        check_rules([gate("loss", "start", better_by=0.0), rule])
    assert refused.value.where == "gate 2"


def test_every_default_rule_is_sound():
    for rules in RULES.values():
        check_rules(rules)


def test_recheck_believes_the_figure_not_the_answer(desk: Desk):
    rule = desk.passed().body["rules"][0]
    assert recheck(rule) is None
    assert recheck(rule | {"bound": "at_least 0.9"}) is not None
    for name in ("value", "low", "high"):
        for bad in (None, math.nan, math.inf):
            assert recheck(rule | {"figure": rule["figure"] | {name: bad}}) is not None
    for changes in ({"clusters": 49}, {"high": rule["figure"]["low"]}):
        assert recheck(rule | {"figure": rule["figure"] | changes}) is not None
    for broken in ({"bound": "at_least"}, {"bound": "beats 0.5"}, {"figure": None}, {"figure": {"mean": 1.0}}):
        assert recheck(rule | broken) is not None
