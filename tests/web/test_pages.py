"""What the pages say, as HTML and as JSON, over the real app."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from burnish import feedback
from burnish.monitoring.runs import all_runs, at_work
from burnish.records import Message, Row
from burnish.store import RunLog
from burnish.web import circle, comparing, runs, versions
from web.desk import PROJECT, RECIPE, Desk, empty, waiting, went_round

if TYPE_CHECKING:
    from starlette.testclient import TestClient

WEB = Path(__file__).parents[2] / "src" / "burnish" / "web"
SIMULATED = "Simulated raters: this shows that the machinery follows stated preferences, not that people will like it."
PATHS = ("/", "/chat", "/compare", "/mark", "/runs", "/versions")
HUMAN = RECIPE.model_copy(
    update={"feedback": RECIPE.feedback.model_copy(update={"sources": ("human",), "simulate": None})}
)


def serve(desk: Desk) -> Iterator[TestClient]:
    from web.conftest import client_of

    with client_of(desk) as client:
        yield client
    desk.store.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[TestClient]:
    """The app over a store in which nothing has happened."""
    yield from serve(empty(tmp_path))


class Outline(HTMLParser):
    """The text, the tags with their attributes, and what is inline."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(client: TestClient, path: str, status: int = 200) -> Outline:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Outline(answer.text)


def everything(desk: Desk) -> list[str]:
    run = desk.made["rl"].key[:16]
    return [*PATHS, f"/runs/{run}", "/versions/support@2", "/versions/support@0", "/versions/none", "/runs/none"]


def test_no_page_holds_what_the_policy_forbids_or_what_comes_from_elsewhere(client: TestClient, desk: Desk) -> None:
    for path in everything(desk):
        page = read(client, path, 404 if path.endswith("none") else 200)
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name == "style" or name.startswith("on")], (path, tag)
            assert tag != "style" and (tag != "script" or attributes["src"].startswith("/static/")), (path, tag)
            for name in ("src", "href", "action"):
                target = attributes.get(name)
                assert target is None or (target.startswith(("/", "#")) and not target.startswith("//")), (path, target)
    for file in (WEB / "static").iterdir():
        found = re.findall(
            r"(?:https?:)?//[a-z][^\s\"')]*|@import|url\(|innerHTML|eval\(|document\.write", file.read_text()
        )
        assert not [text for text in found if "www.w3.org" not in text and not text.startswith("//")], file
        assert "innerHTML" not in found and "insertAdjacentHTML" not in file.read_text()


def test_every_link_of_every_page_leads_somewhere(client: TestClient, desk: Desk) -> None:
    links = {
        attributes["href"]
        for path in everything(desk)
        for tag, attributes in read(client, path, 404 if path.endswith("none") else 200).tags
        if tag in ("a", "link") and attributes.get("href") and not attributes["href"].startswith("#")
    }
    assert len(links) > 10
    for link in sorted(links):
        assert client.get(link).status_code == 200, link


def test_the_home_page_says_what_serves_and_why(client: TestClient) -> None:
    text = read(client, "/").text
    assert "support@2 answers now" in text
    assert re.search(r"raters preferred its answers to support@1's \d\d% of the time \(between \d\d% and \d\d%\)", text)
    assert "Its gate asked 5 questions" in text
    assert re.search(r"yes Win rate against support@1: 0\.\d\d \[0\.\d\d, 0\.\d\d\], needed at least 0\.5", text)
    assert "The next turn starts after 20 new votes: 0 so far." in text


def test_votes_of_people_and_simulated_ones_stay_apart(client: TestClient, desk: Desk) -> None:
    text = read(client, "/").text
    assert "by people 0 simulated 168" in text and SIMULATED in text
    desk.person("ana", ["left", "tie"])
    assert "by people 2 simulated 168" in read(client, "/").text


def test_without_simulated_votes_nothing_is_said_about_them(bare: TestClient) -> None:
    text = read(bare, "/").text
    assert "imulated" not in text
    assert "No version is in production yet" in text and "Nothing has been evaluated yet" in text
    for path in PATHS:
        read(bare, path)


def test_the_quality_table_holds_each_contender_with_its_interval(client: TestClient, desk: Desk) -> None:
    text = read(client, "/").text
    figures = desk.made["evaluation"].body["figures"]
    for label, name in (("Base", "base"), ("Prompt only", "prompt_only"), ("SFT", "start"), ("RL", "rl")):
        loss = figures[name]["loss"]
        said = f"{loss['value']:.2f} {loss['low']:.2f} to {loss['high']:.2f}"
        assert re.search(rf"{label} support@\d.*?{re.escape(said)}", text), said


