"""The advice follows its stated rules of thumb."""

from __future__ import annotations

from dataclasses import replace

from burnish.pipeline.advice import Situation, advise

PLENTY = Situation(rows=500, held_out=80, votes=300, raters=2, simulated=False, seconds=600.0, fits=True)


def test_plenty_of_everything() -> None:
    prompt, sft, preferences, online = advise(PLENTY)
    assert prompt.startswith("prompt only: keep it as the reference")
    assert sft == "sft: worth it with 500 rows"
    assert preferences.startswith("preferences: worth it; 300 votes are in")
    assert online.startswith("rl: possible")


def test_few_rows_start_with_a_prompt() -> None:
    prompt, sft, *_ = advise(replace(PLENTY, rows=31))
    assert prompt.startswith("prompt only: start here; under 32 rows") and sft.startswith("sft: not yet; 31 rows")
    assert advise(replace(PLENTY, rows=32))[1].startswith("sft: worth a try with 32 rows")
    assert advise(replace(PLENTY, rows=199))[1].startswith("sft: worth a try with 199 rows")


def test_nothing_held_out_shows_nothing() -> None:
    found = advise(replace(PLENTY, held_out=49))
    assert found[1].startswith("sft: 49 independent held-out prompts cannot show")
    assert found[3] == "rl: not before 50 held-out prompts can judge it"


def test_votes_are_counted_in_hours_of_raters() -> None:
    found = advise(replace(PLENTY, votes=80, raters=2))
    assert found[2] == "preferences: 120 more votes are about 1.0 hours of 2 raters at 60 votes an hour"
    assert found[3].startswith("rl: not before 200 votes")
    assert advise(replace(PLENTY, votes=80, own_reward=True))[3].startswith("rl: possible")
    nobody = advise(replace(PLENTY, votes=0, raters=0))[2]
    assert nobody == ("preferences: nobody rates yet; one person gives about 60 votes an hour, and 200 more are needed")


def test_simulated_raters_are_called_so() -> None:
    assert "not what people like" in advise(replace(PLENTY, votes=0, simulated=True))[2]


def test_what_the_machine_cannot_do() -> None:
    assert any(line.startswith("memory: it does not fit") for line in advise(replace(PLENTY, fits=False)))
    assert any(line.startswith("time: about 5 hours") for line in advise(replace(PLENTY, seconds=5 * 3600.0)))
    assert len(advise(replace(PLENTY, seconds=4 * 3600.0))) == 4
