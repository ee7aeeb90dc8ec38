"""What of a conversation is trained: the mask comes from where parts were rendered, id by id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from burnish.data.audit import audit
from burnish.data.read import read_rows
from burnish.data.render import Renderer
from burnish.data.supervision import supervision
from burnish.errors import DataError
from burnish.records import Document, Message, Row

WORDS = {"<u>": 0, "<a>": 1, "<e>": 2, "A": 3, "B": 4, "C": 5, "D": 6, "S": 7}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<u> {% elif m.role == 'assistant' %}<a> {% endif %}"
    "{{ m.content }}{% if m.role == 'assistant' %}<e>{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}<a> {% endif %}"
)
FORGETFUL = TEMPLATE.replace("{{ m.content }}", "{{ m.content if loop.last or m.role == 'user' else 'S' }}")
TALK = (Message("user", "A"), Message("assistant", "B"), Message("user", "C"))
ROW = Row(TALK, "D", 4)


def renderer(folder: Path, template: str = TEMPLATE) -> Renderer:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="S"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<u>", "<a>", "<e>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return Renderer(folder / "tokenizer.json", template, {"eos_token": "<e>"}, None)


def laid_out(row: Row, made: Renderer, train_on: str) -> tuple[list[int], list[float]]:
    """All ids, and the weight of each (0 for what is read)."""
    found = supervision(row, made, train_on)  # type: ignore[arg-type]
    return [*found.prompt, *found.ids], [*[0.0] * len(found.prompt), *found.weights]


def test_masks_of_a_two_turn_conversation_by_hand(tmp_path: Path) -> None:
    made = renderer(tmp_path)
    ids = [0, 3, 1, 4, 2, 0, 5, 1, 6, 2]  # <u> A <a> B <e> <u> C <a> D <e>
    assert laid_out(ROW, made, "last") == (ids, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    assert laid_out(ROW, made, "all") == (ids, [0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
    assert laid_out(ROW, made, "everything") == (ids, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1])


def test_weights_fall_on_their_own_answer(tmp_path: Path) -> None:
    made, row = renderer(tmp_path), Row(TALK, "D", 4, weights=(0.25, 0.5))
    assert laid_out(row, made, "last")[1] == [0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0.5]
    assert laid_out(row, made, "all")[1] == [0, 0, 0, 0.25, 0.25, 0, 0, 0, 0.5, 0.5]
    assert laid_out(row, made, "everything")[1] == [0, 1, 1, 0.25, 0.25, 1, 1, 1, 0.5, 0.5]


def test_each_answer_has_the_ids_that_sampling_would_give(tiny_model_folder: Path) -> None:
    made = Renderer.from_folder(tiny_model_folder, "You help.")
    row = Row(
        (Message("user", "Where is it?"), Message("assistant", "Here, look."), Message("user", "Sure?")), "Yes.", 1
    )
    found = supervision(row, made, "all")
    ids, weights = [*found.prompt, *found.ids], [*[0.0] * len(found.prompt), *found.weights]
    for end, answer in ((1, "Here, look."), (3, "Yes.")):
        prompt, said = made.prompt(row.prompt[:end]), made.answer(answer)
        assert ids[: len(prompt) + len(said)] == prompt + said
        assert weights[len(prompt) : len(prompt) + len(said)] == [1.0] * len(said)
    assert sum(weights) == len(made.answer("Here, look.")) + len(made.answer("Yes."))


def test_a_template_that_rewrites_earlier_turns_is_refused_where_they_are_trained(tmp_path: Path) -> None:
    made = renderer(tmp_path, FORGETFUL)
    supervision(ROW, made, "last")
    for train_on in ("all", "everything"):
        with pytest.raises(DataError, match="renders earlier turns otherwise once a later one follows"):
            laid_out(ROW, made, train_on)
    (only,) = audit([ROW], made, 99, "all").rows
    assert only.problem == "the template renders earlier turns otherwise once a later one follows"


def test_an_answer_that_nobody_asked_for_is_read(tmp_path: Path) -> None:
    made = renderer(tmp_path)
    row = Row((Message("assistant", "B"), *TALK), "D", 4)
    assert laid_out(row, made, "all") == (
        [1, 4, 2, 0, 3, 1, 4, 2, 0, 5, 1, 6, 2],
        [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1],
    )
    (audited,) = audit([row], made, 99, "all").rows
    assert (audited.answers, audited.trained, audited.prompt) == (2, 4, 9)
    assert audited.odd == "1 of its answers follow no user message and are not trained as answers"


def test_documents_are_never_trained(tmp_path: Path) -> None:
    row = Row(TALK, "D", 4, documents=(Document("1", "", "S"),))
    made = renderer(tmp_path)
    assert sum(laid_out(row, made, "all")[1]) == 4
    with pytest.raises(DataError, match="row 4: it holds documents"):
        laid_out(row, made, "everything")


def test_the_audit_counts_what_is_trained(tmp_path: Path) -> None:
    made = renderer(tmp_path)
    for train_on, trained, answers in (("last", 2, 1), ("all", 4, 2), ("everything", 9, 2)):
        found = audit([ROW], made, 99, train_on)  # type: ignore[arg-type]
        (row,) = found.rows
        assert (row.trained, row.prompt, row.answers, row.longest) == (trained, 10 - trained, answers, 10)
        assert row.stop and found.to_json()["answers"] == answers
        assert f"({trained / 10:.0%}) in {answers} answers" in found.lines()[0]
    muted = Row(TALK, "D", 4, weights=(1.0, 0.0))
    (row,) = audit([muted], made, 99, "last").rows
    assert row.problem == "every answer that would be trained has the weight 0" and not row.stop
    (row,) = audit([muted], made, 99, "all").rows
    assert row.problem is None and row.trained == 2 and not row.stop
    (row,) = audit([ROW], made, 9, "all").rows
    assert row.problem == "10 tokens, data.max_length is 9: the last 1 of its answer would be cut off"


def test_words_are_counted_alike_without_a_tokenizer() -> None:
    for train_on, trained in (("last", 1), ("all", 2), ("everything", 4)):
        (row,) = audit([ROW], None, 99, train_on).rows  # type: ignore[arg-type]
        assert (row.trained, row.prompt, row.longest) == (trained, 4 - trained, 4)


def test_weights_are_read_from_the_messages(tmp_path: Path) -> None:
    def saved(*weights: object) -> Path:
        said = [{"role": m.role, "content": m.content} for m in (*TALK, Message("assistant", "D"))]
        for message, weight in zip(said, weights, strict=True):
            message |= {} if weight is None else {"weight": weight}
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({"messages": said}) + "\n")
        return path

    assert read_rows(saved(0, 0.25, None, None)).rows[0].weights == (0.25, 1.0)
    assert read_rows(saved(None, None, None, None)).rows[0].weights == ()
    for weights, said in (
        ((None, 1.5, None, None), "message 2 has the weight '1.5'"),
        ((None, "much", None, None), "message 2 has the weight 'much'"),
        ((None, True, None, None), "message 2 has the weight 'True'"),
        ((0.5, None, None, None), r"message 1 \(user\) has a weight"),
    ):
        with pytest.raises(DataError, match=said):
            read_rows(saved(*weights))
