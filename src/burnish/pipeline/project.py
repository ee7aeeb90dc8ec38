"""A project: a recipe, the store beside it, and the verbs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from burnish import config
from burnish.config import Recipe
from burnish.config.host import cache_folder
from burnish.errors import ConfigError, StoreError
from burnish.progress import Plain, Progress
from burnish.records import Promotion, Record, VoteKind
from burnish.store import Store, Work, open_store

if TYPE_CHECKING:
    from burnish.data import Renderer
    from burnish.models.base import Base
    from burnish.parts import Parts
    from burnish.pipeline.turn import Outcome
    from burnish.recipes.support.raters import Rater
    from burnish.training.teaching import Teacher

STORE = ".burnish"
OWN_VERSION = re.compile(r"[a-z0-9][a-z0-9_-]*@\d+")


class Project:
    """What a recipe and its store can do.

    Args:
        recipe: Path of the recipe.
        store: Folder of the store; default ``BURNISH_STORE``, else ``.burnish`` beside the recipe.
        progress: Who hears what long work says; default plain lines on standard error.

    Raises:
        ConfigError: The recipe is wrong.
        StoreError: The store cannot be opened.
    """

    def __init__(self, recipe: str | Path, store: str | Path | None = None, progress: Progress | None = None) -> None:
        self.path = Path(recipe)
        self.recipe: Recipe = config.load(self.path)
        self.folder = self.path.absolute().parent
        self._store_path = Path(store or os.environ.get("BURNISH_STORE") or self.folder / STORE)
        self.progress: Progress = progress or Plain()
        self.cache = cache_folder()

    def with_seed(self, seed: int) -> Project:
        """The same recipe under another seed, in a store of its own below this one."""
        other = Project(self.path, self._store_path / "repeat" / f"seed-{seed}", self.progress)
        other.recipe = self.recipe.model_copy(update={"seed": seed})
        return other

    @cached_property
    def parts(self) -> Parts:
        """The own parts that the recipe names, loaded at first use.

        Raises:
            PartError: A name leads nowhere, or somewhere it must not; or the module's own code raises.
        """
        from burnish.parts import parts_of

        return parts_of(self.recipe, self.folder)

    @cached_property
    def store(self) -> Store:
        """The store, opened at first use."""
        return open_store(self._store_path)

    @property
    def has_store(self) -> bool:
        """Whether anything was ever kept: looking alone makes no store."""
        return (self._store_path / "burnish.db").exists()

    def run(self) -> Outcome:
        """Walk the circle once, from where it stands.

        Raises:
            StoreError: Another run holds the store.
        """
        from burnish.pipeline.turn import run_turn

        with self.store.run_lock("burnish run"):
            return run_turn(self, self.turn_number())

    def train(self, stage: str | None = None) -> Outcome:
        """Run the training stages of the turn up to ``stage`` (None: the last one), and judge nothing.

        Raises:
            ConfigError: The recipe has no such stage.
            StoreError: Another run holds the store.
        """
        from burnish.pipeline.turn import run_training

        stages = self.training_stages()
        if stage is not None and stage not in stages:
            raise ConfigError(
                f"the recipe trains no {stage} stage", where=str(self.path), mend=f"add the table [{stage}]"
            )
        with self.store.run_lock("burnish train"):
            return run_training(self, self.turn_number(), stage or stages[-1])

    def training_stages(self) -> list[str]:
        """The recipe's stages that train something, in order."""
        later = ("preference", "reward", "spans", "rl")
        return ["sft", *(name for name in later if getattr(self.recipe, name) is not None)]

    def turn_number(self) -> int:
        """The turn to walk: the next one where enough new votes are in since the last one ended, else the last."""
        turns = self.store.records(self.recipe.name, "turn")
        if not turns:
            return 1
        number = max(int(turn.body["number"]) for turn in turns)
        if not self.recipe.vote_kinds or self.fresh_votes() < self.recipe.loop.comparisons:
            return number
        return number + 1

    def fresh_votes(self) -> int:
        """Votes that no turn has been fed yet."""
        snapshots = self.store.records(self.recipe.name, "snapshot")
        return self.votes_cast(after=int(snapshots[-1].body["up_to"]) if snapshots else 0)

    def prepare(self) -> Record:
        """The dataset: read, cleaned, split."""
        from burnish.data import prepare

        return prepare(self.recipe, self.folder, self.store, self.renderer, self.progress)

    def production(self) -> Record | None:
        """The version that serves, or None before the first promotion."""
        from burnish import registry

        return registry.production(self.store, self.recipe.name)

    def start(self, number: int, sft: Record) -> tuple[Record, Record]:
        """The version that turn ``number`` starts from, and the one in production then: fixed when the turn begins."""
        serving = self.production() or sft
        wanted = sft if number == 1 or self.recipe.start == "sft" else serving
        work = Work(
            kind="start",
            stage="start",
            version=1,
            settings={"turn": number, "start": self.recipe.start},
            parents=(sft,),
            seed=0,
            project=self.recipe.name,
        )
        fixed = self.store.once(work, lambda: {"version": wanted.id, "production": serving.id}).body
        return self.store.record(fixed["version"]), self.store.record(fixed["production"])

    def serving_before(self, candidate: Record, base: Record) -> Record:
        """What was in production before ``candidate`` was promoted, or is now where it was not; else the base."""
        from burnish import registry

        lines = registry.history(self.store, self.recipe.name)
        first = next((line for line in lines if line.version == candidate.id), None)
        previous = first.previous if first else (self.production() or base).id
        return self.store.record(previous) if previous else base

    def promote_once(self, version: Record, only_first: bool = False) -> Promotion | None:
        """Promote a version that passed, unless it has been promoted before (a later rollback is a person's word)."""
        from burnish import registry

        history = registry.history(self.store, self.recipe.name)
        if (only_first and history) or any(line.version == version.id for line in history):
            return None
        return registry.promote(self.store, self.recipe.name, version.id, by="burnish run")

    def votes_cast(self, after: int = 0, kinds: Collection[VoteKind] | None = None) -> int:
        """Votes for training from the sources that the recipe learns from, later than event ``after``.

        ``kinds``: of these alone; None: of all that a stage learns from.
        """
        from burnish.feedback import votes

        kinds, sources = kinds or self.recipe.vote_kinds, self.recipe.feedback.sources
        cast = votes(self.store, self.recipe.name, kinds=kinds, sources=sources, purpose="train")
        return sum(vote.sequence > after for vote in cast)

    def raters_known(self) -> int:
        """People who have given a name on the page."""
        from burnish.feedback import raters

        return sum(rater.source == "human" for rater in raters(self.store, self.recipe.name).values())

    @property
    def own_base(self) -> Record | None:
        """The version that the recipe names as its base ("support@6"), where it names one of this store."""
        return self._version(self.recipe.base, "base")

    def _version(self, name: str, key: str) -> Record | None:
        """The version of this store that ``key`` of the recipe names; None where ``name`` is no version's name."""
        if OWN_VERSION.fullmatch(name) is None:
            return None
        if not self.has_store:  # looking alone makes no store
            raise StoreError(f'there is no version "{name}": nothing has been made yet', where=key)
        try:
            return self.store.record(name)
        except StoreError as error:
            raise StoreError(error.what, where=key, mend=error.mend) from error

    @cached_property
    def resolved_base(self) -> Base:
        """The base model on this machine; a package's weights are converted once."""
        from burnish.models.base import resolve_base

        name = self.own_base.body["base"]["name"] if self.own_base else self.recipe.base
        return resolve_base(name, self.cache, self.progress, relative_to=self.folder)

    @cached_property
    def renderer(self) -> Renderer:
        """What turns conversations into ids, as the base's tokenizer and template say."""
        from burnish.data import Renderer

        return Renderer.from_folder(self.resolved_base.folder, self.recipe.data.system)

    def base(self) -> Record:
        """What training starts from: the base as version 0 of the project, or the own version that the recipe names."""
        from burnish.models.artifacts import adopt_version, base_version

        own = self.own_base
        if own is None:
            return base_version(self.store, self.recipe.name, self.resolved_base, self.renderer, self.progress)
        if own.project == self.recipe.name:
            return own
        return adopt_version(self.store, self.recipe.name, own, self.renderer, self.cache)

    def teacher(self) -> Teacher | None:
        """Whom the supervised stage learns from beside the rows, where the recipe names one.

        Raises:
            ModelError: It is not there, or has another tokenizer than the base.
            StoreError: It is a version that does not exist.
        """
        from burnish.training.teaching import Teacher

        name = self.recipe.sft.teacher
        if name is None:
            return None
        own = self._version(name, "sft.teacher")
        if own is not None:
            teacher = Teacher.of_version(name, own, self.store)
        else:
            teacher = Teacher.of_base(name, self.cache, self.folder, self.progress)
        teacher.require_tokenizer(self.renderer)
        return teacher

    def import_adapter(self, folder: Path, base: str | None) -> Record:
        """An adapter made by another tool, as a version.

        Raises:
            ModelError: It does not fit the base.
        """
        from burnish.models.artifacts import import_adapter
        from burnish.models.base import resolve_base
        from burnish.models.peft_layout import made_for

        found = self.resolved_base if base is None else resolve_base(base, self.cache, self.progress)
        made = import_adapter(self.store, self.recipe.name, folder, found, self.renderer, self.base())
        named = made_for(folder)
        if named is not None and Path(named).name.lower() != Path(found.name).name.lower():
            said = f'the adapter says that it was made for "{named}", and this base is "{found.name}"'
            self.progress.say(f"{said}: its layers fit, and more cannot be known")
        return made

    def raters(self, purpose: Literal["train", "judge"]) -> tuple[Rater, ...]:
        """The simulated raters, where the recipe asks for them: those who train, or those who judge."""
        if self.recipe.feedback.simulate is None:
            return ()
        from burnish.recipes.support.raters import CRITERIA, panel

        strange = next((name for name in self.recipe.feedback.criteria if name not in CRITERIA), None)
        if strange is not None:
            what = f'the simulated raters know nothing about "{strange}"'
            raise ConfigError(what, where="feedback.criteria", mend=f"they judge {' and '.join(CRITERIA)}")
        training, judging = panel(self.recipe.seed)
        return training if purpose == "train" else judging

    @property
    def score(self) -> Callable[[str, str, bool], Mapping[str, float]] | None:
        """The parts of the judging raters' rule and their mean utility, where raters are simulated."""
        judges = self.raters("judge")
        if not judges:
            return None
        from burnish.recipes.support.raters import Reply, parts

        def score(question: str, answer: str, finished: bool) -> Mapping[str, float]:
            reply = Reply(answer, finished)
            utility = sum(judge.score(question, reply) for judge in judges) / len(judges)
            return {"utility": utility, **parts(question, answer, finished)}

        return score
