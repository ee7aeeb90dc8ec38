"""The recipe: one strict TOML file for what changes the model or a decision."""

from burnish.config.read import describe, load
from burnish.config.tables import (
    Adapt,
    Data,
    Evaluate,
    Feedback,
    Gate,
    Loop,
    Paced,
    Preference,
    Recipe,
    Reward,
    Rl,
    Serve,
    Sft,
    Table,
)

__all__ = [
    "Adapt",
    "Data",
    "Evaluate",
    "Feedback",
    "Gate",
    "Loop",
    "Paced",
    "Preference",
    "Recipe",
    "Reward",
    "Rl",
    "Serve",
    "Sft",
    "Table",
    "describe",
    "load",
]
