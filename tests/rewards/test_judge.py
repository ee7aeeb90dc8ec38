"""The judge, before a real HTTP server: both orders, ties, back-off, failures that are counted, and what is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.errors import ConfigError, StoreError, TrainingError
from burnish.records import Document, Message, Row
from burnish.rewards.against import StartAnswers, fare
from burnish.rewards.judge import ATTEMPTS, Endpoint, Judge
from burnish.rewards.scores import Asked
from burnish.sampling import Params, Sample
from rewards.conftest import Bench

ROW = Row((Message("user", "Where is it?"),), None, 1, documents=(Document("d", "Depot", "It lies there."),))
BOTH = (ROW, "good", "bad")


def judge_of(bench: Bench, folder: Path, **changed: Any) -> Judge:
    values: dict[str, Any] = {"criterion": "Be kind.", "kept": folder / "judgements.jsonl", "wait": 0.001}
    return Judge(Endpoint(bench.url, "secret-key"), "judge-1", **(values | changed))


def sides(question: str) -> tuple[str, str]:
    """The two answers as the judge was shown them."""
    found = re.search(r"ANSWER A\n(.*)\n=.*ANSWER B\n(.*)\n=.*END", question, re.DOTALL)
    assert found
    return found[1], found[2]


def prefers(better: str) -> Any:
    def reply(question: str, before: int) -> tuple[int, str]:
        a, b = sides(question)
        return 200, "A" if a == better else "B" if b == better else "tie."

    return reply


def test_a_preference_is_one_in_both_orders(bench: Bench, tmp_path: Path) -> None:
    bench.reply = prefers("good")
    found = judge_of(bench, tmp_path).prefer([BOTH, (ROW, "bad", "good"), (ROW, "bad", "worse")])
    assert (found.values, found.why) == ([[1.0, 0.0, 0.5]], None)
    assert len(bench.asked) == 4  # the second case asks what the first asked
    assert {sides(body["messages"][0]["content"]) for body in bench.asked[:2]} <= {
        ("good", "bad"), ("bad", "good"), ("bad", "worse"), ("worse", "bad"),
    }  # fmt: skip


@pytest.mark.parametrize("word", ["A", "B"])
def test_a_judge_that_likes_a_place_says_nothing(bench: Bench, tmp_path: Path, word: str) -> None:
    bench.reply = lambda question, before: (200, word)
    assert judge_of(bench, tmp_path).prefer([BOTH]).values == [[0.5]]


def test_what_is_asked(bench: Bench, tmp_path: Path) -> None:
    judge_of(bench, tmp_path).prefer([BOTH])
    body, headers = bench.asked[0], bench.headers[0]
    assert (body["model"], body["temperature"]) == ("judge-1", 0)
    assert headers["Authorization"] == "Bearer secret-key"
    for part in ("Be kind.", "user: Where is it?", "Depot", "It lies there."):
        assert part in body["messages"][0]["content"]
    assert "secret-key" not in repr(judge_of(bench, tmp_path))


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(bench: Bench, tmp_path: Path) -> None:
    assert judge_of(bench, tmp_path).prefer([(ROW, "same", "same")]).values == [[0.5]] and bench.asked == []


@pytest.mark.parametrize("broken", [(500, "oops"), (429, "slower"), (200, "Well, both are fine."), (200, "")])
def test_what_may_pass_is_asked_again(bench: Bench, tmp_path: Path, broken: tuple[int, str]) -> None:
    kind = prefers("good")
    bench.reply = lambda question, before: broken if before < 2 else kind(question, before)
    assert judge_of(bench, tmp_path).prefer([BOTH]).values == [[1.0]]
    assert len(bench.asked) == 6


@pytest.mark.parametrize(
    ("broken", "said"), [((503, "down"), "answered 503"), ((200, "no idea"), "neither A, B nor TIE")]
)
def test_what_stays_broken_is_no_reward_and_says_why(
    bench: Bench, tmp_path: Path, broken: tuple[int, str], said: str
) -> None:
    kind = prefers("good")
    bench.reply = lambda question, before: broken if sides(question)[0] == "bad" else kind(question, before)
    found = judge_of(bench, tmp_path).prefer([BOTH])
    assert found.values == [[None]] and found.failed == 1  # one order alone is no judgement
    assert found.why is not None and said in found.why and f"{ATTEMPTS} attempts" in found.why
    bench.reply = kind
    again = judge_of(bench, tmp_path).prefer([BOTH])
    assert (again.values, again.why) == ([[1.0]], None)  # a failure is not kept
    assert len(bench.asked) == 1 + ATTEMPTS + 1


def test_a_judge_that_does_not_answer_in_time(bench: Bench, tmp_path: Path) -> None:
    bench.delay = 0.2
    found = judge_of(bench, tmp_path, timeout=0.02).prefer([BOTH])
    assert found.values == [[None]] and "ReadTimeout" in (found.why or "")


def test_nobody_at_the_address(bench: Bench, tmp_path: Path) -> None:
    judge = judge_of(bench, tmp_path)
    judge.endpoint = Endpoint("http://127.0.0.1:1/v1")
    found = judge.prefer([BOTH])
    assert found.values == [[None]] and "cannot be reached: ConnectError" in (found.why or "")


def test_a_refusal_stops_at_once(bench: Bench, tmp_path: Path) -> None:
    bench.reply = lambda question, before: (401, "wrong key")
    with pytest.raises(TrainingError, match="answered 401: 'wrong key'") as caught:
        judge_of(bench, tmp_path).prefer([BOTH])
    assert "secret-key" not in str(caught.value) and len(bench.asked) <= 2


def test_what_was_said_is_read_again_and_holds_no_text(bench: Bench, tmp_path: Path) -> None:
    bench.reply = prefers("good")
    judge_of(bench, tmp_path).prefer([BOTH])
    bench.reply = lambda question, before: (500, "")
    kept = tmp_path / "judgements.jsonl"
    assert judge_of(bench, tmp_path).prefer([BOTH]).values == [[1.0]] and len(bench.asked) == 2
    for line in map(json.loads, kept.read_text().splitlines()):
        assert set(line) == {"asked", "model", "said"}
    kept.write_text(kept.read_text()[:-9])  # a crash cut the last line short
    bench.reply = prefers("good")
    assert judge_of(bench, tmp_path).prefer([BOTH]).values == [[1.0]] and len(bench.asked) == 3
    judge_of(bench, tmp_path, criterion="Be short.").prefer([BOTH])  # another question
    assert len(bench.asked) == 5


def test_a_full_disk_loses_no_judgement_that_was_kept(bench: Bench, tmp_path: Path, small_files: Any) -> None:
    bench.reply = prefers("good")
    judge_of(bench, tmp_path).prefer([BOTH])
    kept = tmp_path / "judgements.jsonl"
    before = kept.read_text()
    with (
        small_files(len(before) + len(before) // 3),
        pytest.raises(StoreError, match="MB are free on this disk") as full,
    ):
        judge_of(bench, tmp_path).prefer([(ROW, "good", "worse")])
    assert full.value.exit_code == 2 and str(kept) in str(full.value)
    assert kept.read_text().startswith(before) and len(kept.read_text()) == len(before) + len(before) // 3
    assert judge_of(bench, tmp_path).prefer([BOTH, (ROW, "good", "worse")]).values == [[1.0, 1.0]]
    asked = len(bench.asked)
    assert judge_of(bench, tmp_path).prefer([BOTH, (ROW, "good", "worse")]).values == [[1.0, 1.0]]
    assert len(bench.asked) == asked  # the line that was cut short spoilt no other


@pytest.mark.parametrize("url", [None, "", "host:80", "file:///etc/passwd"])
def test_the_address_is_the_hosts(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    monkeypatch.delenv("BURNISH_JUDGE_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("BURNISH_JUDGE_URL", url)
    with pytest.raises(ConfigError, match="set BURNISH_JUDGE_URL"):
        Endpoint.of_host()
    monkeypatch.setenv("BURNISH_JUDGE_URL", "https://judge.example/v1/")
    monkeypatch.setenv("BURNISH_JUDGE_KEY", "k")
    assert Endpoint.of_host() == Endpoint("https://judge.example/v1", "k")


def test_answers_are_paid_by_how_they_fare_against_the_starts(bench: Bench, tmp_path: Path) -> None:
    texts = {(1,): "good", (2,): "bad", (3,): "bad"}
    task: Any = SimpleNamespace(renderer=SimpleNamespace(text=lambda ids: texts[tuple(ids)]))
    sampled: list[Any] = []

    class Start:
        def sample(self, prompts: Any, n: int, params: Params, progress: Any = None) -> list[list[Sample]]:
            sampled.append((list(prompts), n, params.temperature))
            return [[Sample((3,), (-1.0,), "stop")] for _ in prompts]

    start = StartAnswers(Start, Params(1.0, 1.0, 6, 0, (9,)))
    asked = [Asked([5], ROW), Asked([6], ROW)]
    groups = [[Sample((1,), (-1.0,), "stop"), Sample((2,), (-1.0,), "stop")], [Sample((1,), (-1.0,), "stop")]]
    bench.reply = prefers("good")
    judge = judge_of(bench, tmp_path)
    assert fare(judge, task, start, True, asked, groups).values == [[1.0, 0.5], [1.0]]
    fare(judge, task, start, True, asked, groups)
    assert sampled == [([(5,), (6,)], 1, 0.0)]  # once, greedily
    bench.reply = lambda question, before: (500, "")
    judge.known.clear()
    assert fare(judge, task, start, True, asked, groups).values == [[None, 0.5], [None]]
    with pytest.raises(TrainingError, match="answered 500"):
        fare(judge, task, start, False, asked, groups)
