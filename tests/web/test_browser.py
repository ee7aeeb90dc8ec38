"""The pages in a real browser, in front of a real server, store and (tiny) model."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from burnish import feedback
from burnish.records import Message, Row
from burnish.store import RunLog

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from web.desk import Desk

pytestmark = pytest.mark.browser
EVIL = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> {{ 7*7 }} {% raw %} </p></template> &amp; \"'>"
)


def ask(page: Page, text: str = "my kettle is cracked") -> Locator:
    """Send a message on the chat page; returns the whole answer."""
    page.goto("/chat")
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    answer = page.locator(".turn.model").last
    answer.locator("footer").wait_for()
    return answer


def vote_as(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Enter")


def begin(page: Page, name: str = "ana") -> None:
    """Start comparing from the keyboard."""
    page.goto("/compare")
    page.get_by_role("button", name="Start").press("Enter")
    vote_as(page, name)
    page.locator("#asked p").first.wait_for()


def human(desk: Desk, **kinds: object) -> list:
    return feedback.votes(desk.store, "support", sources=["human"], **kinds)  # type: ignore[arg-type]


def test_the_chat_streams_an_answer_with_its_version(page: Page) -> None:
    answer = ask(page)
    assert answer.locator("p.said").inner_text().startswith("I am sorry. Please reply with a photo.")
    assert answer.locator(".version").inner_text() == "support@2"
    assert page.get_by_label("Your message").input_value() == ""


def test_evil_text_in_question_and_answer_stays_text(page: Page) -> None:
    answer = ask(page, EVIL)
    assert EVIL in answer.locator("p.said").inner_text()
    assert page.locator(".turn.person p.said").inner_text() == EVIL
    assert page.locator(".thread img, .thread script").count() == 0


def test_a_thumb_is_stored_and_taken_back(page: Page, desk: Desk) -> None:
    answer = ask(page)
    answer.get_by_role("button", name="Not helpful").click()
    vote_as(page, "<b>ana</b>")
    answer.get_by_text("Stored.").wait_for()
    assert page.locator("#rater-name").inner_text() == "<b>ana</b>"
    (vote,) = human(desk, kinds=["thumb"])
    assert (vote.value, desk.store.record(vote.version).name) == (-1.0, "support@2")
    assert desk.store.exchanges.get(vote.exchange).answer == answer.locator("p.said").inner_text()
    answer.get_by_role("button", name="Undo").click()
    answer.get_by_text("Taken back.").wait_for()
    assert answer.get_by_role("button", name="Not helpful").get_attribute("aria-pressed") == "false"
    assert not human(desk)


def test_a_correction_is_stored_as_it_was_typed(page: Page, desk: Desk) -> None:
    answer = ask(page)
    answer.get_by_role("button", name="Correct it").click()
    field = answer.get_by_label("The answer as it should have been")
    answer.get_by_role("button", name="Store the correction").click()
    answer.get_by_text("Change the text first.").wait_for()
    field.fill(f"Better: {EVIL}")
    answer.get_by_role("button", name="Store the correction").click()
    vote_as(page, "ana")
    answer.get_by_text("Correction stored.").wait_for()
    (vote,) = human(desk, kinds=["edit"])
    assert vote.text == f"Better: {EVIL}"


def test_a_vote_whose_reply_was_lost_is_counted_once(page: Page, desk: Desk) -> None:
    answer = ask(page)
    lost: list[str] = []

    def lose(route) -> None:  # type: ignore[no-untyped-def]
        route.fetch()
        lost.append(json.loads(route.request.post_data)["key"])
        route.abort()

    page.route("**/v1/feedback", lose, times=1)
    answer.get_by_role("button", name="Helpful", exact=True).click()
    vote_as(page, "ana")
    answer.get_by_text("Not stored").wait_for()
    answer.get_by_role("button", name="Helpful", exact=True).click()
    answer.get_by_text("Stored.", exact=True).wait_for()
    assert [vote.key for vote in human(desk)] == lost


def test_votes_by_keyboard_alone(page: Page, desk: Desk) -> None:
    begin(page)
    for key, said in (("1", "Thank you, 1 of 24."), ("0", "Thank you, 2 of 24."), ("2", "Thank you, 3 of 24.")):
        page.keyboard.press(key)
        page.get_by_text(said).wait_for()
    cast = human(desk)
    assert [{"a": "left", "b": "right"}.get(v.choice, "tie") == "tie" for v in cast] == [False, True, False]
    assert cast[0].choice == cast[0].left and cast[2].choice != cast[2].left
    page.keyboard.press("u")
    page.get_by_text("Your last vote is taken back.").wait_for()
    assert len(human(desk)) == 2
    first = page.locator("#asked").inner_text()
    page.keyboard.press("s")
    page.get_by_text("Skipped.").wait_for()
    assert page.locator("#asked").inner_text() != first
    assert len(human(desk)) == 2


def test_the_side_that_was_clicked_is_the_answer_that_wins(page: Page, desk: Desk) -> None:
    begin(page)
    right = page.locator("#right").inner_text()
    page.get_by_role("button", name="Second").click()
    page.get_by_text("Thank you, 1 of 24.").wait_for()
    (vote,) = human(desk)
    winner = vote.exchange if vote.choice == "a" else vote.other
    assert desk.store.exchanges.get(winner).answer == right


def test_another_rater_gets_a_draw_of_their_own(page: Page, desk: Desk) -> None:
    """The sides are drawn for each rater: who changes the name must see the pair again before voting."""
    begin(page)
    page.get_by_role("button", name="Change").click()
    with page.expect_response("**/compare/next"):
        vote_as(page, "ben")
    page.locator("#asked:focus").wait_for()
    left = page.locator("#left").inner_text()
    page.keyboard.press("1")
    page.get_by_text("Thank you, 1 of 24.").wait_for()
    (vote,) = human(desk)
    assert desk.store.exchanges.get(vote.exchange if vote.choice == "a" else vote.other).answer == left
    assert feedback.raters(desk.store, "support")[vote.rater].name == "ben"


SAID = "Größe 😀: it costs 5 euros, e\u0301 voilà. <b>Bye</b>"


def begin_marking(page: Page, desk: Desk) -> str:
    """Put an answer with difficult characters before the rater; returns its id."""
    row = Row((Message("user", "What is it?"),), None, 1)
    desk.pairs(desk.made["rl"], [(row, SAID, f"Not so: {SAID}")], "marked")
    for vote in feedback.comparisons(desk.store, "support"):  # those of other campaigns are marked already
        if vote.campaign != "marked":
            rater = feedback.ensure_rater(desk.store, "support", "ana")
            for id in (vote.a, vote.b):
                feedback.record_vote(desk.store, "support", rater, "span", key=f"old-{id}", exchange=id, marks=[])
    page.goto("/mark")
    page.get_by_role("button", name="Start").press("Enter")
    vote_as(page, "ana")
    page.locator("#asked p").first.wait_for()
    return "marked-0a" if page.locator("#answer").inner_text() == SAID else "marked-0b"


def fresh_marks(desk: Desk) -> list[tuple[str, list[tuple[str, str]]]]:
    """The marks of answers in the test's own campaign, as their type and the text that they lie on."""
    cast = [vote for vote in human(desk, kinds=["span"]) if vote.exchange.startswith("marked")]
    texts = desk.store.exchanges.many([vote.exchange for vote in cast])
    return [
        (vote.exchange, [(m.kind, texts[vote.exchange].answer[m.start : m.stop]) for m in vote.marks]) for vote in cast
    ]


