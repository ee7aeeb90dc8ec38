"""The pages in a real browser, in front of a real server and store."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_the_chat_streams_an_answer_with_its_version(page) -> None:
    page.goto("/chat")
    page.get_by_label("Your message").fill("my kettle is cracked")
    page.keyboard.press("Enter")
    answer = page.locator(".turn.model")
    answer.locator("footer").wait_for()
    assert answer.locator("p.said").inner_text().startswith("I am sorry. Please reply")
    assert answer.locator(".version").inner_text() == "support@2"
