"""The supervision audit sees what would not be trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.data.audit import audit
from burnish.data.reasons import by_reason
from burnish.data.render import Renderer
from burnish.records import Message, Row


@pytest.fixture(scope="module")
def renderer(tiny_model_folder: Path) -> Renderer:
    return Renderer.from_folder(tiny_model_folder, "")


def row(number: int, text: str, answer: str | None) -> Row:
    return Row((Message("user", text),), answer, number)


def test_counts_what_is_trained(renderer: Renderer) -> None:
    rows = [row(1, "Where is it?", "Here."), row(5, "And this?", "There it is.")]
    found = audit(rows, renderer, 512)
    assert found.unit == "tokens"
    assert [r.number for r in found.rows] == [1, 5]
    for audited, source in zip(found.rows, rows, strict=True):
        assert audited.prompt == len(renderer.prompt(source.prompt))
        assert audited.trained == len(renderer.answer(source.answer or ""))
        assert audited.stop and audited.problem is None and audited.odd is None
    trained, total = (sum(r.trained for r in found.rows), sum(r.trained + r.prompt for r in found.rows))
    totals = found.to_json()
    assert (totals["trained"], totals["total"], totals["stop_trained"]) == (trained, total, 2)
    assert totals["trained_share"] == round(trained / total, 4)
    assert found.lines()[0].startswith(f"2 rows, 0 left out; {trained} of {total} tokens are trained")


def test_a_row_is_never_cut_but_named(renderer: Renderer) -> None:
    prompt, answer = "Where is it?", "Here, on the shelf."
    asked, said = len(renderer.prompt((Message("user", prompt),))), len(renderer.answer(answer))
    problem = {
        limit: audit([row(9, prompt, answer)], renderer, limit).rows[0].problem
        for limit in (asked, asked + 1, asked + said - 1, asked + said)
    }
    assert problem[asked + said] is None
    assert problem[asked + said - 1] == (
        f"{asked + said} tokens, data.max_length is {asked + said - 1}: the last 1 of its answer would be cut off"
    )
    assert "would be cut off" in str(problem[asked + 1])
    assert problem[asked] == (
        f"the prompt alone has {asked} tokens, data.max_length is {asked}: its answer would be truncated away"
    )
    found = audit([row(9, prompt, answer)], renderer, asked)
    assert (found.to_json()["left_out"], found.to_json()["trained"]) == (1, 0)
    assert found.lines()[-1] == f"row 9: {problem[asked]}"


def test_an_answer_without_tokens_and_a_prompt_that_cannot_be_rendered(renderer: Renderer) -> None:
    empty, refused = audit([row(1, "a", ""), Row((), "b", 2)], renderer, 99).rows
    assert (empty.trained, empty.problem) == (1, "its answer has no token to train on")
    assert refused.problem == "the conversation does not end with a user message"


def test_bare_prompts_have_nothing_to_train(renderer: Renderer) -> None:
    (only,) = audit([row(1, "a", None)], renderer, 99).rows
    assert (only.trained, only.stop, only.problem) == (0, False, None)


def test_an_odd_template_is_told(renderer: Renderer) -> None:
    spec = renderer.to_json()
    spec["template"] = spec["template"].replace("message['content'] +", "message['content'] + ' ' +")
    found = audit([row(3, "a", "b")], Renderer.from_json(spec, renderer.tokenizer_file), 99)
    assert found.rows[0].odd == "the template renders the answer or its end otherwise"
    assert found.to_json()["odd"] == 1
    assert found.lines()[-1] == "row 3: the template renders the answer or its end otherwise"


def test_percentiles_are_nearest_rank_and_words_do_without_a_tokenizer() -> None:
    found = audit([row(n, "w " * n, "one two") for n in range(1, 101)], None, 512)
    assert found.unit == "words"
    assert found.percentiles()["prompt"] == {"p50": 50, "p90": 90, "p99": 99, "p100": 100}
    assert found.percentiles()["row"]["p100"] == 102
    assert not found.bad
    assert audit([], None, 512).to_json()["trained_share"] == 0.0
    assert audit([], None, 512).lines()[0].startswith("0 rows")


def test_many_problems_are_cut_at_ten(renderer: Renderer) -> None:
    lines = audit([row(n, "a" * (50 + n), "b") for n in range(25)], renderer, 20).lines()
    assert len(lines) == 2 + 10 + 1
    assert lines[-1] == "and 15 more rows"


def test_a_reason_is_told_once_with_its_rows(renderer: Renderer) -> None:
    found = audit([row(n, "a" * (50 + 9 * (n == 3)), "b") for n in range(1, 14)], renderer, 20).lines()[2:]
    assert [line.partition(": ")[0] for line in found] == ["rows 1, 2, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more", "row 3"]
    assert by_reason([(4, "late"), (9, "late"), (5, "empty")]) == ["rows 4, 9: late", "row 5: empty"]