def drag(page: Page, piece: str) -> None:
    """Select a piece of the answer, as a mouse would."""
    page.evaluate(
        """(piece) => {
          const walker = document.createTreeWalker(document.getElementById("answer"), NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const at = node.data.indexOf(piece);
            if (at >= 0) getSelection().setBaseAndExtent(node, at, node, at + piece.length);
          }
        }""",
        piece,
    )


def test_a_selected_piece_is_marked_stored_and_taken_back(page: Page, desk: Desk) -> None:
    id = begin_marking(page, desk)
    page.get_by_role("button", name="invented").click()
    page.get_by_text("Select a piece of the answer first.").wait_for()
    drag(page, " 5 euros,")
    page.get_by_role("button", name="invented").click()
    drag(page, "😀")
    page.keyboard.press("2")
    drag(page, "<b>Bye</b>")
    page.keyboard.press("2")
    drag(page, "costs")
    page.keyboard.press("1")
    assert page.locator("#answer").inner_text().endswith(SAID)
    assert page.locator("#answer mark").all_inner_texts() == ["😀", "costs", "5 euros,", "<b>Bye</b>"]
    drag(page, "euros")
    page.keyboard.press("1")
    page.get_by_text("marked as invented already").wait_for()
    page.get_by_role("button", name="Remove invented: costs").click()
    page.get_by_role("button", name="Store: 3 errors").click()
    page.get_by_text("Stored. Thank you.").wait_for()
    assert fresh_marks(desk) == [(id, [("rude", "😀"), ("invented", "5 euros,"), ("rude", "<b>Bye</b>")])]
    page.get_by_role("button", name="Undo my last vote").click()
    page.get_by_text("Your last vote is taken back.").wait_for()
    assert fresh_marks(desk) == []


