"""The flat batch: prompts and answers of many rows on one axis, without padding.

A tree is one prompt with one answer (a supervised row), two (a pair) or a group of them; its prompt is run
once. So is the head: what all prompts begin with, such as a system message. Axes: T packed tokens, S supervised
positions, A answers, N trees.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeVar

import torch
from torch import Tensor

from burnish.errors import TrainingError

T = TypeVar("T")
SHORTEST_HEAD = 8  # tokens: below, the attention's further products cost more than is spared


@dataclass(frozen=True, eq=False)
class Top:
    """What a teacher finds most likely at each of L places: ids [L, K] (whole numbers), and their logprobs [L, K].

    The logprobs are those of the teacher's whole distribution, so that what K tokens leave over is known. An id of -1
    is no token: a place may name fewer than K, the last ones missing, or none.
    """

    ids: Tensor
    logp: Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Answer:
    """The ids of one answer, and which of them are trained.

    ``weights`` has one entry per id: 0.0 is not trained. ``streams`` are named figures per id ("old_logp",
    "reference_logp", "advantage"). ``row`` is the row of the source, for messages. ``top`` is what a teacher says at
    each id: the distribution whose sample could have been that id.
    """

    ids: Sequence[int]
    weights: Sequence[float]
    streams: Mapping[str, Sequence[float]] = field(default_factory=dict)
    row: int = 0
    top: Top | None = None

    @property
    def units(self) -> float:
        """The summed weights: what a term that counts tokens counts."""
        return float(sum(self.weights))

    def supervised(self, values: Sequence[T]) -> list[T]:
        """Of one value for each id, those of the ids that are trained."""
        return [value for value, weight in zip(values, self.weights, strict=True) if weight != 0]


@dataclass(frozen=True)
class Tree:
    """A prompt and its answers. ``streams`` are named figures: one for the tree, or one for each answer (None: it has
    none).

    ``mismatched`` is the answer of another row, with figures under this prompt: it is not laid out with the tree,
    only a term's statistic runs it.
    """

    prompt: Sequence[int]
    answers: tuple[Answer, ...]
    streams: Mapping[str, float | Sequence[float | None]] = field(default_factory=dict)
    mismatched: Answer | None = None

    def tokens(self, keep_last: bool = True) -> int:
        """How long the tree is on the flat axis."""
        return len(self.prompt) + sum(len(answer.ids) - (not keep_last) for answer in self.answers)

    def longest(self, keep_last: bool = True) -> int:
        """The length of the longest path from the first token of the prompt to the end of an answer."""
        return len(self.prompt) + max((len(answer.ids) - (not keep_last) for answer in self.answers), default=0)


@dataclass(frozen=True)
class Span:
    """Tokens ``start`` to ``stop`` that attend causally to themselves, to all of ``parent``, and to what that attends
    to."""

    start: int
    stop: int
    parent: tuple[int, int] | None = None


@dataclass
class Stream:
    """A packed batch.

    ``head`` counts the first tokens, which all trees begin with (0: none, or a tree alone). ``take_S`` indexes T: the
    position whose hidden state predicts ``targets_S``; only positions with a weight are in S. ``answer_S`` is the
    answer that each of them belongs to, ``tree_A`` the tree of each answer, ``rows_A`` its source row. ``last_A``
    indexes T at each answer's last token (None where those tokens were left out). ``streams`` holds per-token figures
    [S], ``figures`` those of trees [N] or answers [A]; where a row has no such figure the value is 0 and ``present``
    (same name, same shape) is False. ``window`` holds figures of the whole window that the stream was cut from, by the
    name of the term that reads them. ``top`` is what a teacher said at each supervised position (None: no answer
    carries it); ``present["top"]`` [S] says where.
    """

    ids_T: Tensor
    positions_T: Tensor
    spans: tuple[Span, ...]
    head: int
    take_S: Tensor
    targets_S: Tensor
    weights_S: Tensor
    answer_S: Tensor
    tree_A: Tensor
    rows_A: tuple[int, ...]
    trees: int
    last_A: Tensor | None = None
    streams: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)
    window: Mapping[str, float] = field(default_factory=dict)
    top: Top | None = None

    def here(self, tensor: Tensor) -> Tensor:
        """A tensor that a model made, where the stream lies: terms read both."""
        return tensor.to(self.ids_T.device)

    @property
    def longest(self) -> int:
        """The length of the longest path from the first token of a prompt to the end of an answer."""
        return int(self.positions_T.max()) + 1


def above(spans: Sequence[Span]) -> list[list[int]]:
    """The numbers of the spans that each span attends to beside itself, the outermost first."""
    places = {(span.start, span.stop): number for number, span in enumerate(spans)}
    found: list[list[int]] = []
    for span in spans:  # a parent comes before its children
        found.append([] if span.parent is None else [*found[places[span.parent]], places[span.parent]])
    return found


def pack(trees: Sequence[Tree], budget: int, keep_last: bool = True) -> list[Stream]:
    """Lay trees onto flat streams of at most ``budget`` tokens, in order.

    What the prompts of all trees begin with is laid out once in each stream; a head of more than half the budget
    leaves half a budget for the trees all the same. A tree is never cut: one longer than the budget gets a stream of
    its own. ``keep_last=False`` leaves out each answer's last token, whose hidden state only a reward head reads.

    Raises:
        TrainingError: A tree has no prompt, no answer or an answer without ids; weights or streams do not fit
            the ids; a weight is negative; a figure of a trained position is not finite.
    """
    head, room = _shared(trees, budget)
    return _packed(trees, head, room, keep_last)


def pack_evenly(trees: Sequence[Tree], budget: int, keep_last: bool = True) -> list[Stream]:
    """As ``pack``, in as many streams, the longest of them as short as the order allows.

    Full streams and a rest take longer than even ones, whose matrix products are all of a good size, and the longest
    decides the memory.
    """
    head, room = _shared(trees, budget)
    sizes = [tree.tokens(keep_last) - head for tree in trees]
    most = _streams(sizes, room)
    least = bisect_left(range(room), True, key=lambda tokens: _streams(sizes, tokens) <= most)
    return _packed(trees, head, least, keep_last)


def _shared(trees: Sequence[Tree], budget: int) -> tuple[int, int]:
    """How many tokens the head of these trees has, all of them sound, and how many of theirs fit a stream beside it."""
    for tree in trees:
        _require_sound(tree)
    head = _head(trees)
    return head, max(budget - head, budget // 2)


def _head(trees: Sequence[Tree]) -> int:
    """How many tokens all prompts begin with; each keeps at least its last one, which predicts the answer, apart."""
    if len(trees) < 2:
        return 0
    prompts = [list(tree.prompt) for tree in trees]
    ends = zip(min(prompts), max(prompts), strict=False)  # what these two begin with, all do
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    shared = min(shared, *(len(prompt) - 1 for prompt in prompts))
    return shared if shared >= SHORTEST_HEAD else 0


def _packed(trees: Sequence[Tree], head: int, room: int, keep_last: bool) -> list[Stream]:
    streams: list[Stream] = []
    waiting: list[Tree] = []
    length = 0
    for tree in trees:
        size = tree.tokens(keep_last) - head
        if waiting and length + size > room:
            streams.append(_lay_out(waiting, head, keep_last))
            waiting, length = [], 0
        waiting.append(tree)
        length += size
    if waiting:
        streams.append(_lay_out(waiting, head, keep_last))
    return streams


def _streams(sizes: Sequence[int], budget: int) -> int:
    """How many streams are made of trees of these sizes, beside their head."""
    count, length = 0, budget
    for size in sizes:
        fits = length + size <= budget
        count, length = count + (not fits), length * fits + size
    return count


def _lay_out(trees: Sequence[Tree], head: int, keep_last: bool) -> Stream:
    head = head if len(trees) > 1 else 0
    root = (0, head) if head else None
    ids: list[int] = [*trees[0].prompt[:head]]
    positions: list[int] = [*range(head)]
    spans: list[Span] = [Span(0, head)] if head else []
    take: list[int] = []
    kept: list[tuple[Answer, int]] = []  # (answer, index in it) of each supervised position
    answer_S: list[int] = []
    last: list[int] = []
    tree_A: list[int] = []
    for number, tree in enumerate(trees):
        start, depth = len(ids), len(tree.prompt)
        ids += tree.prompt[head:]
        positions += range(head, depth)
        shared = len(tree.answers) > 1
        parent = (start, len(ids))
        if shared:
            spans.append(Span(*parent, root))
        for answer in tree.answers:
            fed = len(answer.ids) - (not keep_last)
            first = len(ids)
            ids += answer.ids[:fed]
            positions += range(depth, depth + fed)
            if shared and fed:
                spans.append(Span(first, first + fed, parent))
            elif not shared:  # one answer: prompt and answer are one causal span, which is the same and cheaper
                spans.append(Span(start, first + fed, root))
            for index, weight in enumerate(answer.weights):
                if weight != 0:
                    # The one place of the shift: what predicts id j is the position before it.
                    take.append(first + index - 1 if index else parent[1] - 1)
                    kept.append((answer, index))
                    answer_S.append(len(tree_A))
            last.append(first + fed - 1)
            tree_A.append(number)
    stream = Stream(
        ids_T=torch.tensor(ids, dtype=torch.long),
        positions_T=torch.tensor(positions, dtype=torch.long),
        spans=tuple(spans),
        head=head,
        take_S=torch.tensor(take, dtype=torch.long),
        targets_S=torch.tensor([answer.ids[index] for answer, index in kept], dtype=torch.long),
        weights_S=torch.tensor([answer.weights[index] for answer, index in kept], dtype=torch.float32),
        answer_S=torch.tensor(answer_S, dtype=torch.long),
        tree_A=torch.tensor(tree_A, dtype=torch.long),
        rows_A=tuple(answer.row for tree in trees for answer in tree.answers),
        trees=len(trees),
        last_A=torch.tensor(last, dtype=torch.long) if keep_last else None,
    )
    _add_token_figures(stream, kept)
    _add_tree_figures(stream, trees)
    _add_top(stream, kept)
    return stream


def _add_token_figures(stream: Stream, kept: Sequence[tuple[Answer, int]]) -> None:
    for name in _names(answer.streams for answer, _ in kept):
        values = [answer.streams[name][index] if name in answer.streams else None for answer, index in kept]
        stream.streams[name], stream.present[name] = _filled(values)
        wrong = (~stream.streams[name].isfinite()).nonzero()
        if len(wrong):
            answer, index = kept[int(wrong[0])]
            raise TrainingError(
                f'"{name}" of id {index} is {answer.streams[name][index]}, not a number',
                where=f"row {answer.row}",
            )


def _add_top(stream: Stream, kept: Sequence[tuple[Answer, int]]) -> None:
    """A stream's K is the largest of its answers'; other places are filled with no token (-1, at no probability)."""
    carried = [answer.top for answer, _ in kept if answer.top is not None]
    if not carried:
        return
    most = max(top.ids.shape[1] for top in carried)
    ids_SK = torch.full((len(kept), most), -1, dtype=torch.long)
    logp_SK = torch.full((len(kept), most), -math.inf)
    for place, (answer, index) in enumerate(kept):
        if answer.top is not None:
            width = answer.top.ids.shape[1]
            ids_SK[place, :width], logp_SK[place, :width] = answer.top.ids[index], answer.top.logp[index]
    stream.top = Top(ids_SK, logp_SK)
    stream.present["top"] = torch.tensor([answer.top is not None for answer, _ in kept])


def _add_tree_figures(stream: Stream, trees: Sequence[Tree]) -> None:
    for name in _names(tree.streams for tree in trees):
        found = [tree.streams.get(name) for tree in trees]
        per_answer = [isinstance(value, Sequence) for value in found if value is not None]
        if name in stream.present or len(set(per_answer)) > 1:
            raise TrainingError(f'"{name}" is a figure of two of tokens, answers and trees')
        values: list[float | None] = []
        for tree, value in zip(trees, found, strict=True):
            if isinstance(value, Sequence):
                values += value
            else:
                values += [value] * (len(tree.answers) if per_answer[0] else 1)
        stream.figures[name], stream.present[name] = _filled(values)


def _names(figures: Iterable[Mapping[str, object]]) -> list[str]:
    return sorted({name for mapping in figures for name in mapping})


def _filled(values: Sequence[float | None]) -> tuple[Tensor, Tensor]:
    filled = torch.tensor([0.0 if value is None else value for value in values], dtype=torch.float32)
    return filled, torch.tensor([value is not None for value in values], dtype=torch.bool)


def _require_sound(tree: Tree) -> None:
    where = f"row {tree.answers[0].row}" if tree.answers else None
    if not tree.prompt or not tree.answers or any(len(answer.ids) == 0 for answer in tree.answers):
        raise TrainingError("a row needs a prompt, and at least one answer with ids", where=where)
    uneven = (n for n, v in tree.streams.items() if isinstance(v, Sequence) and len(v) != len(tree.answers))
    if name := next(uneven, None):
        raise TrainingError(f'"{name}" does not fit the {len(tree.answers)} answers', where=where)
    for answer in tree.answers:
        figures = {"weights": answer.weights, **answer.streams} | ({} if answer.top is None else {"top": answer.top})
        short = next((name for name, values in figures.items() if len(values) != len(answer.ids)), None)
        if short:
            raise TrainingError(f"{len(answer.ids)} ids, but {len(figures[short])} {short}", where=f"row {answer.row}")
        if answer.top is not None and answer.top.ids.shape != answer.top.logp.shape:
            raise TrainingError("the teacher's ids and logprobs differ in shape", where=f"row {answer.row}")
        if any(weight < 0 or not math.isfinite(weight) for weight in answer.weights):
            raise TrainingError("a weight is negative or not a number", where=f"row {answer.row}")
