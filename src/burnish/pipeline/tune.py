"""`burnish tune`: successive halving over the settings of the supervised stage, on dev rows alone.

Every trial starts from the same base and is measured after a ninth, a third and all of the rows that a trial may see;
it goes on only where it is among the best third of what was measured there before (Jamieson and Talwalkar 2016,
arXiv:1502.07943, in the asynchronous form of Li et al. 2018, arXiv:1810.05934). Where to look next is Optuna's
tree-structured Parzen estimator, how much a key mattered its PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255). The
test split is sealed before the first trial.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from burnish.errors import ConfigError, TrainingError
from burnish.models.artifacts import Loaded, load_version
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Tree
from burnish.objectives.terms import likelihood_term
from burnish.pipeline.project import Project
from burnish.pipeline.ranges import DEFAULTS, Range, Value, with_values
from burnish.records import Json, Record, Row
from burnish.store import derive_seed, digest_of
from burnish.store.runs import RunLog
from burnish.tasks import task_for
from burnish.training.adapting import adapted
from burnish.training.loop import Loop
from burnish.training.passes import Learner
from burnish.training.settings import sft_settings
from burnish.training.supervised import supervised
from burnish.training.teaching import Teaching

if TYPE_CHECKING:
    from optuna import Study

VERSION = 1
FACTOR = 3  # one third of the trials that reached a rung goes on, and sees three times as many rows
RUNGS = (1, 3)  # ninths of the rows that the longest trial sees, after which a trial is compared
END = 9
JUDGES = 128  # dev rows at most
ENOUGH = 6  # trials from which on it can be said how much a key mattered


class Late(Exception):
    """The budget is spent in the middle of a trial, which then does not count."""


@dataclass(frozen=True)
class Trial:
    """One try: its values, the loss on dev rows at each rung that it reached, and what it took.

    ``state`` is "complete", "pruned" (others were better there) or "failed" (``why``).
    """

    number: int
    values: Mapping[str, Value]
    losses: Mapping[int, float]
    state: str
    seconds: float
    why: str = ""

    @property
    def loss(self) -> float | None:
        """The last loss; None for a trial that failed."""
        return self.losses[max(self.losses)] if self.losses and self.state != "failed" else None

    @classmethod
    def from_json(cls, line: Mapping[str, Json]) -> Trial:
        """A trial as the log keeps it."""
        losses = {int(rung): float(loss) for rung, loss in line["losses"].items()}
        return cls(line["step"], line["values"], losses, line["state"], line["seconds"], line["why"])


@dataclass
class Search:
    """A search and what it has found so far.

    Args:
        base: What every trial starts from.
        rows: The training rows.
        dev: The trees that the loss is measured on.
        log: Where every trial is kept as it ends.
    """

    project: Project
    ranges: Sequence[Range]
    base: Loaded
    rows: Sequence[Row]
    dev: Sequence[Tree]
    log: RunLog
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trials = [Trial.from_json(line) for line in RunLog.read(self.log.path.parent)]
        epochs = next((r for r in self.ranges if r.key == "sft.epochs"), None)
        fixed = sft_settings(self.project.recipe, len(self.rows))["epochs"].value
        most = fixed if epochs is None else max((int(c) for c in epochs.choices), default=int(epochs.high))
        self.most = most * len(self.rows)

    @property
    def best(self) -> Trial | None:
        """The complete trial with the lowest loss."""
        done = [t for t in self.trials if t.state == "complete"]
        return min(done, key=lambda t: (t.losses[END], t.number), default=None)

    def run(self, seconds: float) -> None:
        """Try until the budget is spent; each trial is kept as it ends.

        ``seconds`` is the whole budget: what earlier calls of the same search took is part of it.
        """
        until = time.monotonic() + seconds - sum(t.seconds for t in self.trials)
        while time.monotonic() < until:
            try:
                trial = self.next(until)
            except Late:
                return
            self.trials.append(trial)
            kept = asdict(trial)
            self.log.log(kept.pop("number"), **kept)
            best = f"best {self.best.losses[END]:.4f}" if self.best else "none has come to its end"
            left = max(0.0, until - time.monotonic())
            self.project.progress.say(f"tune: trial {trial.number + 1} {trial.state}, {best}; {left:.0f} s left")

    def next(self, until: float) -> Trial:
        """One trial.

        Raises:
            Late: The time was over before it ended.
        """
        number = len(self.trials)
        study = self.study(number)
        first = self.as_it_is() if number == 0 else None
        if first is not None:
            study.enqueue_trial(first)
        values = dict(study.ask({r.key: r.distribution() for r in self.ranges}).params)
        began, losses = time.monotonic(), dict[int, float]()
        try:
            whole = self.train(number, values, losses, until)
            state, why = "complete" if whole else "pruned", ""
        except TrainingError as error:
            state, why = "failed", error.what
        return Trial(number, values, losses, state, time.monotonic() - began, why)

    def train(self, number: int, values: Mapping[str, Value], losses: dict[int, float], until: float) -> bool:
        """Train with these values from rung to rung, whose ``losses`` it notes; whether it went to its end.

        Raises:
            TrainingError: It is not finite, or the values do not fit each other.
            Late: The time is over.
        """
        model, loop = self.loop(values)
        seen, last, rungs = 0, loop.settings.updates, list(RUNGS)
        for step in range(last):
            if time.monotonic() >= until:
                raise Late
            window = loop.windows.window(step)
            loop.update(step, window)
            self.project.progress.update(f"tune: trial {number + 1}", step + 1, last)
            seen += len(window)
            if rungs and step + 1 < last and seen * END >= rungs[0] * self.most:
                rung = rungs.pop(0)
                losses[rung] = self.loss(model)
                if not self.goes_on(rung, losses[rung]):
                    return False
        losses[END] = self.loss(model)
        return True

    def loss(self, model: LanguageModel) -> float:
        """The mean loss of a token of the dev answers, whatever the trial itself minimises.

        Raises:
            TrainingError: It is not finite.
        """
        likely = Learner("sft", self.project.recipe.adapt, {}, model.logp, [likelihood_term()])
        loss = likely.measured(self.dev)["loss"]
        if not math.isfinite(loss):
            raise TrainingError("the loss on dev rows is not finite")
        return loss

    def loop(self, values: Mapping[str, Value]) -> tuple[LanguageModel, Loop]:
        """The supervised stage's model and loop with these values, from the same start for every trial."""
        project, recipe = self.project, with_values(self.project.recipe, values)
        choices = sft_settings(recipe, len(self.rows))
        seed = derive_seed(recipe.seed, "sft")
        model = adapted(recipe, self.base, seed)[0].model
        task, own, teacher = task_for(recipe, self.base.renderer), project.parts.sft, project.teacher()
        teaching = Teaching.of(teacher, recipe, model, project.store, project.cache, project.progress, own)
        trees = teaching.prepare([task.trained(row) for row in self.rows])
        folder = self.log.path.parent / "trial"
        return model, supervised(recipe.adapt, model, teaching).passes(trees, choices, seed, folder, project.progress)

    def goes_on(self, rung: int, loss: float) -> bool:
        """Whether a trial is among the best third of those that reached this rung, itself among them."""
        reached = sorted([loss, *(t.losses[rung] for t in self.trials if rung in t.losses)])
        return loss <= reached[max(0, len(reached) // FACTOR - 1)]

    def study(self, number: int) -> Study:
        """Optuna's view of the trials so far; the next one depends on them and on the recipe's seed alone."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = derive_seed(self.project.recipe.seed, "tune", str(number)) % 2**32
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8))
        known = {r.key: r.distribution() for r in self.ranges}
        state = optuna.trial.TrialState
        states = {"complete": state.COMPLETE, "pruned": state.PRUNED, "failed": state.FAIL}
        for trial in self.trials:
            study.add_trial(
                optuna.trial.create_trial(
                    state=states[trial.state],
                    value=trial.loss if trial.state == "complete" else None,
                    params=dict(trial.values),
                    distributions=known,
                    intermediate_values=dict(trial.losses),
                )
            )
        return study

    def as_it_is(self) -> dict[str, Value] | None:
        """The recipe's own values (what "auto" becomes); None where one lies outside its range."""
        recipe = self.project.recipe
        resolved = {f"sft.{k}": c.value for k, c in sft_settings(recipe, len(self.rows)).items()}
        if "sft.rank" in resolved:
            resolved["adapt.rank"] = resolved.pop("sft.rank")
        given = {f"{table}.{k}": v for table in ("sft", "adapt") for k, v in recipe.model_dump()[table].items()}
        own = {r.key: resolved.get(r.key, given[r.key]) for r in self.ranges}
        return own if all(r.holds(own[r.key]) for r in self.ranges) else None

    def mattered(self) -> dict[str, float]:
        """How much each key mattered, as shares that sum to 1; empty where there are too few trials to say."""
        import optuna

        measured = [t for t in self.trials if t.loss is not None]
        if len(measured) < ENOUGH:
            return {}
        study = optuna.create_study()
        known = {r.key: r.distribution() for r in self.ranges}
        for trial in measured:
            params = dict(trial.values)
            study.add_trial(optuna.trial.create_trial(value=trial.loss, params=params, distributions=known))
        judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=1 / FACTOR)
        return dict(optuna.importance.get_param_importances(study, evaluator=judge))


def tune(project: Project, ranges: Sequence[Range], seconds: float) -> Search:
    """Search this recipe's settings until the budget is spent; what an earlier call of the same search found counts.

    Raises:
        ConfigError: The extra "tune" is not installed, or the base brings an adapter that a range would change.
        TrainingError: There are no dev rows to choose on, or no trial came to its end.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError("burnish tune needs the extra 'tune'", mend="pip install 'burnish[tune]'") from error
    dataset, base = project.prepare(), project.base()
    with project.store.datasets.sealed("test"):
        search = _search(project, ranges, dataset, base)
        search.run(seconds)
    if search.best is None:
        failed = next((t.why for t in search.trials if t.why), "")
        raise TrainingError(
            "no trial came to its end" + (f": {failed}" if failed else " in this time"),
            mend="give a larger --budget: what was found so far is kept",
        )
    return search


def _search(project: Project, ranges: Sequence[Range], dataset: Record, base: Record) -> Search:
    recipe, store = project.recipe, project.store
    rows = store.datasets.rows(dataset.id, "train")
    judges = [row for row in store.datasets.rows(dataset.id, "dev") if row.answer is not None][:JUDGES]
    if not judges:
        raise TrainingError("there are no dev rows to choose on", mend="name data.dev, or raise data.dev_share")
    loaded = load_version(store, base, project.cache, progress=project.progress)
    if loaded.model.lora is not None:
        if any(r.key.startswith("adapt.") and r not in DEFAULTS for r in ranges):
            raise ConfigError("the base brings its own adapter, which goes on as it is", where="--range")
        ranges = [r for r in ranges if not r.key.startswith("adapt.")]
    task = task_for(recipe, loaded.renderer)
    given = recipe.model_dump(mode="json", include={"sft", "adapt", "seed"})
    what = [VERSION, dataset.digest, base.digest, given, [f"{r.key}={r}" for r in ranges]]
    folder = store.path / "tune" / digest_of(what)[:16]
    return Search(project, ranges, loaded, rows, [task.supervised(row) for row in judges], RunLog(folder))


def report(search: Search) -> list[str]:
    """What was found, for people: the recipe as it is beside the best trial, and how much each key mattered."""
    best, states = search.best, [trial.state for trial in search.trials]
    assert best is not None
    spent = sum(trial.seconds for trial in search.trials)
    lines = [
        f"{len(states)} trials in {spent / 60:.1f} minutes: {states.count('complete')} went to their end, "
        f"{states.count('pruned')} were stopped on the way, {states.count('failed')} failed",
        f"loss of a token on {len(search.dev)} dev rows: {best.losses[END]:.4f} in trial {best.number + 1}",
    ]
    first, own = search.trials[0], search.as_it_is()
    if own is None:
        lines.append("the recipe's own values lie outside the ranges: they were not tried")
    elif first.state == "complete":
        lines[-1] += f", {first.losses[END]:.4f} for the recipe as it is"
    mattered = search.mattered()
    for key, value in best.values.items():
        was = f", was {own[key]}" if own is not None else ""
        share = f"; mattered {mattered[key]:.0%}" if key in mattered else ""
        lines.append(f"  {key} = {short(value)}{was}{share}")
    if not mattered:
        lines.append(f"  how much each key mattered can be said from {ENOUGH} trials on")
    return lines


def report_json(search: Search) -> dict[str, Json]:
    """The same for a script, with every trial."""
    best = search.best
    assert best is not None
    return {
        "best": {"values": dict(best.values), "loss": best.losses[END], "trial": best.number},
        "recipe": search.as_it_is(),
        "mattered": search.mattered(),
        "dev_rows": len(search.dev),
        "trials": [asdict(trial) for trial in search.trials],
    }


def short(value: Value) -> str:
    """Three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