def test_marking_by_keyboard_alone(page: Page, desk: Desk) -> None:
    first = begin_marking(page, desk)
    text = page.locator("#answer").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("1")
    page.get_by_text("Marked as invented.").wait_for()
    page.keyboard.press("a")
    page.keyboard.press("2")
    page.get_by_text("Marked as rude.").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("Stored. Thank you.").wait_for()
    words = text.split()
    assert fresh_marks(desk) == [(first, [("rude", text), ("invented", f"{words[1]} {words[2]}")])]
    page.keyboard.press("Enter")
    page.get_by_text("You have marked every answer there is.").wait_for()
    assert [marks for _, marks in fresh_marks(desk)][1] == []


def test_the_comparison_is_blind_and_its_text_inert(page: Page, desk: Desk) -> None:
    version = desk.made["rl"]
    for item in feedback.comparisons(desk.store, "support", "support-2"):
        rater = feedback.ensure_rater(desk.store, "support", "ana")
        feedback.record_vote(desk.store, "support", rater, "compare", key=item.id, comparison=item.id, choice="tie")
    desk.pairs(version, [(Row((Message("user", f"Q {EVIL}"),), None, 1), f"A {EVIL}", f"B {EVIL}")], "evil")
    replies: list[str] = []
    page.on("response", lambda r: replies.append(r.text()) if r.url.endswith("/compare/next") else None)
    begin(page, "eve {{ 7*7 }}")
    assert page.locator("#asked p").inner_text() == f"Q {EVIL}"
    assert {page.locator("#left").inner_text(), page.locator("#right").inner_text()} == {f"A {EVIL}", f"B {EVIL}"}
    assert page.locator("main img, main script").count() == 0
    shown = page.locator("main").inner_text() + "".join(replies)
    names = [v.name for v in desk.store.records("support", "version")] + [version.id, "evil-0a", "evil-0b"]
    assert replies and not [name for name in names if name in shown]


