"""Votes on held-out pairs become a win rate; frozen, by one source, with equal answers as ties."""

from __future__ import annotations

import pytest

from burnish.errors import EvaluationError
from burnish.evaluation.preference import judge_campaign, judged
from burnish.feedback import comparisons, ensure_rater, record_vote, undo
from burnish.feedback.comparisons import left_side
from burnish.records import Exchange, Message, Record
from burnish.store import now
from evaluation.samples import PROJECT, Desk

ITEMS = 60


@pytest.fixture
def evaluation(desk: Desk) -> Record:
    """rl and start answer 60 prompts of 60 people; on every tenth they say the same."""
    said: dict[str, list[str]] = {}
    with desk.store.write() as conn:
        for name, version in (("start", desk.sft), ("rl", desk.rl)):
            said[name] = [f"{name}-{n}" for n in range(ITEMS)]
            for n, id in enumerate(said[name]):
                answer = f"Same {n}." if n % 10 == 0 else f"{name} {n}."
                kept = Exchange(
                    id, PROJECT, version.id, "evaluation", (Message("user", f"Where is parcel {n}?"),), answer,
                    (1, 2), (3, 4), (-0.5, -0.5), "stop", now(), subject=f"person-{n}",
                )  # fmt: skip
                desk.store.exchanges.add(conn, kept)
    return desk.evaluation(clusters=list(range(ITEMS)), exchanges=said, rows=list(range(ITEMS)))


def campaign(desk: Desk, evaluation: Record, votes: int = 1) -> str:
    return judge_campaign(desk.store, PROJECT, evaluation, "rl", "start", votes)


def vote(
    desk: Desk, campaign: str, name: str, source: str, choose, least: int = 0, most: int = ITEMS, tone=None
) -> str:
    """Let one rater judge the items of a campaign: ``choose(number of the prompt)`` is "a" (rl), "b" or "tie", and
    ``tone`` the same by that criterion, or None."""
    rater = ensure_rater(desk.store, PROJECT, name, source)
    for item in comparisons(desk.store, PROJECT, campaign)[least:most]:
        number = int(item.a.split("-")[1])
        left = left_side(item.id, rater)
        seen = {"tie": "tie", left: "left", "b" if left == "a" else "a": "right"}
        said = tone and tone(number)
        record_vote(
            desk.store, PROJECT, rater, "compare", key=f"{name}:{item.id}", comparison=item.id,
            choice=seen[choose(number)], criteria={"tone": seen[said]} if said else None, asked=["tone"],
        )  # fmt: skip
    return rater


def test_nobody_is_asked_about_equal_answers(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation)
    items = comparisons(desk.store, PROJECT, name)
    assert len(items) == 54 and {item.purpose for item in items} == {"judge"}
    assert all(item.a.startswith("rl-") and item.b.startswith("start-") for item in items)
    assert campaign(desk, evaluation) == name and len(comparisons(desk.store, PROJECT, name)) == 54


def test_the_win_rate_counts_ties_as_a_half(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation)
    vote(desk, name, "anna", "human", lambda n: "a" if n % 3 == 0 else "b" if n % 3 == 1 else "tie")
    body = judged(desk.store, PROJECT, name, evaluation, 0).body
    wanted = [0.5 if n % 10 == 0 else (1.0, 0.0, 0.5)[n % 3] for n in range(ITEMS)]
    assert body["items"] == wanted
    assert body["win_rate"]["value"] == pytest.approx(sum(wanted) / ITEMS)
    assert (body["equal"], body["raters"], body["votes"]) == (6, 1, {"human": 54})
    assert body["ties"] == sum(n % 10 != 0 and n % 3 == 2 for n in range(ITEMS))
    assert body["agreement"] is None
    assert body["contenders"] == {"rl": desk.rl.id, "start": desk.sft.id}


def test_a_criterion_has_a_win_rate_of_its_own_over_the_pairs_that_were_judged_by_it(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation)
    vote(desk, name, "anna", "human", lambda n: "a", tone=lambda n: None if n % 2 else "b" if n < 30 else "tie")
    body = judged(desk.store, PROJECT, name, evaluation, 0).body
    spoken = [0.5 if n % 10 == 0 else 0.0 if n < 30 else 0.5 for n in range(ITEMS) if n % 2 == 0]
    assert set(body["criteria"]) == {"tone"} and body["criteria"]["tone"]["clusters"] == len(spoken) == 30
    assert body["criteria"]["tone"]["value"] == pytest.approx(sum(spoken) / 30)
    assert body["win_rate"]["value"] > 0.9


