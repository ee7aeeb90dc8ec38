"""A student beside its teacher: logprobs and the distance between them, for the distillation term.

Axes: S supervised positions, K tokens that a teacher names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from burnish.errors import ModelError
from burnish.models.language import LanguageModel
from burnish.models.place import wide
from burnish.models.projection import project
from burnish.models.teacher import FullTeacher, Teacher, TopTeacher, most_likely, teacher_kl
from burnish.objectives import Outputs, Stream, Top, Tree, pack


@dataclass(frozen=True)
class Student:
    """A model that learns from a teacher: ``logp`` is the forward to give to the step loop.

    ``teacher`` runs beside the student on every stream; None where the answers carry the teacher's most likely tokens
    (``with_top``). Both speak the same vocabulary. ``temperature`` softens both distributions; stored ones were made at
    it.

    Raises:
        ModelError: The teacher's vocabulary has another size than the student's.
    """

    model: LanguageModel
    teacher: LanguageModel | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.teacher is not None:
            _require_same_vocabulary(self.model, self.teacher)

    def logp(self, stream: Stream) -> Outputs:
        """logp_S and teacher_kl_S; no full logits of either model."""
        here = self.model.here
        hidden_SD = self.model.hidden(stream, stream.take_S)
        logp_S = project(hidden_SD, self.model.head, here(stream.targets_S)).logp_S
        kl_S = teacher_kl(hidden_SD, self.model.head, self._teacher(stream))
        return Outputs(stream.here(logp_S), teacher_kl_S=stream.here(kl_S))

    def logp_slow(self, stream: Stream) -> Outputs:
        """The slow twin of ``logp``: plain forwards, one row at a time, eager attention, full logits."""
        logits_SV = _logits(self.model, stream)
        logp_S = logits_SV.log_softmax(-1).gather(1, stream.targets_S[:, None])[:, 0]
        softened_SV = (logits_SV / self.temperature).log_softmax(-1)
        if self.teacher is not None:
            with torch.no_grad():
                teacher_SV = (_logits(self.teacher, stream) / self.temperature).log_softmax(-1)
            return Outputs(logp_S, teacher_kl_S=(teacher_SV.exp() * (teacher_SV - softened_SV)).sum(-1))
        top = _given(stream)
        kl: list[torch.Tensor] = []
        for place in range(len(stream.take_S)):
            on = top.ids[place] >= 0
            ids, t = top.ids[place][on], top.logp[place][on].exp()
            rest_t, rest_p = 1 - t.sum(), 1 - softened_SV[place][ids].exp().sum()
            whole = (t * (t.log() - softened_SV[place][ids])).sum() + rest_t * (rest_t / rest_p).log()
            kl.append(whole if len(ids) else 0 * rest_p)
        return Outputs(logp_S, teacher_kl_S=torch.stack(kl))

    def _teacher(self, stream: Stream) -> Teacher:
        if self.teacher is None:
            top = _given(stream)
            return TopTeacher(Top(self.model.here(top.ids), self.model.here(top.logp)), self.temperature)
        with torch.no_grad():
            hidden_SE = self.teacher.hidden(stream, stream.take_S)
        return FullTeacher(hidden_SE, self.teacher.head, self.temperature)


def with_top(
    trees: Sequence[Tree],
    teacher: LanguageModel,
    most: int,
    temperature: float,
    budget: int,
    read: Callable[[Sequence[Stream], Callable[[Stream], Top]], Iterable[Top]] = lambda streams, say: map(say, streams),
) -> list[Tree]:
    """The trees with the teacher's ``most`` most likely tokens at each trained id: run once, then kept.

    8 x ``most`` bytes a token. An id that is not trained names none. ``read`` gives what the teacher says of each
    stream, by asking it or from what it said before.
    """

    @torch.no_grad()
    def say(stream: Stream) -> Top:
        hidden_SE = teacher.hidden(stream, stream.take_S)
        top = most_likely(hidden_SE, teacher.head, most, temperature)
        return Top(stream.here(top.ids), stream.here(top.logp))

    found: list[Tree] = []
    place = 0
    streams = pack(trees, budget, keep_last=False)
    for stream, top in zip(streams, read(streams, say), strict=True):
        start = 0
        for tree in trees[place : place + stream.trees]:
            answers = []
            for answer in tree.answers:
                on = torch.tensor([weight != 0 for weight in answer.weights])
                stop = start + int(on.sum())
                width = top.ids.shape[1]
                ids = torch.full((len(on), width), -1, dtype=torch.int32)
                logp = torch.full((len(on), width), -torch.inf)
                ids[on], logp[on] = top.ids[start:stop].int(), top.logp[start:stop]
                answers.append(replace(answer, top=Top(ids, logp)))
                start = stop
            found.append(replace(tree, answers=tuple(answers)))
        place += stream.trees
    return found


def _logits(model: LanguageModel, stream: Stream) -> torch.Tensor:
    """All logits of the supervised positions [S, V], by the plain forward."""
    return stream.here(wide(model.hidden_slow(stream)[model.here(stream.take_S)] @ model.head.T))


def _given(stream: Stream) -> Top:
    """The teacher's tokens of a stream; where no answer of it carries any, every position names none."""
    if stream.top is not None:
        return stream.top
    return Top(torch.full((len(stream.take_S), 1), -1), torch.full((len(stream.take_S), 1), -torch.inf))


def _require_same_vocabulary(student: LanguageModel, teacher: LanguageModel) -> None:
    sizes = len(student.head), len(teacher.head)
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"the teacher knows {sizes[1]} tokens and the student {sizes[0]}",
            mend="choose a teacher of the same family: distillation compares them token by token",
        )