def test_charts_are_drawn_live_and_mark_what_is_not_finite(page: Page, desk: Desk) -> None:
    folder = desk.store.path / "runs" / "0123456789abcdef"
    log = RunLog(folder)
    for step in range(6):
        log.log(step, reward=float("nan") if step == 3 else 0.1 * step, kl=0.01 * step, policy=0.0)
    holder = {"pid": os.getpid(), "who": "burnish run", "since": "2024-01-01"}
    (desk.store.path / "run.holder").write_text(json.dumps(holder))
    page.goto("/runs/0123456789abcdef")
    reward = page.locator(".chart").filter(has=page.get_by_role("heading", name="Reward"))
    reward.locator("svg").wait_for()
    assert page.locator("#state").inner_text() == "Running: 6 updates so far"
    assert reward.locator(".gap").get_attribute("data-value") == "not a number"
    path = reward.locator("path.line").get_attribute("d") or ""
    assert path.count("M") == 2 and path.count("L") == 3  # steps 0 to 2, a gap, steps 4 and 5
    slider = page.get_by_role("slider", name="Reward by update")
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "update 0: 0"
    for _ in range(3):
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "update 3: not a number"
    kl = page.get_by_role("slider", name="KL to the start by update")
    assert kl.get_attribute("aria-valuetext") == "update 3: 0.03"  # the charts show one update together
    page.get_by_text("All figures as a table").click()
    assert page.locator("#figures tbody tr").nth(3).inner_text().split("\t") == ["3", "not a number", "0.03", "0"]
    log.log(6, reward=0.7, kl=0.05, policy=0.0, samples=["rollout-0-0"])
    page.get_by_text("Running: 7 updates so far").wait_for()
    assert page.locator("#figures tbody tr").count() == 7
    said = desk.store.exchanges.get("rollout-0-0")
    assert page.locator("#samples [data-answer]").inner_text() == said.answer
    (desk.store.path / "run.holder").unlink()
    page.get_by_text("Not finished after 7 updates").wait_for()


def test_gain_over_distance_is_drawn_for_both_reward_models(page: Page, desk: Desk) -> None:
    page.goto(f"/runs/{desk.made['rl'].key[:16]}")
    chart = page.locator("#over .chart")
    chart.locator(".plot svg").wait_for()
    lines = chart.locator("g[data-name]")
    assert [lines.nth(i).get_attribute("data-name") for i in (0, 1)] == ["reward paid", "second reward model"]
    assert chart.locator(".whisker").count() == chart.locator(".plot .point").count() == 16  # eight looks each
    told = chart.locator(".plot").get_attribute("aria-label") or ""
    assert "reward paid: 0 at KL 0, 0.12 at KL 0.008" in told and "second reward model: 0 at KL 0" in told


def test_answers_to_the_same_prompts_stand_side_by_side(page: Page, desk: Desk) -> None:
    page.goto(f"/runs/{desk.made['rl'].key[:16]}")
    rows = page.locator("#side-by-side tbody tr")
    rows.first.wait_for()
    said = {step: [desk.store.exchanges.get(f"dev-{step}-{n}").answer for n in (0, 1)] for step in (0, 6, 14)}

    def shown(column: int) -> list[str]:
        return [rows.nth(n).locator("td").nth(column).inner_text() for n in (0, 1)]

    assert (shown(1), shown(2)) == (said[0], said[14])  # the first and the newest
    page.get_by_label("and after").select_option("6")
    assert (shown(1), shown(2)) == (said[0], said[6])
    assert page.locator("#side-by-side th").all_inner_texts()[1:] == ["After 0 updates", "After 6 updates"]
    page.set_viewport_size({"width": 390, "height": 800})  # one below the other, each with its head
    cells = rows.first.locator("td")
    boxes = [cells.nth(n).bounding_box() or {} for n in range(3)]
    assert min(box["width"] for box in boxes) > 300 and boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
    assert [cells.nth(n).get_attribute("data-after") for n in (1, 2)] == ["After 0 updates", "After 6 updates"]


def test_a_run_without_looks_has_no_gain_over_distance(page: Page, desk: Desk) -> None:
    page.goto(f"/runs/{desk.made['sft'].key[:16]}")
    page.locator("#charts svg").first.wait_for()
    assert page.locator("#over-part").is_hidden()


def log_run(desk: Desk, version: str | None, losses: list[float], **settings: object) -> str:
    """A run with these losses, and the version that it made; returns the key of its folder."""
    work = desk.work("version", "sft", (), **settings)
    log = RunLog(desk.store.work_folder(work))
    for step, loss in enumerate(losses):
        log.log(step, loss=loss, learning_rate=1e-3)
    if version is not None:
        assert desk.store.once(work, lambda: {**desk.made["sft"].body}).name == version
    return work.key[:16]


