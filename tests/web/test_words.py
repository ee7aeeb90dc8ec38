"""What the pages are made of, by itself: words and numbers, which charts there are, colours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burnish.monitoring import runs
from burnish.records import Figure
from burnish.web import charts, circle, comparing, words

WEB = Path(__file__).parents[2] / "src" / "burnish" / "web"


def test_a_figure_that_is_not_finite_has_no_place_on_the_scale() -> None:
    place = circle._scale([Figure(1.0, 0.0, 2.0), Figure(float("nan"), None, None), None])
    assert place(Figure(1.0, 0.0, 2.0)) == {"value": 50.0, "low": 3.0, "high": 97.0}
    assert place(Figure(float("nan"), 0.0, 1.0)) is None and place(Figure(1.0)) is None and place(None) is None


def test_a_known_figure_is_explained_and_an_unknown_one_drawn() -> None:
    lines = [
        {"step": 0, "at": "now", "kl": 0.1, "reward": "nan", "samples": ["a"], "my/new_figure": 1, "stopped": "so"}
    ]
    found = {panel.title: panel for panel in charts.panels(lines)}
    assert list(found) == ["Reward", "KL to the start", "My: new figure"]
    assert (found["Reward"].keys, found["Reward"].names) == (("reward",), ("",))
    both = charts.panels([{"reward": 1.0}, {"dev_reward": 1.0}])
    assert (both[0].keys, both[0].names) == (("reward", "dev_reward"), ("sampled", "dev"))
    assert charts.last_figures(lines) == "reward nan · KL to the start 0.1"


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ({"policy": 0.1, "likelihood": 1.0}, "rl"),
        ({"pairwise": 0.7}, "reward"),
        ({"likelihood": 2.0}, "sft"),
        ({}, None),
    ],
)
def test_the_stage_is_told_by_what_it_minimises(line: dict[str, float], stage: str | None) -> None:
    assert runs.stage_of([line]) == stage


def test_votes_that_were_all_foreseen_do_not_make_certain() -> None:
    figure = comparing._share([True] * 5, list("abcde"))
    assert figure.value == 1.0 and figure.low is not None and 0.5 < figure.low < 0.6  # Wilson: 1 / (1 + 1.96^2 / 5)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"), (1240, "1,240"), (30.38, "30.4"), (1.118, "1.12"), (-0.0614, "−0.061"), (0.0, "0.00"),
        (1234.5, "1,234"), (float("nan"), "not a number"), (float("inf"), "not a number"), ("so", "so"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(value: object, said: str) -> None:
    assert words.number(value) == said


def test_intervals_and_times_in_words() -> None:
    assert words.interval(Figure(0.41, 0.32, 0.5)) == "0.41 (0.32 to 0.50)"
    assert (words.interval(Figure(0.41)), words.interval(None)) == ("0.41", "–")
    assert words.when("2024-11-23T09:14:05.000+00:00") == "23 Nov 2024, 09:14 UTC"
    assert (words.count(1, "vote"), words.count(1240, "vote")) == ("1 vote", "1,240 votes")
    assert words.ruled("loss: 1, needed 2: yes") == "Loss: 1, needed 2"
    assert words.ruled("loss: 1, needed 2: no, it is not") == "Loss: 1, needed 2: no, it is not"


PAIRS = (
    ("ink", "paper", 7), ("ink", "card", 7), ("soft", "paper", 4.5), ("soft", "card", 4.5), ("accent", "paper", 4.5),
    ("accent", "card", 4.5), ("accent", "accent-wash", 4.5), ("accent-ink", "accent", 4.5), ("ink", "accent-wash", 7),
    ("ink", "bad-wash", 7), ("bad", "bad-wash", 4.5), ("bad", "card", 4.5), ("edge", "card", 3), ("edge", "paper", 3),
)  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (WEB / "static" / "burnish.css").read_text(), re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[scheme]))

    def light(name: str) -> float:
        parts = [int(colours[name][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for front, behind, least in PAIRS:
        low, high = sorted((light(front), light(behind)))
        assert (high + 0.05) / (low + 0.05) >= least, (front, behind)
