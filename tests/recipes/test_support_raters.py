"""The raters' rule does what it says, part by part, and the raters are what they are said to be."""

from __future__ import annotations

import math

import pytest

from burnish.feedback import Reply
from burnish.recipes.support.raters import (
    PARTS,
    Rater,
    closes_with_offer,
    copies,
    faults,
    has_step,
    invents,
    names_the_thing,
    panel,
    parts,
    things,
    utility,
)

QUESTION = "Hello, my kettle from the last parcel stays cold. What now?"
GOOD = (
    "Sorry to hear that. Please unplug the kettle, wait ten minutes and then try another socket. "
    "Shall I send you a new one if it still stays cold?"
)


def test_a_good_answer_by_hand() -> None:
    assert len(GOOD.split()) == 28
    assert parts(QUESTION, GOOD) == {
        "names": 1.0, "step": 1.0, "offer": 0.7, "length": 0.0, "cut": 0.0, "repeats": 0.0, "invents": 0.0,
    }  # fmt: skip
    assert utility(QUESTION, GOOD) == pytest.approx(2.7)


def test_a_poor_answer_by_hand() -> None:
    poor = "It is cold it is cold it is cold, see 123"
    assert parts(QUESTION, poor) == {
        "names": 0.0, "step": 0.0, "offer": 0.0, "length": pytest.approx(-0.36), "cut": -1.0, "repeats": -1.0,
        "invents": -1.0,
    }  # fmt: skip
    assert utility(QUESTION, poor) == pytest.approx(-3.36)


@pytest.mark.parametrize(("words", "worth"), [(10, -0.4), (19, -0.04), (20, 0), (36, 0), (37, -0.04), (46, -0.4)])
def test_length_costs_per_word_outside(words: int, worth: float) -> None:
    answer = " ".join(f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(words)) + "."
    assert parts(QUESTION, answer)["length"] == pytest.approx(worth)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("My kettle is cold", {"kettle"}),
        ("Two invoices for one dish rack", {"invoice", "dish", "rack"}),
        ("my pre-ordered knives", {"knife"}),
        ("Where is the parcels' box?", {"parcel", "box"}),
        ("Nobody answered my e-mail about the lamp's bulb", {"lamp", "bulb"}),
        ("Nobody answered my e-mail", {"email", "mail"}),
        ("Why is it so unbelievably slow?", {"unbelievably"}),
        ("", set()),
    ],
)
def test_things_of_a_question(question: str, found: set[str]) -> None:
    assert things(question) == found


@pytest.mark.parametrize(
    ("question", "answer", "named"),
    [
        ("my kettles leak", "A kettle should not.", True),
        ("my kettle leaks", "Kettles do not.", True),
        ("my kettle leaks", "It should not.", False),
        ("my kettle leaks", "The lamp is fine.", False),
        ("kein Wort hier verständlich", "Alles verständlich.", True),
    ],
)
def test_naming_the_thing(question: str, answer: str, named: bool) -> None:
    assert names_the_thing(question, answer) is named


@pytest.mark.parametrize(
    "answer",
    [
        "Unplug it.",
        "Sorry. Please send us a photo.",
        "First open the list.",
        "You can return it to any shop.",
        "Could you check the label?",
        "Then simply press the key.",
        "If it stays cold, return the kettle.",
        "That is odd, so please try again.",
        "It takes a day; then check your inbox.",
        "No worries: hold the button down.",
    ],
)
def test_a_concrete_step(answer: str) -> None:
    assert has_step(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "We will check it and send a new one.",
        "The courier opens the box.",
        "Return shipping is free.",
        "Order numbers are on the label.",
        "It must be unplugged.",
        "Please do not worry.",
        "Opening hours are long.",
        "Would you like a new one?",
        "",
    ],
)
def test_no_concrete_step(answer: str) -> None:
    assert not has_step(answer)


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        ("It is late. Shall I ask?", True),
        ('It is late. "Shall I ask?"', True),
        ("It is late. Let me know.", True),
        ("It is late, but I can trace it.", True),
        ("We will gladly swap it.", True),
        ("Shall I ask? It is late.", False),
        ("I cannot say.", False),
        ("I can't say.", False),
        ("It is late.", False),
    ],
)
def test_closing_with_an_offer(answer: str, closes: bool) -> None:
    assert closes_with_offer(answer) is closes


def test_cut_off_by_the_model_or_in_the_text() -> None:
    assert parts(QUESTION, GOOD, finished=False)["cut"] == -1.0
    assert parts(QUESTION, GOOD.rstrip("?"))["cut"] == -1.0
    assert parts(QUESTION, "He said (yes.)")["cut"] == 0.0


def test_copying_counts_words_in_their_order() -> None:
    asked = "where is the blue kettle that I ordered on Monday evening"  # eleven words
    assert copies(asked, "You ask where is the blue kettle that you ordered on Monday.")
    assert not copies(asked, "evening Monday on ordered I that kettle blue the is where")
    assert not copies(asked, "The blue kettle left us on Tuesday.")
    assert copies(asked, "is the blue kettle I on Monday") and not copies(asked, "is the blue kettle I on")
    assert not copies("", "Anything.")


