"""Chat: a conversation is the prompt, a message is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from burnish.data.render import Renderer
from burnish.data.supervision import TrainOn, supervision
from burnish.errors import DataError
from burnish.objectives.stream import Answer, Tree
from burnish.records import Exchange, Json, Message, Reply, Row
from burnish.sampling.request import Sample
from burnish.store.hashing import now


@dataclass(frozen=True)
class ChatTask:
    """Chat rows for one renderer.

    ``max_new_tokens`` is the longest answer that is sampled, ``train_on`` what of a conversation is trained,
    ``span_weights`` what share of its weight a token keeps where an error of that kind was marked.
    """

    renderer: Renderer
    max_new_tokens: int
    train_on: TrainOn = "last"
    span_weights: Mapping[str, float] = field(default_factory=dict)

    def prompt_ids(self, row: Row, examples: Sequence[Row] = ()) -> list[int]:
        """The ids of a row's prompt, up to where the answer begins.

        ``examples`` are answered rows that stand before the conversation as turns of its own: what prompting alone
        can do. Their system messages are left out, the row's stays first.

        Raises:
            DataError: An example has no answer, or the template refuses the conversation.
        """
        system = [message for message in row.prompt if message.role == "system"]
        shown: list[Message] = []
        for example in examples:
            if example.answer is None:
                raise DataError("an example without an answer shows nothing", where=f"row {example.number}")
            shown += [message for message in example.prompt if message.role != "system"]
            shown.append(Message("assistant", example.answer))
        rest = [message for message in row.prompt if message.role != "system"]
        return self.renderer.prompt([*system, *shown, *rest], row.documents)

    def supervised(self, row: Row, examples: Sequence[Row] = ()) -> Tree:
        """A row as its loss is measured: every id of the last answer, the stop token included.

        Raises:
            DataError: The row has no answer.
        """
        if row.answer is None:
            raise DataError("there is no answer to learn", where=f"row {row.number}", mend="give every row an answer")
        ids = self.renderer.answer(row.answer)
        return Tree(self.prompt_ids(row, examples), (Answer(ids, [1.0] * len(ids), row=row.number),))

    def trained(self, row: Row) -> Tree:
        """A row as it is trained on: the parts of it that ``train_on`` names, weighted as the row says.

        Raises:
            DataError: See `supervision`.
        """
        found = supervision(row, self.renderer, self.train_on, self.span_weights)
        return Tree(found.prompt, (Answer(found.ids, found.weights, row=row.number),))

    def pair(
        self,
        prompt_ids: Sequence[int],
        answer_a_ids: Sequence[int],
        answer_b_ids: Sequence[int],
        preference: float,
        weight: float = 1.0,
        row: int = 0,
    ) -> Tree:
        """Two answers to one prompt: ``preference`` is the share that a won, ``weight`` how many votes say so."""
        answers = tuple(Answer(ids, [1.0] * len(ids), row=row) for ids in (answer_a_ids, answer_b_ids))
        return Tree(prompt_ids, answers, {"preference": preference, "votes": weight})

    def labelled(
        self, prompt_ids: Sequence[int], answer_ids: Sequence[int], label: float, weight: float = 1.0, row: int = 0
    ) -> Tree:
        """One answer: ``label`` is the share that called it good, ``weight`` how many votes say so."""
        answer = Answer(answer_ids, [1.0] * len(answer_ids), row=row)
        return Tree(prompt_ids, (answer,), {"label": label, "votes": weight})

    def reply(self, row: Row, sample: Sample) -> Reply:
        """A sampled answer as an own reward sees it: of an episode the last one, in its conversation."""
        finished, ids = sample.finish_reason == "stop", sample.ids[sample.last :]
        return Reply((*row.prompt, *sample.said), self.renderer.text(ids), finished, len(ids), row.answer)

    def exchange(
        self,
        project: str,
        version_id: str,
        row: Row,
        prompt_ids: Sequence[int],
        sample: Sample,
        purpose: str,
        settings: Mapping[str, Json],
        id: str,
    ) -> Exchange:
        """A sampled answer as it is kept, with the ids of both sides; of an episode the last one.

        ``id`` is the caller's: a stage that names its answers by its work finds them again after a crash.
        """
        before, ids = sample.ids[: sample.last], sample.ids[sample.last :]
        return Exchange(
            id=id,
            project=project,
            version=version_id,
            purpose=purpose,
            prompt=(*row.prompt, *sample.said),
            answer=self.renderer.text(ids),
            prompt_ids=(*prompt_ids, *before),
            answer_ids=tuple(ids),
            logprobs=tuple(sample.logprobs[sample.last :]),
            finish_reason=sample.finish_reason,
            created_at=now(),
            documents=row.documents,
            subject=row.subject,
            case=row.case,
            settings={"max_new_tokens": self.max_new_tokens, **settings},
        )
