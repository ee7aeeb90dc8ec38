"""Which criteria a reward can learn, and what its record says of each under the recipe's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.config import OVERALL
from burnish.errors import TrainingError
from burnish.records import Json
from burnish.rewards.pairs import Pair

LEAST_VOTES = 20  # fewer choices by a criterion teach a head nothing that could be told from chance


def learnable(pairs: Sequence[Pair], asked: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The criteria that get a head, in sorted order, and why the others get none."""
    heads, left_out = [], {}
    for name in sorted(asked):
        said = [share for pair in pairs if (share := pair.criteria.get(name)) is not None]
        votes = sum(share.votes for share in said)
        if not votes:
            left_out[name] = "nobody voted on it"
        elif votes < LEAST_VOTES:
            left_out[name] = f"{votes} votes on it, and {LEAST_VOTES} are needed"
        elif all(share.preference == 0.5 for share in said):
            left_out[name] = "every vote on it is a tie"
        else:
            heads.append(name)
    return heads, left_out


def require_weighable(weights: Mapping[str, float], left_out: Mapping[str, str]) -> None:
    """What the recipe weighs has a head.

    Raises:
        TrainingError: It has none; the message says why.
    """
    missing = next((name for name, weight in weights.items() if weight and name in left_out), None)
    if missing is not None:
        raise TrainingError(
            f'"{missing}" weighs {weights[missing]:g} in the reward, and no head learned it: {left_out[missing]}',
            where="reward.criteria",
            mend="let people vote on it on the compare page (`burnish serve`), or take it out",
        )


def weighed_centre(reward: Mapping[str, Json], weights: Mapping[str, float]) -> float:
    """The mean score of held-out answers under these weights, from a reward's record: a sum of its heads' means."""
    by_head = {OVERALL: reward["centre"]} | {name: said["centre"] for name, said in reward["criteria"].items()}
    return float(sum(weight * by_head[name] for name, weight in (weights or {OVERALL: 1.0}).items() if weight))