def test_a_turn_that_waits_for_people_says_for_how_many(tmp_path: Path) -> None:
    desk = waiting(tmp_path, 37)
    steps = {step.title: step for step in circle.circle(desk.store, PROJECT, HUMAN).steps}
    assert [step.state for step in steps.values()] == ["done", "done", "waiting", *["ahead"] * 5]
    assert (steps["Votes"].words, steps["Votes"].href) == ("waiting for feedback: 37 of 200", "/compare")
    (desk.store.path / "run.holder").write_text(json.dumps({"pid": os.getpid()}))
    assert circle.circle(desk.store, PROJECT, HUMAN).steps[2].state == "running"
    snapshot = feedback.snapshot(desk.store, PROJECT, (desk.made["sft"],), 0, ["human"])
    steps = {step.title: step for step in circle.circle(desk.store, PROJECT, HUMAN).steps}
    assert (steps["Votes"].words, steps["Reward"].state) == ("37 votes", "running")
    desk.record("reward", "reward", {"accuracy": None, "settings": {}}, (snapshot,))
    steps = {step.title: step for step in circle.circle(desk.store, PROJECT, HUMAN).steps}
    assert (steps["Reward"].words, steps["RL"].state) == ("trained", "running")
    desk.store.close()


def test_a_recipe_without_rl_has_five_stages(tmp_path: Path) -> None:
    desk = waiting(tmp_path, 3)
    plain = HUMAN.model_copy(update={"rl": None, "reward": None})
    found = circle.circle(desk.store, PROJECT, plain)
    assert [(step.title, step.state) for step in found.steps][:2] == [("Data", "done"), ("SFT", "done")]
    assert [step.title for step in found.steps] == ["Data", "SFT", "Evaluation", "Gate", "Serving"]
    desk.store.close()


def test_a_refused_version_is_named_with_the_reason(tmp_path: Path) -> None:
    desk = went_round(tmp_path, refused=True)
    found = circle.circle(desk.store, PROJECT, RECIPE)
    assert [step.state for step in found.steps] == [*["done"] * 6, "refused", "ahead"]
    assert found.refusal is not None and found.refusal["name"] == "support@2"
    for client in serve(desk):
        text = read(client, "/").text
        assert "support@1 answers now" in text
        assert re.search(
            r"The gate said no to support@2 ?\. Win rate against support@1: .* its interval does not meet", text
        )
        page = read(client, "/versions/support@2").text
        assert "refused by its gate" in page and "no Win rate against support@1" in page


def test_a_dead_run_does_not_count_as_running(desk: Desk) -> None:
    holder = desk.store.path / "run.holder"
    assert not at_work(desk.store)
    for text, alive in (
        (json.dumps({"pid": os.getpid()}), True),
        ('{"pid": 4194999}', False),
        ("{", False),
        ("[]", False),
    ):
        holder.write_text(text)
        assert at_work(desk.store) is alive, text


def test_runs_are_listed_with_their_state(client: TestClient, desk: Desk) -> None:
    RunLog(desk.store.path / "runs" / "serving-support").log(0, event="error")
    RunLog(desk.store.path / "runs" / "00112233aabbccdd").log(0, pairwise=0.69)
    text = read(client, "/runs").text
    assert re.search(r"Reward model – unfinished 1 loss on comparisons 0.69", text)
    assert re.search(r"Reinforcement learning support@2 done 16 reward \S+ · KL to the start \S+ · length", text)
    assert "event" not in text and len(all_runs(desk.store, PROJECT)) == 4


def test_a_run_is_found_by_key_id_and_name_and_by_no_path(client: TestClient, desk: Desk) -> None:
    made = desk.made["rl"]
    for name in (made.key[:16], made.id, "support@2"):
        assert "Done after 16 updates" in read(client, f"/runs/{name}").text
    for name in ("..%2f..%2fruns", "%2e%2e%2f" + made.key[:16], made.key[:15], "serving-support", "*"):
        assert client.get(f"/runs/{name}").status_code == 404
        assert client.get(f"/pages-api/runs/{name}").status_code == 404


