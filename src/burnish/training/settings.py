"""What "auto" becomes, and why: resolved once, printed, and kept with the version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from burnish.config import Paced, Passes, Recipe
from burnish.config.algorithms import reads
from burnish.errors import TrainingError
from burnish.training.schedule import require_fit

T = TypeVar("T")
SMALLEST_UPDATES = 32
FULL_SHARE = 0.05  # of an adapter's learning rate: weights that are trained themselves move with every input
LOOKED_AT = 0.1  # share of the reward's prompts: what is measured on at the end is another one
FEWEST = 8  # unseen rows: by fewer, a stage does not choose of itself which parameters it keeps
MORE_UNSEEN = {
    "sft": "name data.dev, or raise data.dev_share",
    "preference": "raise preference.held_out",
    "reward": "collect more comparisons",
    "spans": "mark more answers",
}
PROBE_VERSION = 1  # raised when the probe of the learning rate finds another one
PROBE_SHARE = 0.05  # of the run's updates
PROBE_LEAST, PROBE_MOST = 6, 24  # updates at each rate: fewer say nothing, more say no more
PROBE_FACTORS = (0.1, 0.3, 1.0, 3.0)  # of the default rate


@dataclass(frozen=True)
class Choice:
    """A setting's value and why it has it."""

    value: Any
    why: str

    @property
    def auto(self) -> bool:
        """Whether the recipe left it open."""
        return self.why.startswith("auto")


@dataclass(frozen=True)
class Probe:
    """How a run finds its learning rate: so many updates at each of these rates, judged on ``rows`` unseen rows."""

    rates: tuple[float, ...]
    updates: int
    rows: int


def chosen(value: T | str, auto: T, why: str) -> Choice:
    """``value`` as the recipe gives it, or ``auto`` with the reason."""
    return Choice(auto, f"auto: {why}") if value == "auto" else Choice(value, "recipe")


