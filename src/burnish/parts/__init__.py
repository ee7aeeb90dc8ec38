"""Own parts: functions of the user's, named ``package.module:function`` in the recipe, and the contracts they keep."""

from burnish.parts.contract import credit_contract, examples_of, score_contract
from burnish.parts.environment import Episode, environment_contract, start_episode
from burnish.parts.load import Part, Parts, load, parts_of, sources

__all__ = [
    "Episode",
    "Part",
    "Parts",
    "credit_contract",
    "environment_contract",
    "examples_of",
    "load",
    "parts_of",
    "score_contract",
    "sources",
    "start_episode",
]
