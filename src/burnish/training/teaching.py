"""A teacher for the supervised stage: another version or base, whose distributions the student learns as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from burnish.config import Recipe
from burnish.data.render import Renderer
from burnish.errors import ModelError
from burnish.models.artifacts import load_version
from burnish.models.base import Base, resolve_base
from burnish.models.distillation import Student, with_top
from burnish.models.language import LanguageModel
from burnish.objectives import Outputs, Stream, Term, Top, Tree, distillation_term, likelihood_term
from burnish.objectives.own import own_token_term
from burnish.parts import Part
from burnish.progress import Progress
from burnish.records import Json, Record
from burnish.store import Store
from burnish.training.remembered import BUDGET, FOLDER, Remembered

Forward = Callable[[Stream], Outputs]


@dataclass(frozen=True)
class Teacher:
    """Who teaches: a version of the store, or a base.

    ``tokenizer`` is its file. ``identity`` is what enters the key of the student's work.
    """

    name: str
    identity: Json
    tokenizer: Path
    version: Record | None
    base: Base | None

    @classmethod
    def of_version(cls, name: str, own: Record, store: Store) -> Teacher:
        """A version of the store as the teacher."""
        return cls(name, own.digest, store.blobs.path(own.body["tokenizer"]), own, None)

    @classmethod
    def of_base(cls, name: str, cache: Path, folder: Path, progress: Progress) -> Teacher:
        """A base as the teacher, named as recipes name them.

        Raises:
            ModelError: There is no such base.
        """
        try:
            base = resolve_base(name, cache, progress, relative_to=folder)
        except ModelError as error:
            raise ModelError(error.what, where="sft.teacher", mend=f"{error.mend}; or name an own version") from error
        return cls(name, base.digest, base.folder / "tokenizer.json", None, base)

    def require_tokenizer(self, renderer: Renderer) -> None:
        """Student and teacher are compared token by token: the same id is the same token.

        Raises:
            ModelError: It is not.
        """
        theirs, ours = (
            Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True) if file.is_file() else {}
            for file in (self.tokenizer, renderer.tokenizer_file)
        )
        if theirs != ours:
            raise ModelError(
                f"the teacher {self.name} has another tokenizer than the base",
                where="sft.teacher",
                mend="choose a teacher of the base's own family: distillation compares them token by token",
            )

    def load(self, store: Store, cache: Path, student: LanguageModel, progress: Progress) -> LanguageModel:
        """The teacher's model, frozen; over the tensors of the student's base where that is its own.

        Raises:
            ModelError: It is not what it was when it was saved.
        """
        if self.version is not None:
            return load_version(store, self.version, cache, like=student, progress=progress).model
        assert self.base is not None
        return student.sibling() if self.base.digest == student.base.digest else LanguageModel.load(self.base)


@dataclass(frozen=True)
class Teaching:
    """What a teacher changes in a stage: the forward, the terms, and what the trees carry."""

    forward: Forward
    terms: tuple[Term, ...]
    prepare: Callable[[Sequence[Tree]], list[Tree]]

    @classmethod
    def of(
        cls,
        teacher: Teacher | None,
        recipe: Recipe,
        student: LanguageModel,
        store: Store,
        cache: Path,
        progress: Progress,
        own: Part | None = None,
    ) -> Teaching:
        """The teacher beside the student: its most likely tokens, read once a row and kept, or all in every update.

        Without a teacher, the written answers by likelihood, or by the recipe's ``own`` loss.

        Raises:
            ModelError: The teacher's vocabulary is another.
        """
        if teacher is None:
            return cls(student.logp, _written(own), list)
        table, model = recipe.sft, teacher.load(store, cache, student, progress)
        beside = Student(student, model, table.teacher_temperature)
        terms = (
            *_written(own, 1.0 - table.teacher_weight),
            distillation_term(table.teacher_weight, stored=table.teacher_top_k != "full"),
        )
        if table.teacher_top_k == "full":
            return cls(beside.logp, terms, list)
        most, temperature = table.teacher_top_k, table.teacher_temperature
        source = [teacher.identity, most, temperature]
        kept = Remembered.made(store.cache / FOLDER, source, model)

        def read(streams: Sequence[Stream], say: Callable[[Stream], Top]) -> Iterator[Top]:
            def compute(stream: Stream) -> Mapping[str, Tensor]:
                top = say(stream)
                return {"ids": top.ids.int(), "logp": top.logp}

            for tensors in kept.read(streams, compute, progress, "teacher logprobs"):
                yield Top(tensors["ids"].long(), tensors["logp"])

        def prepare(trees: Sequence[Tree]) -> list[Tree]:
            return with_top(trees, model, most, temperature, BUDGET, read)

        return cls(Student(student, temperature=temperature).logp, terms, prepare)


def _written(own: Part | None, weight: float = 1.0) -> tuple[Term, ...]:
    """What is learned of written answers; beside an own loss the likelihood is measured, and not minimised."""
    return (likelihood_term(weight),) if own is None else (own_token_term(own, weight), likelihood_term(0.0))


def taught_by(recipe: Recipe, teacher: Teacher | None) -> dict[str, Json]:
    """What the settings of the student's work say of its teacher: nothing where there is none."""
    if teacher is None:
        return {}
    table = recipe.sft
    return {
        "teacher": teacher.identity,
        "teacher_weight": table.teacher_weight,
        "teacher_top_k": table.teacher_top_k,
        "teacher_temperature": table.teacher_temperature,
    }
