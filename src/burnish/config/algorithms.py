"""What each algorithm of reinforcement learning reads, and its own value of every key.

The one table of these: a recipe is checked against it when it is loaded, the reference page prints it, and
``training.algorithms`` holds the functions that read the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Aggregate = Literal["token", "sequence", "constant"]
Scale = Literal["group", "batch"]
Whitened = Literal["rewards", "advantages"]


@dataclass(frozen=True)
class Knobs:
    """Every key that only some algorithms read, resolved; one that an algorithm does not read is at rest."""

    clip: tuple[float, float] = (0.2, 0.2)
    aggregate: Aggregate = "token"
    scale: Scale = "group"
    kl_in: Literal["loss", "reward"] = "loss"
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    kl_target: float | Literal["off"] = "off"
    entropy: float = 0.0
    importance_cap: float | None = None
    inner_epochs: int = 1
    minibatches: int = 2
    dynamic_sampling: int = 0
    overlong: float = 0.0
    gae_lambda: float = 0.95
    discount: float = 1.0
    value_weight: float = 0.1
    value_clip: float | Literal["off"] = 0.2
    whiten: tuple[Whitened, ...] = ()
    beta: float = 0.1


_INNER: Mapping[str, Any] = {"inner_epochs": 1, "minibatches": 2}
_POLICY: Mapping[str, Any] = {
    "clip": (0.2, 0.2), "kl": 0.02, "entropy": 0.0, "importance_cap": 2.0, "demonstrations": 0.0, **_INNER,
}  # fmt: skip
_IN_LOSS: Mapping[str, Any] = {"kl_in": "loss", "kl_estimator": "k3", "kl_target": "off"}
_IN_REWARD: Mapping[str, Any] = {"kl_in": "reward", "kl_estimator": "k1", "kl_target": "off"}
_GROUPS: Mapping[str, Any] = {**_POLICY, "dynamic_sampling": 0, "overlong": 0.0}
_VALUES: Mapping[str, Any] = {
    "gae_lambda": 0.95,
    "discount": 1.0,
    "value_weight": 0.1,
    "value_clip": 0.2,
    "whiten": ("advantages",),
}
_OWN: Mapping[str, Any] = {**_GROUPS, **_IN_LOSS, "clip": (0.2, 0.28), "aggregate": "token"}

READS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {**_POLICY, **_IN_REWARD, "aggregate": "token", "overlong": 0.0, **_VALUES, "inner_epochs": 2},
    "grpo": {**_OWN, "scale": "group"},
    "dr_grpo": {**_GROUPS, **_IN_LOSS, "kl": 0.0},
    "dapo": {
        **_GROUPS, **_IN_LOSS, "scale": "group", "kl": 0.0, "clip": (0.2, 0.28), "dynamic_sampling": 3, "overlong": 0.2,
    },
    "gspo": {**_GROUPS, **_IN_LOSS, "scale": "group", "clip": (3e-4, 4e-4)},
    "rloo": {**_GROUPS, **_IN_REWARD, "aggregate": "constant"},
    "reinforce++": {**_POLICY, **_IN_REWARD, "aggregate": "token", "overlong": 0.0},
    "online_dpo": {"beta": 0.1, "demonstrations": 0.0, "overlong": 0.0, **_INNER},
    "rejection": {"overlong": 0.0, **_INNER},
}  # fmt: skip
ALONE = frozenset({"ppo", "reinforce++"})  # need no second answer to a prompt
CREDITS_WRITTEN = frozenset({"grpo", "dr_grpo", "dapo"})  # rl.luffy
KEYS = tuple(dict.fromkeys(key for reads in READS.values() for key in reads))


def reads(algorithm: str) -> Mapping[str, Any]:
    """The keys that an algorithm, or an own credit function, reads, with their values where the recipe is silent."""
    return READS.get(algorithm, _OWN)
