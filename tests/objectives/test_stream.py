"""The flat batch: where ids lie, what predicts what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import TrainingError
from burnish.objectives import Answer, Span, Tree, above, pack, pack_evenly
from burnish.objectives.stream import SHORTEST_HEAD


def answer(*ids: int, weights: list[float] | None = None, row: int = 0, **streams: list[float]) -> Answer:
    return Answer(ids, weights or [1.0] * len(ids), streams, row)


def test_three_tokens_shift_by_one():
    stream = pack([Tree([5], (answer(6, 7),))], budget=10)[0]
    assert stream.ids_T.tolist() == [5, 6, 7]
    assert stream.positions_T.tolist() == [0, 1, 2]
    assert stream.take_S.tolist() == [0, 1]
    assert stream.targets_S.tolist() == [6, 7]
    assert stream.last_A is not None
    assert stream.last_A.tolist() == [2]
    assert stream.spans == (Span(0, 3),)


def test_a_prompt_is_laid_out_once_for_its_answers():
    pair = Tree([1, 2], (answer(3, 4), answer(5)), {"preference": 1.0})
    stream = pack([pair, Tree([6], (answer(7),))], budget=10)[0]
    assert stream.ids_T.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert stream.positions_T.tolist() == [0, 1, 2, 3, 2, 0, 1]
    assert stream.spans == (Span(0, 2), Span(2, 4, (0, 2)), Span(4, 5, (0, 2)), Span(5, 7))
    assert stream.take_S.tolist() == [1, 2, 1, 5]
    assert stream.targets_S.tolist() == [3, 4, 5, 7]
    assert stream.answer_S.tolist() == [0, 0, 1, 2]
    assert stream.tree_A.tolist() == [0, 0, 1]
    assert stream.last_A is not None
    assert stream.last_A.tolist() == [3, 4, 6]
    assert stream.figures["preference"].tolist() == [1.0, 0.0]
    assert stream.present["preference"].tolist() == [True, False]
    assert stream.longest == 4


HEAD = [*range(50, 50 + SHORTEST_HEAD)]


def test_what_all_prompts_begin_with_is_laid_out_once():
    pair = Tree([*HEAD, 1, 2], (answer(3, 4), answer(5)))
    stream = pack([pair, Tree([*HEAD, 6], (answer(7),))], budget=100)[0]
    n = stream.head
    assert n == len(HEAD) and stream.ids_T.tolist() == [*HEAD, 1, 2, 3, 4, 5, 6, 7]
    assert stream.positions_T.tolist() == [*range(n), n, n + 1, n + 2, n + 3, n + 2, n, n + 1]
    prompt = (n, n + 2)
    assert stream.spans == (
        Span(0, n), Span(*prompt, (0, n)), Span(n + 2, n + 4, prompt), Span(n + 4, n + 5, prompt),
        Span(n + 5, n + 7, (0, n)),
    )  # fmt: skip
    assert above(stream.spans) == [[], [0], [0, 1], [0, 1], [0]]
    assert stream.take_S.tolist() == [n + 1, n + 2, n + 1, n + 5]
    assert stream.last_A is not None and stream.last_A.tolist() == [n + 3, n + 4, n + 6]
    assert stream.longest == n + 4


@pytest.mark.parametrize(
    ("prompts", "head"),
    [
        ([[*HEAD, 1]], 0),  # alone
        ([[*HEAD, 1], [*HEAD, 2]], len(HEAD)),
        ([[*HEAD, 1], [*HEAD, 2], [*HEAD[:-1], 3, 4]], 0),  # too little in common
        ([[*HEAD, 1], [*HEAD, 1]], len(HEAD)),  # the last token of a prompt predicts the answer: it stays apart
        ([[*HEAD, 1, 2, 3], [*HEAD, 1, 2], [*HEAD, 1]], len(HEAD)),
        ([[9, *HEAD, 1], [8, *HEAD, 2]], 0),  # a head stands first
        ([(*HEAD, 1), [*HEAD, 2]], len(HEAD)),
    ],
)
def test_a_head_is_what_all_prompts_have(prompts, head):
    trees = [Tree(prompt, (answer(7),)) for prompt in prompts]
    for way in (pack, pack_evenly):
        (stream,) = way(trees, 1000)
        assert stream.head == head
        assert len(stream.ids_T) == sum(t.tokens() for t in trees) - head * (len(trees) - 1)


def test_a_head_counts_once_in_the_budget_and_a_long_one_leaves_half():
    trees = [Tree([*HEAD, row], (answer(7, row=row),)) for row in range(10)]  # 2 tokens each, beside the head
    assert [stream.trees for stream in pack(trees, budget=3 * len(HEAD))] == [8, 2]
    assert [stream.trees for stream in pack_evenly(trees, budget=3 * len(HEAD))] == [5, 5]
    assert [stream.rows_A for stream in pack(trees[:5], budget=len(HEAD))] == [(0, 1), (2, 3), (4,)]
    alone = pack(trees, budget=1)
    assert [(len(stream.ids_T), stream.head) for stream in alone] == [(len(HEAD) + 2, 0)] * 10


def test_last_tokens_are_left_out_where_no_head_reads_them():
    stream = pack([Tree([1, 2], (answer(3, 4), answer(5)))], budget=10, keep_last=False)[0]
    assert stream.ids_T.tolist() == [1, 2, 3]
    assert stream.spans == (Span(0, 2), Span(2, 3, (0, 2)))
    assert stream.take_S.tolist() == [1, 2, 1]
    assert stream.targets_S.tolist() == [3, 4, 5]
    assert stream.last_A is None


def test_only_weighted_positions_are_supervised():
    tree = Tree([1], (answer(2, 3, 4, weights=[0.0, 1.0, 0.5], advantage=[float("nan"), 2.0, 3.0]),))
    stream = pack([tree], budget=10)[0]
    assert stream.take_S.tolist() == [1, 2]
    assert stream.weights_S.tolist() == [1.0, 0.5]
    assert stream.streams["advantage"].tolist() == [2.0, 3.0]  # the nan stood where nothing is trained


def test_figures_that_a_row_does_not_carry_are_absent_not_zero():
    trees = [Tree([1], (answer(2, advantage=[0.0]),)), Tree([3], (answer(4),))]
    stream = pack(trees, budget=10)[0]
    assert stream.streams["advantage"].tolist() == [0.0, 0.0]
    assert stream.present["advantage"].tolist() == [True, False]


def test_figures_of_answers():
    stream = pack([Tree([1], (answer(2), answer(3)), {"rank": [1.0, 2.0]})], budget=10)[0]
    assert stream.figures["rank"].tolist() == [1.0, 2.0]


def test_a_tree_is_never_cut_and_order_is_kept():
    trees = [Tree([1] * n, (answer(2, 3, row=n),)) for n in (3, 4, 20, 1)]  # too short to share a head
    streams = pack(trees, budget=11)
    assert [stream.rows_A for stream in streams] == [(3, 4), (20,), (1,)]
    assert [len(stream.ids_T) for stream in streams] == [11, 22, 3]


@pytest.mark.parametrize(
    ("sizes", "budget", "even"),
    [
        ([5, 5, 5, 2], 15, [10, 7]),  # pack alone: 15 and 2
        ([6, 2, 2, 6], 16, [16]),
        ([20, 5, 5, 2], 15, [20, 12]),  # a tree is never cut
        ([8, 2, 8, 2], 10, [10, 10]),
    ],
)
def test_streams_of_a_window_are_of_nearly_the_same_length(sizes, budget, even):
    trees = [Tree([1] * (size - 1), (answer(7, row=row),)) for row, size in enumerate(sizes)]
    streams = pack_evenly(trees, budget)
    assert [len(stream.ids_T) for stream in streams] == even
    assert [row for stream in streams for row in stream.rows_A] == list(range(len(sizes)))


@given(st.lists(st.integers(2, 9), min_size=1, max_size=12), st.integers(1, 30), st.booleans())
def test_even_streams_are_no_more_and_none_is_longer(sizes, budget, keep_last):
    trees = [Tree([1] * (size - 1), (answer(7),)) for size in sizes]
    plain, even = (f(trees, budget, keep_last) for f in (pack, pack_evenly))
    assert len(even) == len(plain)
    assert max(len(s.ids_T) for s in even) <= max(len(s.ids_T) for s in plain)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 7), min_size=1, max_size=4)), max_size=8),
    st.integers(1, 60),
    st.booleans(),
)
def test_every_tree_is_in_exactly_one_stream(shapes, budget, keep_last):
    trees = [Tree([0] * p, tuple(answer(*[1] * n, row=i) for n in lengths)) for i, (p, lengths) in enumerate(shapes)]
    streams = pack(trees, budget, keep_last)
    assert [r for s in streams for r in s.rows_A] == [a.row for t in trees for a in t.answers]
    spared = sum(s.head * (s.trees - 1) for s in streams)
    assert sum(len(s.ids_T) for s in streams) == sum(t.tokens(keep_last) for t in trees) - spared
    assert sum(len(s.take_S) for s in streams) == sum(len(a.ids) for t in trees for a in t.answers)
    for stream in streams:
        assert len(stream.ids_T) <= max(budget, stream.head + budget // 2) or stream.trees == 1
        covered = [t for s in stream.spans for t in range(s.start, s.stop)]
        assert covered == list(range(len(stream.ids_T)))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (Tree([], (answer(1),)), "needs a prompt"),
        (Tree([1], ()), "at least one answer"),
        (Tree([1], (Answer([], [], {}, 7),)), "row 7"),
        (Tree([1], (Answer([2, 3], [1.0], {}, 7),)), "2 ids, but 1 weights"),
        (Tree([1], (answer(2, 3, old_logp=[0.0]),)), "2 ids, but 1 old_logp"),
        (Tree([1], (answer(2, weights=[-1.0], row=7),)), "row 7: a weight is negative"),
        (Tree([1], (answer(2, weights=[float("nan")]),)), "not a number"),
        (Tree([1], (answer(2, 3, advantage=[0.0, float("nan")], row=7),)), 'row 7: "advantage" of id 1 is nan'),
        (Tree([1], (answer(2, x=[0.0]),), {"x": 1.0}), '"x" is a figure of two'),
        (Tree([1], (answer(2),), {"x": [1.0, 2.0]}), '"x" does not fit the 1 answers'),
    ],
)
def test_unsound_trees_are_refused(tree, says):
    with pytest.raises(TrainingError, match=says):
        pack([tree], budget=10)


def test_units_are_summed_weights():
    assert answer(1, 2, 3, weights=[1.0, 0.0, 0.5]).units == 1.5
