"""The dense reward: what marks teach, what each token is paid, and how parts add up, by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from burnish.data.render import Renderer
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.spans import SpanModel
from burnish.objectives import Stream
from burnish.records import Mark, Message, Row
from burnish.rewards.scores import Asked, Combined, Groups, Paid, Weighted
from burnish.rewards.spans import Dense, MarkedAnswer, SpanReader, last_tokens, pay, row_marked, votes_marked
from burnish.sampling import Sample
from burnish.tasks.chat import ChatTask

SIZES: Any = {"late": "sentence", "missing": "answer"}
# "No", ".", " It", " is", ".", stop
OFFSETS = [(0, 2), (2, 3), (3, 6), (6, 9), (9, 10), (10, 10)]
ASKED = [Asked([1, 2], Row((Message("user", "a"),), None, 1))]


@pytest.fixture(scope="module")
def renderer(tiny_model_folder: Path) -> Renderer:
    return Renderer.from_folder(tiny_model_folder, None)


def test_the_last_token_of_a_segment_says_whether_it_is_wrong() -> None:
    marked = MarkedAnswer([1], [11, 12, 13, 14, 15, 2], "No. It is.", OFFSETS, [Mark(4, 6, "late")], "c")
    answer = marked.tree(SIZES, row=7).answers[0]
    assert answer.streams["span:late"] == [-1.0, 0.0, -1.0, -1.0, 1.0, -1.0]
    assert answer.streams["span:missing"] == [-1.0] * 5 + [0.0]
    assert answer.weights == [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    assert answer.streams["before_end"] == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0] and answer.row == 7


def test_a_row_is_read_with_its_own_ids_and_places(renderer: Renderer) -> None:
    row = Row((Message("user", "why?"),), "the end. in é the end", 4, marks=(Mark(0, 3, "late"),))
    marked = row_marked(row, ChatTask(renderer, 8))
    assert marked.ids == renderer.answer(row.answer or "") and marked.offsets == renderer.offsets(row.answer or "")
    told = marked.tree(SIZES).answers[0].streams["span:late"]
    ends = [token for token, wrong in enumerate(told) if wrong >= 0]
    assert [told[token] for token in ends] == [1.0, 0.0]
    assert renderer.text(marked.ids[: ends[0] + 1]) == "the end." and ends[1] == len(told) - 2


def test_what_each_token_is_paid() -> None:
    assert pay([(1, 0.25), (4, 1.0)], 6, "segment") == [0.0, 0.5, 0.0, 0.0, -1.0, 0.0]
    assert pay([(1, 0.25), (4, 1.0)], 6, "answer") == [0.0, 0.25, 0.0, 0.0, -0.5, 0.0]
    assert pay([(0, 0.0), (0, 0.5)], 1, "segment") == [1.0]  # two segments that end with one token
    assert pay([], 2, "segment") == pay([], 2, "answer") == [0.0, 0.0]


def reading(chances: dict[str, list[tuple[int, float]]]) -> Any:
    return lambda asked, samples: [[chances for _ in group] for group in samples]


def test_a_part_pays_tokens_and_an_answer_their_sum() -> None:
    samples = [[Sample((7, 8, 9), (-1.0,) * 3, "stop")]]
    late = Dense(reading({"late": [(0, 0.1), (2, 0.8)]}), "late", "segment")
    paid = late(ASKED, samples)
    assert paid.tokens == [[[pytest.approx(0.8), 0.0, pytest.approx(-0.6)]]]
    assert paid.values == [[pytest.approx(0.2)]]
    assert paid.figures == {"segments": 2.0, "wrong": pytest.approx(0.45)}


def test_tokens_are_weighed_and_added_and_the_rest_is_the_other_parts() -> None:
    samples = [[Sample((7, 8), (-1.0,) * 2, "stop"), Sample((9,), (-1.0,), "stop")]]

    def flat(asked: object, groups: Groups) -> Paid:
        return Paid([[None, 3.0]], "it broke")

    dense = reading({"late": [(0, 0.0)], "rude": [(0, 0.75)]})
    parts = (
        Weighted("late", Dense(dense, "late", "segment"), 0.5),
        Weighted("rude", Dense(dense, "rude", "segment"), 2.0),
        Weighted("flat", flat, 1.0, may_fail=True),
    )
    scores = Combined(parts)(ASKED, samples, {}, 0)
    assert scores.kept == [[1]] and scores.tokens == [[[0.5 * 1.0 + 2.0 * -0.5]]]  # the other answer had no number
    assert scores.total == [[-0.5 + 3.0]]
    figures = scores.figures()
    assert (figures["reward/late"], figures["reward/rude"], figures["reward/rude/wrong"]) == (1.0, -0.5, 0.75)
    assert Combined(parts[2:])(ASKED, samples, {}, 0).tokens is None


class Told(SpanModel):
    """Heads that say, of each token, its id in hundredths for the first type and a half for the second."""

    def __init__(self) -> None:
        self.sizes, self.runs = SIZES, 0

    def logits(self, stream: Stream) -> torch.Tensor:
        self.runs += 1
        assert stream.last_A is not None
        at = stream.last_A[stream.answer_S] - stream.streams["before_end"].long()
        chance = stream.ids_T[at] / 1000
        return torch.stack([chance.logit(), torch.zeros(len(chance))], dim=1)


def test_each_answer_gets_what_was_read_at_its_own_ends_in_one_forward(renderer: Renderer) -> None:
    texts = ["the end. in the end", "", "it. is. it"]
    group = [Sample(tuple(renderer.answer(text)), (), "stop") for text in texts]
    cut = Sample(tuple(renderer.answer("the end. it"))[:-1], (), "length")
    samples, asked = [group, [cut]], [ASKED[0], ASKED[0]]
    reader = SpanReader(Told(), renderer)
    found = reader(asked, samples)
    for group_found, group_samples in zip(found, samples, strict=True):
        for odds, sample in zip(group_found, group_samples, strict=True):
            wanted = last_tokens(sample.ids, renderer, SIZES)
            assert [token for token, _ in odds["late"]] == wanted["late"]
            assert [chance for _, chance in odds["late"]] == pytest.approx(
                [sample.ids[token] / 1000 for token in wanted["late"]], abs=1e-5
            )
            assert odds["missing"] == [(len(sample.ids) - 1, pytest.approx(0.5))]
    assert [len(odds["late"]) for odds in found[0]] == [2, 0, 3]
    assert reader(asked, samples) is found and reader.model.runs == 1  # type: ignore[attr-defined]
    reader(asked, [list(group), [cut]])
    assert reader.model.runs == 2  # type: ignore[attr-defined]


def test_a_real_model_reads_and_pays(renderer: Renderer, tiny_model_folder: Path, tmp_path: Path) -> None:
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path))
    model = SpanModel.on(base, Lora(4), 1, 0, SIZES, [0.0, -2.0])
    samples = [[Sample(tuple(renderer.answer("the end. it is")), (), "stop")]]
    paid = Dense(SpanReader(model, renderer), "missing", "segment")(ASKED, samples)
    assert paid.values[0][0] == pytest.approx(1 - 2 / (1 + float(torch.tensor(2.0).exp())), abs=1e-5)


def test_marks_of_votes_lie_on_the_sampled_ids(renderer: Renderer) -> None:
    text = "é the end. in the end"
    ids = renderer.answer(text)
    said = SimpleNamespace(prompt_ids=(1, 2), answer_ids=tuple(ids), answer=text)
    other = SimpleNamespace(prompt_ids=(1, 2), answer_ids=(5, 6), answer="of another tokenizer")
    store: Any = SimpleNamespace(exchanges=SimpleNamespace(many=lambda wanted: {"x": said, "y": other}))
    votes: Any = [
        SimpleNamespace(exchange=exchange, marks=marks)
        for exchange, marks in (("x", (Mark(0, 3, "late"),)), ("y", ()), ("x", ()), ("x", None), ("erased", ()))
    ]
    first, second = votes_marked(store, votes, renderer, 512)
    assert votes_marked(store, votes, renderer, len(ids)) == []  # the prompt comes on top
    told = [marked.tree(SIZES).answers[0].streams["span:late"] for marked in (first, second)]
    assert [wrong for wrong in told[0] if wrong >= 0] == [1.0, 0.0]
    assert [wrong for wrong in told[1] if wrong >= 0] == [0.0, 0.0]
    assert renderer.text(ids[: told[0].index(1.0) + 1]) == "é the end."
