"""What "auto" becomes, and why: resolved once, printed, and kept with the version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from burnish.config import Paced, Recipe
from burnish.training.schedule import require_fit

T = TypeVar("T")
SMALLEST_UPDATES = 32


@dataclass(frozen=True)
class Choice:
    """A setting's value and why it has it."""

    value: Any
    why: str


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


def sft_settings(recipe: Recipe, rows: int) -> dict[str, Choice]:
    """Rank, learning rate, batch size and epochs of the supervised stage for so many training rows."""
    batch = chosen(recipe.sft.batch_size, 8 if rows >= 64 else 4, f"{rows} rows")
    passes = max(1, -(-SMALLEST_UPDATES * int(batch.value) // max(rows, 1)))
    epochs = chosen(recipe.sft.epochs, min(passes, 10), f"at least {SMALLEST_UPDATES} updates, at most 10 passes")
    return {
        "rank": chosen(recipe.adapt.rank, 16, "enough for style and small domains"),
        "learning_rate": chosen(recipe.sft.learning_rate, 1e-3, "low-rank adapters on a small model"),
        "batch_size": batch,
        "epochs": epochs,
        **paced(recipe.sft, "sft", -(-rows // int(batch.value)) * int(epochs.value)),
    }


def reward_settings(recipe: Recipe) -> dict[str, Choice]:
    """Rank, learning rate and epochs of the reward stage."""
    assert recipe.reward is not None
    return {
        "rank": chosen(recipe.adapt.rank, 16, "as in the supervised stage"),
        "learning_rate": chosen(recipe.reward.learning_rate, 1e-3, "a head and the last layers, few comparisons"),
        "epochs": chosen(recipe.reward.epochs, 2, "comparisons are noisy: more passes learn the noise"),
    }


def rl_settings(recipe: Recipe) -> dict[str, Choice]:
    """Learning rate and KL weight of the online stage."""
    assert recipe.rl is not None
    return {
        "learning_rate": chosen(recipe.rl.learning_rate, 3e-4, "small steps: the brake looks every other update"),
        "kl": chosen(recipe.rl.kl, 0.02, "a leash that lets style move"),
        **paced(recipe.rl, "rl", recipe.rl.updates, steady=True),
    }


def shown(choices: dict[str, Choice]) -> dict[str, dict[str, Any]]:
    """The choices as JSON, for the version's record."""
    return {name: {"value": choice.value, "why": choice.why} for name, choice in choices.items()}
