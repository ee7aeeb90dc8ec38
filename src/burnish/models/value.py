"""A value head: what a policy expects to earn from each prefix on.

Axes: T packed tokens, S supervised positions, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from burnish.models.language import LanguageModel
from burnish.models.place import wide
from burnish.objectives import Outputs, Stream


class Critic:
    """A policy with a linear head on its own hidden states, for PPO.

    One trunk and one adapter serve both, so that a forward and a backward give logprobs and values: a second adapter
    would run the trunk twice at every update, which on a CPU is the price of the update. What the value learns moves
    the policy's adapter too; ``rl.value_weight`` bounds it. The head starts at zero: the first values are zero, and
    until the head has grown nothing of its loss reaches the trunk.

    The head belongs to training: checkpoints hold it, versions do not, because nothing serves it.
    """

    def __init__(self, policy: LanguageModel) -> None:
        self.policy = policy
        self.head_D = nn.Parameter(torch.zeros(policy.head.shape[1], device=policy.device))
        self.bias = nn.Parameter(torch.zeros((), device=policy.device))

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name: the policy's, and the head."""
        return {**self.policy.parameters(), "value.bias": self.bias, "value.head": self.head_D}

    def logp(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """As the policy's, with the value of the prefix that each target follows [S]."""
        hidden_SD = self.policy.hidden(stream, stream.take_S)
        value_S = stream.here(wide(hidden_SD) @ self.head_D + self.bias)
        return replace(self.policy.outputs(hidden_SD, stream, temperature, entropy), value_S=value_S)
