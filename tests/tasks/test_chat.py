"""Chat rows as ids: what is trained is what is sampled from."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.data.render import Renderer
from burnish.errors import DataError
from burnish.objectives import pack, pairwise_term
from burnish.records import Message, Row
from burnish.sampling import Sample
from burnish.tasks.chat import ChatTask


@pytest.fixture
def task(tiny_model_folder: Path) -> ChatTask:
    return ChatTask(Renderer.from_folder(tiny_model_folder, "You help."), max_new_tokens=8)


ROW = Row((Message("user", "Where is it?"),), "On its way.", 3, subject="anna", case="c-1")


def test_every_id_of_the_answer_is_trained_the_stop_token_too(task: ChatTask):
    tree = task.supervised(ROW)
    (answer,) = tree.answers
    assert answer.ids[-1] == task.renderer.stop_ids[0]
    assert task.renderer.text(answer.ids) == "On its way."
    assert list(answer.weights) == [1.0] * len(answer.ids) and answer.row == 3


def test_training_and_sampling_see_the_same_prompt(task: ChatTask):
    assert task.supervised(ROW).prompt == task.prompt_ids(ROW)
    whole = [*task.supervised(ROW).prompt, *task.supervised(ROW).answers[0].ids]
    said = task.renderer._tokenizer.decode(whole, skip_special_tokens=False)
    assert said == (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nWhere is it?<|im_end|>\n"
        "<|im_start|>assistant\nOn its way.<|im_end|>"
    )


def test_examples_stand_between_the_system_message_and_the_question(task: ChatTask):
    example = Row((Message("system", "Be rude."), Message("user", "Is it late?")), "A little.", 1)
    row = Row((Message("system", "Be kind."), Message("user", "Where is it?")), None, 2)
    wanted = [
        Message("system", "Be kind."),
        Message("user", "Is it late?"),
        Message("assistant", "A little."),
        Message("user", "Where is it?"),
    ]
    assert task.prompt_ids(row, [example]) == task.renderer.prompt(wanted)
    assert task.prompt_ids(ROW, [example]) == task.renderer.prompt([Message("system", "You help."), *wanted[1:]])


def test_a_row_without_an_answer_is_no_example_and_not_trained(task: ChatTask):
    bare = Row(ROW.prompt, None, 9)
    with pytest.raises(DataError, match="row 9"):
        task.supervised(bare)
    with pytest.raises(DataError, match="row 9"):
        task.prompt_ids(ROW, [bare])


def test_a_pair_is_what_the_pairwise_term_reads(task: ChatTask):
    pair = task.pair(task.prompt_ids(ROW), [5, 6], [7], 0.75, weight=2.0, row=4)
    assert pairwise_term().count([pair]) == 2.0
    (stream,) = pack([pair], 1000)
    assert stream.figures["preference"].tolist() == [0.75] and stream.figures["votes"].tolist() == [2.0]
    assert stream.rows_A == (4, 4)


def test_an_exchange_keeps_the_ids_and_whose_it_is(task: ChatTask):
    ids = tuple(task.renderer.answer("Soon."))
    sample = Sample(ids, (-0.5,) * len(ids), "stop")
    prompt = task.prompt_ids(ROW)
    kept = task.exchange("support", "version-1", ROW, prompt, sample, "feedback", {"temperature": 1.0}, id="x-1")
    assert (kept.id, kept.version, kept.purpose, kept.answer) == ("x-1", "version-1", "feedback", "Soon.")
    assert kept.prompt_ids == tuple(prompt) and kept.answer_ids == ids and kept.logprobs == sample.logprobs
    assert (kept.subject, kept.case, kept.prompt, kept.finish_reason) == ("anna", "c-1", ROW.prompt, "stop")
    assert kept.settings == {"max_new_tokens": 8, "temperature": 1.0}
