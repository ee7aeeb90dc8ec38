"""What recipes make of algorithms: pairs and best answers, and written answers beside drawn ones, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from burnish.config import Rl
from burnish.objectives import Answer, Outputs, Tree, chord_schedule, pack
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Sample
from burnish.training.measured import Measured, as_trees, with_shown, with_stream
from burnish.training.plan import Plan, plan_of

LONGEST = 10


def plan(**keys: Any) -> Plan:
    return plan_of(Rl(**keys), 0.1, LONGEST)


def measured(groups: Sequence[Sequence[Sample]], rewards: list[list[float]]) -> Measured:
    """Drawn answers with a start version that finds each token half a nat less likely."""
    trees = as_trees([[1]] * len(groups), groups)
    less = [lp - 0.5 for group in groups for sample in group for lp in sample.logprobs or [0.0] * len(sample.ids)]
    trees = with_stream(trees, "reference_logp", less, having="old_logp")
    kept = [list(range(len(group))) for group in groups]
    return Measured([list(group) for group in groups], Scores(rewards, {"mine": rewards}, kept), trees)


def drawn(*ids: int) -> Sample:
    return Sample(ids, (-1.0,) * len(ids), "stop")


GROUPS = [[drawn(4, 5), drawn(6), drawn(7, 8, 9)], [drawn(4), drawn(5), drawn(6, 7)]]


def test_online_dpo_pairs_the_best_with_the_worst() -> None:
    ours = plan(algorithm="online_dpo", beta=0.5)
    pairs, figures = ours.lesson(measured(GROUPS, [[0.0, 3.0, -1.0], [2.0, 2.0, 2.0]]), 0.0)
    assert [[list(a.ids) for a in tree.answers] for tree in pairs] == [[[6], [7, 8, 9]], [[4], [5]]]
    assert [tree.streams["preference"] for tree in pairs] == [1.0, 0.5]  # all equal: a tie
    assert figures == {"idle_share": pytest.approx(1 - 6 / 10)}
    (term,) = ours.terms
    # margins: log pi - log start is 0.5 + 0.2 a token for the first, 0.5 - 0.1 a token for the second of each pair
    logp_S = torch.tensor([-0.8, -1.1, -1.1, -1.1, -0.8, -1.1])
    result = term.loss(Outputs(logp_S), pack(pairs, 100)[0])
    wanted = math.log(1 + math.exp(-0.5 * (0.7 - 1.2)))
    tied = (math.log(1 + math.exp(-0.5 * 0.3)) + math.log(1 + math.exp(0.5 * 0.3))) / 2
    assert float(result.total) == pytest.approx(wanted + tied, rel=1e-4)
    assert term.count(pairs) == 2.0


def test_rejection_repeats_the_best_answer_alone() -> None:
    ours = plan(algorithm="rejection")
    best, figures = ours.lesson(measured(GROUPS, [[0.0, 3.0, -1.0], [2.0, 2.0, 2.0]]), 0.0)
    assert [[list(a.ids) for a in tree.answers] for tree in best] == [[[6]], [[4]]]
    (term,) = ours.terms
    assert (term.name, term.count(best)) == ("likelihood", 2.0)
    assert float(term.loss(Outputs(torch.tensor([-0.5, -2.0])), pack(best, 100)[0]).total) == 2.5
    assert figures == {"idle_share": pytest.approx(1 - 2 / 10)}


def shown() -> Measured:
    """The first prompt has a written answer of two tokens, the second has none."""
    rows = [Row((Message("user", "a"),), "yes", 1), Row((Message("user", "b"),), None, 2)]
    asked = [Asked([1], row) for row in rows]
    groups = with_shown(GROUPS, asked, lambda row: [20, 21] if row.answer else None)
    return measured(groups, [[0.0, 1.0, 0.0, 3.0], [0.0, 0.0, 3.0]])


def test_a_written_answer_joins_the_group_and_no_figure() -> None:
    found = shown()
    assert [len(group) for group in found.samples] == [4, 3]
    written = found.trees[0].answers[3]
    assert list(written.ids) == [20, 21] and not written.streams
    figures = found.figures()
    assert figures["reward"] == figures["reward/mine"] == pytest.approx(4 / 6)
    assert figures["length"] == pytest.approx(10 / 6) and figures["kl"] == pytest.approx(0.5)
    assert figures["diversity"] == 1.0


def test_luffy_credits_written_answers_within_the_group() -> None:
    """The mean of the first group is 1 with the written answer; its term shares the drawn tokens' denominator."""
    ours = plan(algorithm="dr_grpo", luffy={"gamma": 0.1})
    trees, _ = ours.lesson(shown(), 0.0)
    streams = [dict(answer.streams) for answer in trees[0].answers]
    assert [s.get("advantage", [None])[0] for s in streams] == [-1.0, 0.0, -1.0, None]
    assert streams[3] == {"demonstrated_advantage": [2.0, 2.0]}
    policy, off = ours.terms[:2]
    assert (policy.name, off.name) == ("policy", "shaped")
    assert (policy.count(trees), off.count(trees)) == (10.0, 2.0)
    assert policy.divided_by(trees) == off.divided_by(trees) == 7 * LONGEST
    result = off.loss(Outputs(torch.full((12,), math.log(0.3))), pack(trees, 100)[0])
    assert float(result.total) == pytest.approx(-2 * 2.0 * 0.3 / 0.4, rel=1e-5)
    averaged = plan(luffy={}).terms
    assert [term.divided_by(trees) for term in averaged[:2]] == [12.0, 12.0]
    assert averaged[2].name == "kl" and averaged[2].count(trees) == 10.0  # written answers have no KL


def test_luffy_pays_the_kl_and_the_length_of_drawn_answers_alone() -> None:
    ours = plan(algorithm="dapo", kl_in="reward", overlong=1.0, luffy={})
    _, figures = ours.lesson(shown(), 0.1)
    assert figures["reward/overlong"] == pytest.approx(-sum(n / LONGEST for n in (2, 1, 3, 1, 1, 2)) / 6)
    assert figures["kl_weight"] == 0.1


@pytest.mark.parametrize("phi", [True, False])
def test_chord_shares_the_objective_by_its_schedule(phi: bool) -> None:
    ours = plan(updates=9, entropy=0.2, chord={"mu": (0.8, 0.2), "warmup": 2, "phi": phi})
    mu = chord_schedule(0.8, 0.2, updates=9, warmup=2)
    assert [round(mu(step), 4) for step in (0, 1, 2, 5, 8)] == [0.2667, 0.5333, 0.8, 0.5, 0.2]
    for step in (0, 4, 8):
        weights = {term.name: term.at(step) for term in ours.terms}
        share = mu(step)
        written = "chord" if phi else "likelihood"
        wanted = {"policy": 1 - share, "kl": 0.1 * (1 - share), "entropy": 0.2 * (1 - share), written: share}
        assert weights == pytest.approx(wanted)


def test_demonstrations_with_a_fixed_weight_are_a_term_beside_the_others() -> None:
    terms = plan(demonstrations=0.3).terms
    written = Tree([1], (Answer([2, 3], [1.0, 1.0]),))
    assert terms[-1].at(5) == 0.3 and terms[-1].count([written]) == 2.0