@pytest.mark.parametrize(
    ("answer", "invented"),
    [
        ("Call 555 now.", True),
        ("It costs 20 euro.", False),
        ("See www.example.com.", True),
        ("See harbour-pine.com.", True),
        ("Write to desk@shop.org.", True),
        ("Write to me@home.net.", False),
        ("It takes two days. No problem.", False),
    ],
)
def test_inventing(answer: str, invented: bool) -> None:
    assert invents("I paid 20 euro from me@home.net", answer) is invented


def test_the_panel_is_the_same_for_a_seed_and_another_for_another() -> None:
    train, judge = panel(0)
    assert (len(train), len(judge)) == (3, 2)
    assert len({rater.name for rater in train + judge}) == 5
    assert panel(0) == (train, judge) != panel(1)
    weights = [rater.weights[part] for seed in range(40) for rater in sum(panel(seed), ()) for part in PARTS]
    logs = [math.log(weight) for weight in weights]
    mean = sum(logs) / len(logs)
    assert mean == pytest.approx(0, abs=0.02)
    assert math.sqrt(sum((value - mean) ** 2 for value in logs) / len(logs)) == pytest.approx(0.2, abs=0.01)


def plain(**more: float) -> Rater:
    settings = {"left_bias": 0.0, "length_slope": 0.0, "tie_width": 0.0, "lapse": 0.0} | more
    return Rater("plain", dict.fromkeys(PARTS, 1.0), seed=0, **settings)  # type: ignore[arg-type]


def left_share(rater: Rater, left: str, right: str, draws: int = 4000) -> float:
    votes = [rater.vote(QUESTION, Reply(left), Reply(right), f"draw {n}") for n in range(draws)]
    return votes.count("left") / (votes.count("left") + votes.count("right"))


SHORTER = "Sorry about that, it happens with new ones now and again. Shall I send you another one this week?"
LONGER = "Sorry about that, it happens with new ones now and again. Shall I send another?"  # 15 words: 0.16 less


def test_votes_follow_the_sigmoid_of_the_difference() -> None:
    difference = utility(QUESTION, SHORTER) - utility(QUESTION, LONGER)
    assert difference == pytest.approx(0.16)
    expected = 1 / (1 + math.exp(-difference / 0.5))
    assert left_share(plain(), SHORTER, LONGER) == pytest.approx(expected, abs=0.025)
    assert left_share(plain(), LONGER, SHORTER) == pytest.approx(1 - expected, abs=0.025)
    assert left_share(plain(left_bias=0.25), SHORTER, SHORTER) == pytest.approx(1 / (1 + math.exp(-0.5)), abs=0.025)


def test_small_differences_are_ties() -> None:
    assert plain(tie_width=0.17).vote(QUESTION, Reply(SHORTER), Reply(LONGER), "d") == "tie"
    assert plain(tie_width=0.15).vote(QUESTION, Reply(SHORTER), Reply(LONGER), "d") != "tie"
    assert plain(tie_width=0.1, left_bias=0.2).vote(QUESTION, Reply(GOOD), Reply(GOOD), "d") != "tie"


def test_lapses_are_coins_and_only_as_many_as_said() -> None:
    bad = "no"
    assert left_share(plain(), GOOD, bad) > 0.995
    assert left_share(plain(lapse=1.0), GOOD, bad) == pytest.approx(0.5, abs=0.025)
    assert left_share(plain(lapse=0.05), GOOD, bad) == pytest.approx(0.975, abs=0.01)
    assert {rater.lapse for rater in sum(panel(0, lapse=1.0), ())} == {1.0}


def test_length_slope_is_felt_per_word() -> None:
    steep = plain(length_slope=0.1)
    felt = steep.score(QUESTION, Reply(SHORTER)) - steep.score(QUESTION, Reply(LONGER))
    assert felt == pytest.approx(0.16 + 0.1 * (len(SHORTER.split()) - len(LONGER.split())))


def test_the_same_draw_is_the_same_vote_and_others_are_independent() -> None:
    train, judge = panel(0)
    raters = train + judge
    votes = {
        rater.name: [rater.vote(QUESTION, Reply(SHORTER), Reply(SHORTER), f"item {n}") for n in range(2000)]
        for rater in [plain(), Rater("other", dict.fromkeys(PARTS, 1.0), 0.0, 0.0, 0.0, seed=0, lapse=0.0)]
    }
    first, second = votes.values()
    assert sum(a == b for a, b in zip(first, second, strict=True)) / 2000 == pytest.approx(0.5, abs=0.04)
    assert first[:1000] != first[1000:]
    again = [rater.vote(QUESTION, Reply(GOOD), Reply(SHORTER), "item") for rater in raters]
    assert again == [rater.vote(QUESTION, Reply(GOOD), Reply(SHORTER), "item") for rater in raters]


def test_faults_are_pieces_of_the_answer() -> None:
    answer = "Order 17 costs 25 euros. See shop.example/25 or write to me. it costs 25 euros, costs 25 euros. See"
    found = [(mark.kind, answer[mark.start : mark.stop]) for mark in faults("Where is order 17?", answer)]
    assert found == [
        ("invents", "25"), ("invents", "shop.example"), ("invents", "25"), ("invents", "25"), ("invents", "25"),
        ("repeats", "costs 25 euros. See"), ("cut", answer),
    ]  # fmt: skip
    assert faults("Where is it?", "It is on its way.") == [] == faults("Where?", "")
    assert [mark.kind for mark in faults("Where?", "It is on its way.", finished=False)] == ["cut"]