def test_two_raters_make_a_share_and_an_agreement(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation, votes=2)
    vote(desk, name, "one", "simulated", lambda n: "a")
    vote(desk, name, "two", "simulated", lambda n: "a" if n % 2 else "b")
    body = judged(desk.store, PROJECT, name, evaluation, 0).body
    assert body["items"][1] == 1.0 and body["items"][2] == 0.5
    assert body["agreement"]["value"] == pytest.approx(30 / 54) and body["votes"] == {"simulated": 108}


def test_a_pair_without_a_vote_is_not_guessed(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation)
    with pytest.raises(EvaluationError, match="54 of 54 pairs have no vote"):
        judged(desk.store, PROJECT, name, evaluation, 0)
    vote(desk, name, "anna", "human", lambda n: "a", most=53)
    with pytest.raises(EvaluationError, match="1 of 54 pairs have no vote"):
        judged(desk.store, PROJECT, name, evaluation, 0)


def test_people_and_simulated_raters_are_pooled_only_where_asked(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation, votes=2)
    vote(desk, name, "robot", "simulated", lambda n: "a")
    vote(desk, name, "anna", "human", lambda n: "b", most=20)
    alone = judged(desk.store, PROJECT, name, evaluation, 0)
    assert alone.body["votes"] == {"simulated": 54} and alone.body["sources"] == ["simulated"]
    vote(desk, name, "anna", "human", lambda n: "b", least=20)
    people = judged(desk.store, PROJECT, name, evaluation, 0).body
    assert people["votes"] == {"human": 54} and people["win_rate"]["value"] < 0.1
    both = judged(desk.store, PROJECT, name, evaluation, 0, sources=["human", "simulated"]).body
    assert both["votes"] == {"human": 54, "simulated": 54}


def test_votes_elsewhere_change_nothing_and_later_ones_here_are_a_new_judgement(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation, votes=2)
    rater = vote(desk, name, "anna", "human", lambda n: "a")
    first = judged(desk.store, PROJECT, name, evaluation, 0)
    record_vote(desk.store, PROJECT, rater, "thumb", key="elsewhere", exchange="rl-3", value=1)
    assert judged(desk.store, PROJECT, name, evaluation, 0).id == first.id
    vote(desk, name, "ben", "human", lambda n: "b", most=10)
    second = judged(desk.store, PROJECT, name, evaluation, 0)
    assert second.id != first.id and second.body["up_to"] > first.body["up_to"]
    assert desk.store.record(first.id).body["win_rate"]["value"] > second.body["win_rate"]["value"]


def test_a_vote_that_was_taken_back_does_not_count(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation, votes=2)
    vote(desk, name, "ben", "human", lambda n: "b")
    anna = vote(desk, name, "anna", "human", lambda n: "a", most=1)
    before = judged(desk.store, PROJECT, name, evaluation, 0).body
    assert sum(value == 0.5 for value in before["items"]) == 7
    undo(desk.store, PROJECT, anna, key="back")
    after = judged(desk.store, PROJECT, name, evaluation, 0).body
    assert sum(value == 0.5 for value in after["items"]) == 6 and after["raters"] == 1


def test_erased_answers_are_left_out(desk: Desk, evaluation: Record):
    name = campaign(desk, evaluation)
    vote(desk, name, "anna", "human", lambda n: "a", least=0)
    desk.store.forget(PROJECT, "person-10")  # equal answers
    desk.store.forget(PROJECT, "person-11")
    body = judged(desk.store, PROJECT, name, evaluation, 0).body
    assert body["items"][10] is None and body["equal"] == 5
    assert body["win_rate"]["clusters"] == 59


def test_a_campaign_of_another_evaluation_is_refused(desk: Desk, evaluation: Record):
    with pytest.raises(EvaluationError, match="compares no two contenders"):
        judged(desk.store, PROJECT, "judge-0000", evaluation, 0)
    with pytest.raises(EvaluationError, match="was not evaluated"):
        judge_campaign(desk.store, PROJECT, evaluation, "rl", "base", 1)