def test_metrics_come_from_a_line_on(client: TestClient, desk: Desk) -> None:
    key = desk.made["rl"].key[:16]
    whole = client.get(f"/pages-api/runs/{key}").json()
    assert len(whole["lines"]) == 16 and whole["finished"] and whole["state"] == "Done after 16 updates"
    titles = [panel["title"] for panel in whole["panels"]]
    assert titles[:3] == ["Held-out figure", "Reward", "Reward gained"] and "KL to the start" in titles
    assert len(whole["samples"]) == runs.SAMPLES
    said = desk.store.exchanges.get("rollout-14-1")
    assert whole["samples"][-1] == {"step": 14, "prompt": said.prompt[0].content, "answer": said.answer}
    rest = client.get(f"/pages-api/runs/{key}?after=14").json()
    assert [line["step"] for line in rest["lines"]] == [14, 15] and rest["panels"] == whole["panels"]
    assert client.get(f"/pages-api/runs/{key}?after=-1").status_code == 400
    assert client.get("/pages-api/runs/none").json()["error"]["message"] == "there is no run none"


def test_all_figures_of_a_run_are_a_file(client: TestClient, desk: Desk) -> None:
    key = desk.made["sft"].key[:16]
    logged = desk.store.metrics(desk.made["sft"])
    answer = client.get(f"/pages-api/runs/{key}/figures/jsonl")
    assert [json.loads(line) for line in answer.text.splitlines()] == logged
    answer = client.get(f"/pages-api/runs/{key}/figures/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{key}.csv"'
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [float(row["likelihood"]) for row in rows] == [line["likelihood"] for line in logged]
    for path, status in ((f"{key}/figures/xml", 400), ("none/figures/csv", 404), ("..%2f..%2fruns/figures/csv", 404)):
        assert client.get(f"/pages-api/runs/{path}").status_code == status
    assert client.get(f"/pages-api/runs/{key}/figures/csv", headers={"Authorization": ""}).status_code == 401


def test_another_project_of_the_store_stays_out(client: TestClient, desk: Desk) -> None:
    from burnish.store import Work

    work = Work("version", "sft", 1, {}, (), 0, "other")
    RunLog(desk.store.work_folder(work)).log(0, likelihood=2.0)
    other = desk.store.once(work, lambda: {**desk.made["sft"].body})
    assert client.get(f"/versions/{other.name}").status_code == client.get(f"/runs/{work.key[:16]}").status_code == 404
    assert len(all_runs(desk.store, PROJECT)) == 3 and "other" not in read(client, "/versions").text


def test_the_next_pair_is_blind_and_counts(client: TestClient, desk: Desk) -> None:
    first = client.post("/pages-api/compare/next", json={"rater": "ana"}).json()
    assert first.keys() == {"item", "done", "total", "foreseen"}
    assert first["item"].keys() == {"comparison", "prompt", "documents", "left", "right"}
    assert (first["done"], first["total"]) == (0, 24)
    vote = {"kind": "compare", "rater": "ana", "key": "k", "comparison": first["item"]["comparison"], "choice": "tie"}
    assert client.post("/v1/feedback", json=vote).status_code == 200
    after = client.post("/pages-api/compare/next", json={"rater": "ana"}).json()
    assert (after["done"], after["total"]) == (1, 24)
    assert after["item"]["comparison"] != first["item"]["comparison"]
    assert client.post("/pages-api/compare/next", json={"rater": "ben"}).json()["total"] == 23


def test_skipped_pairs_come_back_at_the_end(client: TestClient, desk: Desk) -> None:
    items = [item.id for item in feedback.comparisons(desk.store, PROJECT, "support-2")]

    def offered(skipped: list[str]) -> str:
        body = {"rater": "ana", "skipped": skipped}
        return client.post("/pages-api/compare/next", json=body).json()["item"]["comparison"]

    first = offered([])
    assert offered([first]) != first
    assert offered(items) == first  # all were skipped: nothing is lost


@pytest.mark.parametrize(
    "body", [{}, {"rater": 1}, {"rater": "ana", "more": 1}, {"rater": "ana", "skipped": "x"}, {"rater": "  "}, []]
)
def test_a_wrong_request_for_a_pair_is_refused_in_words(client: TestClient, body: object) -> None:
    answer = client.post("/pages-api/compare/next", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    form = client.post("/pages-api/compare/next", data={"rater": "ana"})
    assert form.status_code == 415


def foresee(desk: Desk, predictions: dict[str, float], choices: list[str]) -> str | None:
    desk.record("reward", "reward", {"predictions": predictions}, (desk.made["reward"],))
    desk.person("ana", choices)
    return comparing.foreseen(desk.store, PROJECT)


def test_what_the_reward_model_foresaw_is_counted_for_people_alone(desk: Desk) -> None:
    """Of the first six pairs a wins every prediction; ties and pairs without a prediction do not count."""
    items = [item.id for item in feedback.comparisons(desk.store, PROJECT, "support-2")]
    said = foresee(desk, dict.fromkeys(items[:6], 0.9), ["left"] * 5 + ["tie"] + ["left"] * 3)
    cast = feedback.votes(desk.store, PROJECT, sources=["human"])
    right = sum(vote.choice == "a" for vote in cast[:5])
    assert said is not None and f"foresaw {right} of 5 votes by people" in said
    simulated = {vote.comparison: 0.9 for vote in feedback.votes(desk.store, PROJECT, sources=["simulated"])}
    desk.record("reward", "again", {"predictions": simulated})
    assert f"{right} of 5" in (comparing.foreseen(desk.store, PROJECT) or "")


def test_too_few_votes_say_nothing_about_the_reward_model(desk: Desk) -> None:
    items = [item.id for item in feedback.comparisons(desk.store, PROJECT, "support-2")]
    assert foresee(desk, dict.fromkeys(items, 0.9), ["left"] * 4) is None


def test_the_versions_page_shows_states_and_the_log(client: TestClient) -> None:
    text = read(client, "/versions").text
    assert re.search(r"support@2 reinforcement learning in production Utility \d\.\d+ \(", text)
    assert "support@1 supervised fine-tuning served before" in text and "support@0 base model not judged" in text
    assert re.search(
        r"support@2 promoted, in place of support@1 by burnish run .* support@1 promoted by burnish run", text
    )


def test_a_version_shows_its_card_verdict_and_lineage_both_ways(client: TestClient, desk: Desk) -> None:
    text = read(client, "/versions/support@1").text
    above, below = text.split("What was made from it")
    assert "Version support@0 Data" in above.split("What it was made from")[1]
    assert all(kind in below for kind in ("Version support@2", "Reward model", "Votes", "Evaluation", "Turn 1"))
    assert "260 train rows; 0 rows left out" in text and "learning rate 0.001 (auto: low-rank adapters" in text
    assert "# support@1" in text and "The gate passed it on" in text
    assert "Decision 1 on these 50 dev prompts" in text


def test_lineage_shows_each_record_once_and_as_near_as_it_is(desk: Desk) -> None:
    item = versions.find_version(desk.store, PROJECT, "support@2")
    assert item is not None
    tree = versions.view(desk.store, PROJECT, item)["parents"]
    assert [(b.title, [c.title for c in b.branches]) for b in tree] == [
        ("Version", ["Version"]), ("Reward model", ["Votes"]), ("Data", [])
    ]  # fmt: skip


def test_evil_text_is_inert_in_what_the_server_renders(client: TestClient, desk: Desk) -> None:
    evil = "<script>x</script>{{ 7777*7777 }}<img src=x onerror=x>"
    desk.store.once(desk.work("version", "rl", (), again=1), lambda: {
        **desk.made["rl"].body, "figures": {evil: evil}, "settings": {evil: {"value": evil, "why": evil}}
    })  # fmt: skip
    for path in (
        "/versions",
        "/versions/support@3",
        f"/versions/{evil.replace('/', '')}",
        f"/runs/{evil.replace('/', '')}",
    ):
        page = Outline(client.get(path).text)
        assert not [
            tag for tag, attributes in page.tags if "onerror" in attributes or (tag, attributes) == ("script", {})
        ]
        assert "60481729" not in page.text
    assert evil in read(client, "/versions/support@3").text
    row = Row((Message("user", evil),), None, 1)
    desk.pairs(desk.made["rl"], [(row, evil, "plain")], evil)
    assert "<script>x" not in client.get("/compare").text


def test_static_files_are_those_of_the_folder_and_no_others(client: TestClient) -> None:
    for file in (WEB / "static").iterdir():
        answer = client.get(f"/static/{file.name}")
        assert answer.content == file.read_bytes()
        again = client.get(f"/static/{file.name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content
    assert client.get("/static/charts.js").headers["content-type"] == "text/javascript; charset=utf-8"
    for name in ("..%2fpages.py", "..%2f..%2ferrors.py", "none.css", ".", "%2e%2e", "//etc/passwd"):
        assert client.get(f"/static/{name}").status_code == 404


def test_the_pages_need_no_torch() -> None:
    code = "import sys, burnish.web.pages, burnish.web.app; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
