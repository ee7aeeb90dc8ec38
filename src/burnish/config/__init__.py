"""The recipe: one strict TOML file for what changes the model or a decision."""

from burnish.config.read import describe, load
from burnish.config.recipe import Data, Evaluate, Feedback, Gate, Loop, Recipe, Serve
from burnish.config.reinforcement import Rl
from burnish.config.rewards import RewardPart
from burnish.config.stages import OVERALL, Adapt, Paced, Passes, Preference, Reward, Sft
from burnish.config.table import Table

__all__ = [
    "OVERALL",
    "Adapt",
    "Data",
    "Evaluate",
    "Feedback",
    "Gate",
    "Loop",
    "Paced",
    "Passes",
    "Preference",
    "Recipe",
    "Reward",
    "RewardPart",
    "Rl",
    "Serve",
    "Sft",
    "Table",
    "describe",
    "load",
]