def lines_of(page: Page, title: str, count: int) -> dict[str, str]:
    """The drawn lines of a chart, of which so many are to come: by name, each line's path."""
    chart = page.locator(".chart").filter(has=page.get_by_role("heading", name=title, exact=True))
    chart.locator("svg path.line").nth(count - 1).wait_for(state="attached")  # a flat line has no height: not "visible"
    script = "gs => Object.fromEntries(gs.map(g => [g.dataset.name, g.querySelector('.line').getAttribute('d')]))"
    return chart.locator(".plot g[data-name]").evaluate_all(script)


def test_runs_are_drawn_on_the_same_updates_and_told_apart(page: Page, desk: Desk) -> None:
    from playwright.sync_api import expect

    first = log_run(desk, "support@3", [3.0, 2.0, float("nan"), 1.0], n=1)
    for step in range(4):  # one figure that the longer run does not log
        RunLog(desk.store.path / "runs" / first).log(step, gradient_norm=1.0)
    log_run(desk, "support@4", [4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5], n=2)
    log_run(desk, "support@5", [2.0, 2.0], n=3)
    page.goto(f"/runs/{first}?with=support@4&with=nothing<b>")
    assert page.get_by_text("There is no run nothing<b> to draw beside this one.").count() == 1
    drawn = lines_of(page, "Loss", 2)
    assert sorted(drawn) == ["support@3", "support@4"]
    assert drawn["support@3"].count("M") == 2  # a gap where the loss was not a number, beside another run too
    places = {name: re.findall(r"[ML]([\d.]+)", path) for name, path in drawn.items()}
    assert len(places["support@4"]) == 7 and places["support@3"] == [places["support@4"][step] for step in (0, 1, 3)]
    alone = lines_of(page, "Gradient norm", 1)["support@3"]  # its chart has the updates of all the same
    assert re.findall(r"[ML]([\d.]+)", alone) == places["support@4"][:4]
    loss = page.get_by_role("slider", name="Loss by update")
    loss.press("Home")
    loss.press("ArrowRight")
    loss.press("ArrowRight")
    assert loss.get_attribute("aria-valuetext") == "update 2: support@3 not a number, support@4 2.5"
    legend = page.locator(".chart").filter(has=page.get_by_role("heading", name="Loss", exact=True)).locator(".legend")
    assert legend.inner_text().split() == "support@3 not a number support@4 2.5".split()
    dashes = page.locator(".plot g[data-name] .line").evaluate_all(
        "es => es.map(e => getComputedStyle(e).strokeDasharray)"
    )
    assert len(set(dashes)) == 2  # not by colour alone
    page.get_by_label("support@5").focus()
    page.keyboard.press("Space")
    expect(page.locator(".chart").first.locator("g[data-name]")).to_have_count(3)
    assert page.url.endswith("?with=support%405&with=support%404")
    page.get_by_text("All figures as a table").click()
    expect(page.locator("#figures tbody tr")).to_have_count(13)
    assert page.locator("#figures tbody tr").nth(2).inner_text().split("\t")[:3] == ["support@3", "2", "not a number"]
    page.get_by_label("support@4").uncheck()
    page.get_by_label("support@5").uncheck()
    expect(page.locator(".chart").first.locator("g[data-name]")).to_have_count(1)
    assert page.url.endswith(first)


