"""A reward model: a frozen version, what is trained of its last layers, and scalar heads on each answer's last token:
one for the choice of the better answer, and one for each criterion.

Axes: T packed tokens, D width, A answers, H heads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from burnish.config import OVERALL
from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.place import wide
from burnish.objectives import Stream

CONFIG, HEAD = "reward.json", "reward_head.safetensors"


class RewardModel:
    """``trunk`` is the language model below the heads; ``heads_HD`` start at zero, so that every score does.

    ``names`` says what each head judges. What an answer is worth is the sum of its scores by ``weights_H``: the first
    head alone, unless they are ``weighed`` otherwise.
    """

    def __init__(
        self, trunk: LanguageModel, heads_HD: Tensor, names: Sequence[str] = (OVERALL,), trainable: bool = False
    ) -> None:
        self.trunk = trunk
        self.names = tuple(names)
        self.heads_HD = nn.Parameter(heads_HD, requires_grad=trainable)
        self.weights_H = torch.zeros(len(self.names), device=heads_HD.device)
        self.weights_H[0] = 1.0

    @classmethod
    def on(
        cls, version: LanguageModel, how: Lora | Full, layers: int, seed: int, names: Sequence[str] = (OVERALL,)
    ) -> RewardModel:
        """A new reward model on a version, merged and frozen, whose last ``layers`` layers learn as ``how`` says.

        Raises:
            ModelError: The version has fewer layers, or ``how`` freezes them all.
        """
        trunk = version.merged().trainable(replace(how, layers=layers), seed)
        return cls(trunk, torch.zeros(len(names), trunk.head.shape[1], device=trunk.device), names, trainable=True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in sorted order."""
        heads = {"heads": self.heads_HD} if self.heads_HD.requires_grad else {}
        return heads | self.trunk.parameters()

    def weighed(self, weights: Mapping[str, float]) -> RewardModel:
        """The same model, its tensors shared, with other weights of its heads; none is the first head alone.

        Raises:
            ModelError: A weight is for a head that it does not have.
        """
        strange = next((name for name in weights if name not in self.names), None)
        if strange is not None:
            what = f'the reward model has no head "{strange}", only {", ".join(self.names)}'
            raise ModelError(what, where="reward.criteria", mend="weigh what it has learned")
        other = RewardModel(self.trunk, self.heads_HD.data, self.names)
        if weights:
            found = [weights.get(name, 0.0) for name in self.names]
            other.weights_H = torch.tensor(found, device=self.heads_HD.device)
        return other

    def scores(self, stream: Stream) -> Tensor:
        """The reward of each answer [A], its scores by their weights; see ``by_head``."""
        return self.by_head(stream) @ stream.here(self.weights_H)

    def by_head(self, stream: Stream) -> Tensor:
        """What each head says of each answer [A, H]: a difference of d means odds of exp(d).

        Raises:
            ModelError: The stream was packed without each answer's last token.
        """
        if stream.last_A is None:
            raise ModelError("a reward model reads each answer's last token", mend="pack(..., keep_last=True)")
        return stream.here(wide(self.trunk.hidden(stream, stream.last_A)) @ self.heads_HD.T)

    def files(self) -> dict[str, bytes]:
        """What its trunk is beside the version (see ``LanguageModel.files``), and the heads, each under its name.

        Raises:
            ModelError: A weight is not finite.
        """
        heads_HD = self.heads_HD.detach().cpu()
        if not heads_HD.isfinite().all():
            raise ModelError("the reward head is not finite", mend="lower reward.learning_rate")
        heads = {name: head_D.clone() for name, head_D in zip(self.names, heads_HD, strict=True)}
        config = json.dumps({"kind": "scalar heads on the last token", "heads": self.names}, sort_keys=True)
        return self.trunk.files() | {CONFIG: config.encode(), HEAD: save(heads)}

    @classmethod
    def load(cls, version: LanguageModel, files: Mapping[str, Path]) -> RewardModel:
        """A frozen reward model from its files, on the version that it was trained on.

        Raises:
            ModelError: A file is missing or broken, a head is missing or has another name, or they do not fit the
                version.
        """
        missing = next((name for name in (CONFIG, HEAD) if name not in files), None)
        if missing is not None:
            raise ModelError(f"the reward model has no {missing}")
        try:
            names = list(json.loads(files[CONFIG].read_text(encoding="utf-8"))["heads"])
            heads = load_file(files[HEAD])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"the reward heads cannot be read: {error}", where=str(files[HEAD])) from error
        if not names or sorted(heads) != sorted(names):
            what = f"the reward model is to have the heads {', '.join(names)}, and has {', '.join(sorted(heads))}"
            raise ModelError(what, where=str(files[HEAD]), mend="burnish verify checks its files")
        wrong = next((head_D for head_D in heads.values() if head_D.shape != version.head.shape[1:]), None)
        if wrong is not None:
            raise ModelError(f"the reward head is {tuple(wrong.shape)} wide, the version {version.head.shape[1]}")
        heads_HD = torch.stack([heads[name] for name in names])
        return cls(version.merged()._adapt(files, None, False, 0), version.here(heads_HD), names)
