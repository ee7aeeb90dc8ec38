"""Criteria on the pages: asked for beside the better answer, and shown with what their weights bring."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from burnish import feedback
from burnish.records import Record
from burnish.store import RunLog
from burnish.web import criteria
from web.desk import PROJECT, RECIPE, Desk

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from starlette.testclient import TestClient

ASKED = ("solves it", "house style")


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """The desk, its recipe asking about two criteria."""
    asked = RECIPE.feedback.model_copy(update={"criteria": ASKED})
    return replace(desk, recipe=RECIPE.model_copy(update={"feedback": asked}))


@pytest.fixture
def begun(page: Page) -> Iterator[Page]:
    page.goto("/compare")
    page.get_by_role("button", name="Start").press("Enter")
    page.get_by_label("Name").fill("ana")
    page.keyboard.press("Enter")
    page.locator("#asked p").first.wait_for()
    yield page


def cast(desk: Desk) -> list:
    return feedback.votes(desk.store, "support", sources=["human"])


@pytest.mark.browser
def test_criteria_are_chosen_by_keys_and_sent_with_the_vote(begun: Page, desk: Desk) -> None:
    if os.environ.get("BURNISH_SHOTS"):
        begun.keyboard.press("3")
        begun.screenshot(path=f"{os.environ['BURNISH_SHOTS']}/compare.png", full_page=True)
        begun.keyboard.press("3"), begun.keyboard.press("3"), begun.keyboard.press("3")
    for key in "344":  # first by the first criterion, second by the second
        begun.keyboard.press(key)
    begun.keyboard.press("2")
    begun.get_by_text("Thank you, 1 of 24.").wait_for()
    (vote,) = cast(desk)
    other = "b" if vote.left == "a" else "a"
    assert (vote.choice, dict(vote.criteria)) == (other, {"solves it": vote.left, "house style": other})
    begun.keyboard.press("1")  # nothing is carried over to the next pair
    begun.get_by_text("Thank you, 2 of 24.").wait_for()
    assert dict(cast(desk)[1].criteria) == {}


@pytest.mark.browser
def test_a_criterion_is_clicked_and_taken_back(begun: Page, desk: Desk) -> None:
    style = begun.get_by_role("group", name="house style")
    style.get_by_role("button", name="Second").click()
    assert style.get_by_role("button", name="Second").get_attribute("aria-pressed") == "true"
    style.get_by_role("button", name="Second").click()
    begun.get_by_role("group", name="solves it").get_by_role("button", name="Second").click()
    begun.keyboard.press("0")
    begun.get_by_text("Thank you, 1 of 24.").wait_for()
    (vote,) = cast(desk)
    assert (vote.choice, dict(vote.criteria)) == ("tie", {"solves it": "b" if vote.left == "a" else "a"})


def test_the_http_route_takes_criteria_of_the_recipe_alone(client: TestClient, desk: Desk) -> None:
    item = client.post("/pages-api/compare/next", json={"rater": "ana"}).json()["item"]
    vote = {"kind": "compare", "comparison": item["comparison"], "choice": "left", "rater": "ana", "key": "k"}
    refused = client.post("/v1/feedback", json={**vote, "criteria": {"tone": "left"}})
    assert refused.status_code == 400 and 'nobody was asked about "tone"' in refused.json()["error"]["message"]
    unknown = client.post("/v1/feedback", json={**vote, "criteria": {"solves it": "best"}})
    assert unknown.status_code == 400
    assert client.post("/v1/feedback", json={**vote, "criteria": {"solves it": "tie"}}).status_code == 200
    assert [dict(said.criteria) for said in cast(desk)] == [{"solves it": "tie"}]


SHARES = ({"solves it": 1.0, "house style": 0.0}, {"solves it": 0.5, "house style": 1.0}, {"solves it": 1.0})
MARGINS = ({"solves it": 2.0, "house style": -1.5}, {"solves it": -0.5, "house style": 1.0})


def judged_reward(desk: Desk, **weights: float) -> Record:
    """A reward model with two heads and a third that could not be learned, and a version trained with it."""
    said = {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}, "calibration_error": 0.08, "centre": 0.0}
    body = {
        **said,
        "settings": {},
        "predictions": {},
        "criteria": {"house style": said, "solves it": said},
        "left_out": {"<b>tone</b>": "nobody voted on it"},
        "held_out": [{"prompt": f"p{n}", "margins": MARGINS[n % 2], "shares": SHARES[n % 3]} for n in range(24)],
    }
    record = desk.record("reward", "reward-by-criterion", body, (desk.made["sft"],))
    RunLog(desk.store.path / "runs" / record.key[:16]).log(0, loss=0.69)
    settings = {"criteria": {"value": weights, "why": "recipe"}}
    for number, gained in enumerate(({"house style": 0.5, "solves it": 0.1}, {"house style": 0.2, "solves it": -0.1})):
        before = {f"dev_reward/learned/{name}": 0.25 for name in gained}
        after = {f"dev_reward/learned/{name}": 0.25 + gain for name, gain in gained.items()}
        figures = {"updates": 4, "stopped": None, "before": before, "after": after}
        work = desk.work("version", "rl", (desk.made["sft"], record), number=number)
        rl = desk.store.once(work, lambda f=figures: {**desk.body, "stage": "rl", "settings": settings, "figures": f})
        RunLog(desk.store.path / "runs" / rl.key[:16]).log(0, loss=0.1)
    return record


def test_the_page_of_a_reward_shows_its_heads_and_the_front(client: TestClient, desk: Desk) -> None:
    record = judged_reward(desk, **{"solves it": 0.7, "house style": 0.3})
    page = client.get(f"/runs/{record.id}").text
    assert "The front between criteria" in page and "Versions trained with it" in page
    assert "&lt;b&gt;tone&lt;/b&gt; has no head: nobody voted on it." in page
    assert page.count('class="dot') == 11 and "solves it 0.7, house style 0.3" in page
    rl = next(v for v in desk.store.records(PROJECT, "version") if record.id in v.parents)
    assert "solves it 0.7, house style 0.3 (recipe)" in client.get(f"/runs/{rl.name}").text


def test_versions_are_compared_by_what_they_gained(desk: Desk) -> None:
    record = judged_reward(desk, **{"solves it": 0.7, "house style": 0.3})
    found = criteria.of_reward(desk.store, PROJECT, record, desk.recipe)
    assert found is not None
    assert [(row["gains"], row["dominated"]) for row in found["versions"]] == [
        (["+0.50", "+0.10"], False),
        (["+0.20", "-0.10"], True),
    ]


def test_the_weights_of_the_recipe_are_marked(desk: Desk) -> None:
    weighed = RECIPE.reward.model_copy(update={"criteria": {"solves it": 0.7, "house style": 0.3}})
    found = criteria.of_reward(desk.store, PROJECT, judged_reward(desk), RECIPE.model_copy(update={"reward": weighed}))
    assert found is not None
    assert [row["weights"] for row in found["front"] if row["mark"]] == ["solves it 0.7, house style 0.3"]
    assert sum(dot["now"] for chart in found["charts"] for dot in chart["dots"]) == 1


def test_a_reward_without_criteria_has_no_such_part(client: TestClient, desk: Desk) -> None:
    page = client.get(f"/runs/{desk.made['reward'].id}").text
    assert "By criterion" not in page and "The front" not in page


@pytest.mark.browser
def test_the_front_is_drawn(page: Page, desk: Desk) -> None:
    record = judged_reward(desk, **{"solves it": 0.7, "house style": 0.3})
    page.goto(f"/runs/{record.id}")
    assert page.locator("svg.front circle").count() == 11
    box = page.locator("svg.front").bounding_box()
    assert box is not None and box["width"] > 200
    if os.environ.get("BURNISH_SHOTS"):
        page.screenshot(path=f"{os.environ['BURNISH_SHOTS']}/front.png", full_page=True)