def test_an_update_that_was_logged_again_is_drawn_once(page: Page, desk: Desk) -> None:
    from playwright.sync_api import expect

    key = log_run(desk, None, [3.0, 2.0, 9.0], n=1)
    log = RunLog(desk.store.path / "runs" / key)
    log.log(2, loss=1.5, learning_rate=1e-3)
    log.log(3, held_out=1.25)
    page.goto(f"/runs/{key}")
    ((_, path),) = lines_of(page, "Loss", 1).items()
    assert path.count("L") == 2 and page.locator("#state").inner_text().startswith("Not finished after 3 updates")
    page.get_by_text("All figures as a table").click()
    expect(page.locator("#figures tbody tr td:first-child")).to_have_text(["0", "1", "2", "3"])
    held = page.get_by_role("slider", name="Held-out figure by update")
    assert held.get_attribute("aria-valuetext") == "update 3: 1.25"
    assert page.get_by_role("slider", name="Loss by update").get_attribute("aria-valuetext") == "update 2: 1.5"


def test_evil_names_of_runs_and_figures_stay_text(page: Page, desk: Desk) -> None:
    evil = EVIL.replace("/", "|")
    key = log_run(desk, None, [1.0, 2.0], n=1)
    RunLog(desk.store.path / "runs" / key).log(2, **{evil: 1.0, "loss": 1.0})
    page.goto(f"/runs/{key}?with=support@1&with={quote(EVIL)}")
    page.get_by_role("heading", name=evil[:7]).wait_for()
    assert page.get_by_text(f"There is no run {EVIL} to draw", exact=False).count() == 1
    page.get_by_text("All figures as a table").click()
    page.get_by_role("columnheader", name="window.hacked").wait_for()
    assert page.locator("main img, main script").count() == 0


def test_more_runs_than_can_be_told_apart_are_not_drawn(page: Page, desk: Desk) -> None:
    keys = [log_run(desk, f"support@{3 + n}", [1.0, 2.0], n=n) for n in range(5)]
    beside = "&".join(f"with={key}" for key in keys[1:])
    page.goto(f"/runs/{keys[0]}?{beside}&with=support@1")
    page.get_by_text("Six runs are as many as can be told apart").wait_for()
    box = page.get_by_label("support@2")
    assert box.is_disabled()
    page.get_by_label("support@7").uncheck()
    assert box.is_enabled() and page.locator("#full").is_hidden()


def test_promotion_is_asked_once_more_and_a_refusal_said(page: Page, desk: Desk) -> None:
    page.goto("/versions/support@0")
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("button", name="No").click()
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("button", name="Yes").click()
    page.get_by_role("alert").wait_for()
    assert "there is no verdict on it" in page.get_by_role("alert").inner_text()
    page.goto("/versions/support@2")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Yes").click()
    page.get_by_text("served before").wait_for()
    page.goto("/")
    assert page.get_by_role("heading", level=1).inner_text() == "support@1 answers now"


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_window(page: Page, desk: Desk, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    run = desk.made["rl"].key[:16]
    beside = f"/runs/{run}?with=support@1&with={desk.made['reward'].id}"
    for path in (
        "/",
        "/chat",
        "/compare",
        "/mark",
        "/runs",
        f"/runs/{run}",
        beside,
        "/versions",
        "/versions/support@2",
        "/versions/no",
    ):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, path
        assert page.locator("h1").count() == 1


ACTS = (
    "[...document.querySelectorAll('a, button, input, textarea, summary')]"
    ".filter(e => e.checkVisibility() && !e.disabled)"
)
FOCUSED = """() => {
  const e = document.activeElement;
  const name = e.ariaLabel ?? e.labels?.[0]?.innerText ?? e.innerText;
  return e === document.body ? null : { name: name.trim(), at: [...document.querySelectorAll("*")].indexOf(e) };
}"""


@pytest.mark.parametrize("path", ["/", "/chat", "/compare", "/mark", "/versions/support@2", "/runs/support@2"])
def test_everything_that_acts_is_named_and_reached_by_tab(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")  # what a script adds is there
    page.evaluate("document.activeElement.blur()")
    wanted = set(page.evaluate(f"{ACTS}.map(e => [...document.querySelectorAll('*')].indexOf(e))"))
    reached = set()
    for _ in range(len(wanted) + page.locator("[tabindex='0']").count() + 10):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found is not None:
            assert found["name"], found
            reached.add(found["at"])
    assert wanted <= reached