def paced(table: Paced, name: str, updates: int, steady: bool = False) -> dict[str, Choice]:
    """Schedule and warm-up of the stage whose table is called ``name``, for a run of so many updates.

    ``steady`` says that the stage takes small steps, whose rate need not change.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    rises = 0 if steady else min(4, updates // 8)
    choices = {
        "schedule": chosen(
            table.schedule,
            "constant" if steady else "linear",
            "small steps" if steady else "big steps first, small ones last",
        ),
        "warmup": chosen(table.warmup, rises, "small steps" if steady else "an eighth of the run, at most 4 updates"),
    }
    require_fit(choices["warmup"].value, updates, where=f"{name}.warmup")
    return choices


def adapter_settings(recipe: Recipe, own: tuple[int, float] | None = None) -> dict[str, Choice]:
    """Rank and alpha of a new adapter, or of the one that is continued (``own``); nothing where weights are trained."""
    adapt = recipe.adapt
    if adapt.method in ("full", "last"):
        return {}
    if own is not None:
        names = zip(("rank", "alpha"), (adapt.rank, adapt.alpha), own, strict=True)
        return {name: chosen(asked, found, "the adapter that is continued has it") for name, asked, found in names}
    rank = chosen(adapt.rank, 16, "enough for style and small domains")
    alpha, why = (8.0, "alpha is the same at any rank") if adapt.method == "rslora" else (2.0 * rank.value, "2 rank")
    return {"rank": rank, "alpha": chosen(adapt.alpha, alpha, why)}


def rate(recipe: Recipe, asked: float | str, low_rank: float, why: str) -> Choice:
    """The learning rate of a stage: as asked for, or ``low_rank``, the one for adapters, or its share for weights."""
    if recipe.adapt.method in ("full", "last"):
        return chosen(asked, FULL_SHARE * low_rank, "the weights themselves move: a twentieth of an adapter's rate")
    return chosen(asked, low_rank, why)


def sft_settings(recipe: Recipe, rows: int) -> dict[str, Choice]:
    """What the supervised stage's keys come to for so many training rows.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    batch = chosen(recipe.sft.batch_size, 8 if rows >= 64 else 4, f"{rows} rows")
    passes = max(1, -(-SMALLEST_UPDATES * int(batch.value) // max(rows, 1)))
    epochs = chosen(recipe.sft.epochs, min(passes, 10), f"at least {SMALLEST_UPDATES} updates, at most 10 passes")
    return {
        **adapter_settings(recipe),
        "learning_rate": rate(recipe, recipe.sft.learning_rate, 1e-3, "low-rank adapters on a small model"),
        "batch_size": batch,
        "epochs": epochs,
        **passed(recipe.sft, "sft", epochs, -(-rows // int(batch.value))),
    }


def passed(table: Passes, name: str, epochs: Choice, per_epoch: int) -> dict[str, Choice]:
    """Schedule, warm-up and looks of a stage that passes over its rows in so many updates each time.

    "early_stopping" says how often it looks at held-out rows in vain; no "evaluate_every" where it does not look.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    updates = per_epoch * int(epochs.value)
    choices = paced(table, name, updates)
    stops = table.evaluate_every != "auto" or (epochs.why != "recipe" and epochs.value > 1)
    why = "several passes of unknown use" if stops else "one pass" if epochs.value == 1 else "the recipe sets epochs"
    patience = chosen(table.early_stopping, 2 if stops else "off", why)
    if patience.value == "off":
        return {**choices, "early_stopping": patience}
    every = max(1, min(per_epoch, updates // 4))
    often = chosen(table.evaluate_every, every, "once an epoch, four times a run at least")
    return {**choices, "early_stopping": patience, "evaluate_every": often}


def looked(stage: str, choices: Mapping[str, Choice], unseen: int) -> dict[str, Choice]:
    """The choices, without looks where nobody asked for them and few rows are left to look at.

    Raises:
        TrainingError: The recipe asks for looks, and there is no such row.
    """
    asked = any(name in choices and choices[name].why == "recipe" for name in ("early_stopping", "evaluate_every"))
    if choices["early_stopping"].value == "off" or unseen >= FEWEST or (unseen and asked):
        return dict(choices)
    if asked:
        raise TrainingError("there is no row to look at", where=f"{stage}.early_stopping", mend=MORE_UNSEEN.get(stage))
    off = Choice("off", f"auto: {unseen} unseen rows are too few to choose by")
    return {name: choice for name, choice in choices.items() if name != "evaluate_every"} | {"early_stopping": off}


def preference_settings(recipe: Recipe, rows: int) -> dict[str, Choice]:
    """What the preference stage's keys come to for so many pairs or labelled answers.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    assert recipe.preference is not None
    table = recipe.preference
    batch = chosen(table.batch_size, 8 if rows >= 64 else 4, f"{rows} rows")
    passes = max(1, -(-SMALLEST_UPDATES * int(batch.value) // max(rows, 1)))
    epochs = chosen(table.epochs, min(passes, 3), f"at least {SMALLEST_UPDATES} updates, at most 3 passes")
    return {
        **adapter_settings(recipe),
        "learning_rate": rate(
            recipe, table.learning_rate, 2e-4, "a fifth of the supervised stage's: it starts where that ended"
        ),
        "batch_size": batch,
        "epochs": epochs,
        **passed(table, "preference", epochs, max(1, -(-rows // int(batch.value)))),
    }


def reward_settings(recipe: Recipe, votes: int) -> dict[str, Choice]:
    """What the reward stage's keys come to for so many votes.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    assert recipe.reward is not None
    table = recipe.reward
    batch = chosen(table.batch_size, 16, "votes are noisy: a gradient of few pairs follows the noise")
    epochs = chosen(table.epochs, 2, "comparisons are noisy: more passes learn the noise")
    return {
        **adapter_settings(recipe),
        "learning_rate": rate(recipe, table.learning_rate, 1e-3, "a head and the last layers, few comparisons"),
        "batch_size": batch,
        "epochs": epochs,
        **passed(table, "reward", epochs, max(1, -(-votes // int(batch.value)))),
    }


def span_settings(recipe: Recipe, answers: int) -> dict[str, Choice]:
    """What the keys of [spans] come to for so many marked answers.

    Raises:
        TrainingError: The warm-up is not shorter than the run.
    """
    assert recipe.spans is not None
    table = recipe.spans
    batch = chosen(table.batch_size, 8, "an answer has several segments")
    passes = max(1, -(-2 * SMALLEST_UPDATES * int(batch.value) // max(answers, 1)))
    epochs = chosen(table.epochs, min(passes, 4), f"at least {2 * SMALLEST_UPDATES} updates, at most 4 passes")
    return {
        **adapter_settings(recipe),
        "learning_rate": rate(recipe, table.learning_rate, 1e-3, "heads and the last layers, few marks"),
        "batch_size": batch,
        "epochs": epochs,
        **passed(table, "spans", epochs, max(1, -(-answers // int(batch.value)))),
    }


def rl_settings(recipe: Recipe) -> dict[str, Choice]:
    """Learning rate and KL weight of the online stage."""
    assert recipe.rl is not None
    own = reads(recipe.rl.algorithm).get("kl", 0.0)
    return {
        "learning_rate": rate(recipe, recipe.rl.learning_rate, 3e-4, "small steps: the brake looks every other update"),
        "kl": chosen(recipe.rl.kl, own, "a leash that lets style move" if own else f"{recipe.rl.algorithm} has none"),
        **paced(recipe.rl, "rl", recipe.rl.updates, steady=True),
    }


def probe_for(rate: Choice, updates: int, batch: int, unseen: int) -> tuple[Probe | None, str]:
    """The probe of a run of so many updates, and in a few words why it is so, or why there is none.

    It costs a twentieth of the run at most, the judging included: a forward is a third of an update. ``unseen`` are the
    rows that could judge. The demonstration and every run of a few hundred updates are too short for one.
    """
    if not rate.auto:
        return None, "no probe: the recipe gives the rate"
    rows = min(unseen, 32)
    judging = rows / (3 * batch)
    each = int(PROBE_SHARE * updates / len(PROBE_FACTORS) - judging * (1 + 1 / len(PROBE_FACTORS)))
    if rows == 0:
        return None, "no probe: no row is left to judge the rates on"
    if each < PROBE_LEAST:
        least = -(-(PROBE_LEAST + judging * (1 + 1 / len(PROBE_FACTORS))) * len(PROBE_FACTORS) // PROBE_SHARE)
        return None, f"no probe: it pays from {int(least)} updates on, this run has {updates}"
    found = Probe(tuple(rate.value * f for f in PROBE_FACTORS), min(each, PROBE_MOST), rows)
    tried = ", ".join(f"{r:.2g}" for r in found.rates)
    return found, f"a probe of {found.updates} updates at each of {tried} decides, at most 5 % of the run"


def keyed(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """The choices as they enter a work's key: an open learning rate is what a probe of this version will find."""
    values = {name: choice.value for name, choice in choices.items() if name != "alpha"}  # [adapt] has it
    rate = choices.get("learning_rate")
    return (
        values
        if rate is None or not rate.auto
        else values | {"learning_rate": f"auto from {rate.value}, probe {PROBE_VERSION}"}
    )


def said(choices: Mapping[str, Choice]) -> str:
    """The choices in one line, for people."""
    return ", ".join(f"{name} {choice.value} ({choice.why})" for name, choice in choices.items())


def shown(choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """The choices as JSON, for the version's record."""
    return {name: {"value": choice.value, "why": choice.why} for name, choice in choices.items()}
