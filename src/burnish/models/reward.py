"""A reward model: a frozen version, what is trained of its last layers, and a scalar head on each answer's last
token.

Axes: T packed tokens, D width, A answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.place import wide
from burnish.objectives import Stream

CONFIG, HEAD = "reward.json", "reward_head.safetensors"


class RewardModel:
    """``trunk`` is the language model below the head; ``head_D`` starts at zero, so that every score does."""

    def __init__(self, trunk: LanguageModel, head_D: Tensor, trainable: bool = False) -> None:
        self.trunk = trunk
        self.head_D = nn.Parameter(head_D, requires_grad=trainable)

    @classmethod
    def on(cls, version: LanguageModel, how: Lora | Full, layers: int, seed: int) -> RewardModel:
        """A new reward model on a version, merged and frozen, whose last ``layers`` layers learn as ``how`` says.

        Raises:
            ModelError: The version has fewer layers, or ``how`` freezes them all.
        """
        trunk = version.merged().trainable(replace(how, layers=layers), seed)
        return cls(trunk, torch.zeros(trunk.head.shape[1], device=trunk.device), trainable=True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in sorted order."""
        head = {"head": self.head_D} if self.head_D.requires_grad else {}
        return head | self.trunk.parameters()

    def scores(self, stream: Stream) -> Tensor:
        """The reward of each answer [A]: a difference of d means odds of exp(d).

        Raises:
            ModelError: The stream was packed without each answer's last token.
        """
        if stream.last_A is None:
            raise ModelError("a reward model reads each answer's last token", mend="pack(..., keep_last=True)")
        return stream.here(wide(self.trunk.hidden(stream, stream.last_A)) @ self.head_D)

    def files(self) -> dict[str, bytes]:
        """What its trunk is beside the version (see ``LanguageModel.files``), and the head.

        Raises:
            ModelError: A weight is not finite.
        """
        head_D = self.head_D.detach().cpu().contiguous()
        if not head_D.isfinite().all():
            raise ModelError("the reward head is not finite", mend="lower reward.learning_rate")
        config = json.dumps({"kind": "scalar head on the last token", "width": len(head_D)}, sort_keys=True)
        return self.trunk.files() | {CONFIG: config.encode(), HEAD: save({"head": head_D})}

    @classmethod
    def load(cls, version: LanguageModel, files: Mapping[str, Path]) -> RewardModel:
        """A frozen reward model from its files, on the version that it was trained on.

        Raises:
            ModelError: A file is missing or broken, or does not fit the version.
        """
        if HEAD not in files:
            raise ModelError(f"the reward model has no {HEAD}")
        try:
            head_D = load_file(files[HEAD])["head"]
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelError(f"the reward head cannot be read: {error}", where=str(files[HEAD])) from error
        if head_D.shape != version.head.shape[1:]:
            raise ModelError(f"the reward head is {tuple(head_D.shape)} wide, the version {version.head.shape[1]}")
        return cls(version.merged()._adapt(files, None, False, 0), version.here(head_D))
