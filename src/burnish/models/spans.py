"""A dense reward: a frozen version, what is trained of its last layers, and one head for each type of error, which
reads the last token of a segment and says how likely the segment has such an error.

Axes: T packed tokens, S segments' last tokens, D width, K types, A answers.
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

from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.place import wide
from burnish.objectives import Stream
from burnish.records import Segment

CONFIG, HEADS = "spans.json", "span_heads.safetensors"


class SpanModel:
    """``sizes`` are the types of error in order, each with the segments that it is told of.

    ``heads_KD`` start at zero and ``bias_K`` at the log-odds of the types, so that at first every segment is as likely
    wrong as any.
    """

    def __init__(
        self,
        trunk: LanguageModel,
        sizes: Mapping[str, Segment],
        heads_KD: Tensor,
        bias_K: Tensor,
        trainable: bool = False,
    ) -> None:
        self.trunk, self.sizes = trunk, dict(sizes)
        self.heads_KD = nn.Parameter(heads_KD, requires_grad=trainable)
        self.bias_K = nn.Parameter(bias_K, requires_grad=trainable)

    @classmethod
    def on(
        cls,
        version: LanguageModel,
        how: Lora | Full,
        layers: int,
        seed: int,
        sizes: Mapping[str, Segment],
        odds: Sequence[float],
    ) -> SpanModel:
        """A new one on a version, merged and frozen, whose last ``layers`` layers learn as ``how`` says.

        Args:
            odds: The log-odds of each type among the segments that it learns from.

        Raises:
            ModelError: The version has fewer layers, or ``how`` freezes them all.
        """
        trunk = version.merged().trainable(replace(how, layers=layers), seed)
        heads_KD = torch.zeros(len(sizes), trunk.head.shape[1], device=trunk.device)
        return cls(trunk, sizes, heads_KD, torch.tensor(odds, device=trunk.device), trainable=True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        own = {"span.bias": self.bias_K, "span.heads": self.heads_KD} if self.heads_KD.requires_grad else {}
        return own | self.trunk.parameters()

    def logits(self, stream: Stream) -> Tensor:
        """The log-odds of each type of error in the segments that end with the weighed ids [S, K].

        Raises:
            ModelError: The stream does not say how far from their answer's end these ids are ("before_end"), or was
                packed without the answers' last tokens.
        """
        if stream.last_A is None or "before_end" not in stream.streams:
            raise ModelError('segments end where "before_end" says', mend="pack(..., keep_last=True)")
        # take_S is where an id is predicted from; a head reads the id itself
        return self._at(stream, stream.last_A[stream.answer_S] - stream.streams["before_end"].long())

    @property
    def names(self) -> tuple[str, ...]:
        """The types, in the order of the heads."""
        return tuple(self.sizes)

    def by_head(self, stream: Stream) -> Tensor:
        """The log-odds of each type at every answer's last token, whatever its segments are [A, K].

        Raises:
            ModelError: The stream was packed without each answer's last token.
        """
        if stream.last_A is None:
            raise ModelError("a dense reward reads each answer's last token", mend="pack(..., keep_last=True)")
        return self._at(stream, stream.last_A)

    def _at(self, stream: Stream, places: Tensor) -> Tensor:
        return stream.here(wide(self.trunk.hidden(stream, places)) @ self.heads_KD.T + self.bias_K)

    def files(self) -> dict[str, bytes]:
        """What its trunk is beside the version (see ``LanguageModel.files``), and the heads by their type.

        Raises:
            ModelError: A weight is not finite.
        """
        heads = torch.cat([self.heads_KD, self.bias_K[:, None]], dim=1).detach().cpu()
        if not heads.isfinite().all():
            raise ModelError("a head of the dense reward is not finite", mend="lower spans.learning_rate")
        named = {f"head.{kind}": head.clone() for kind, head in zip(self.sizes, heads, strict=True)}
        config = json.dumps({"kind": "a head for each type of error", "types": self.sizes})
        return self.trunk.files() | {CONFIG: config.encode(), HEADS: save(named)}

    @classmethod
    def load(cls, version: LanguageModel, files: Mapping[str, Path]) -> SpanModel:
        """A frozen one from its files, on the version that it was trained on.

        Raises:
            ModelError: A file is missing or broken, or does not fit the version.
        """
        if CONFIG not in files or HEADS not in files:
            raise ModelError(f"the dense reward has no {HEADS if CONFIG in files else CONFIG}")
        try:
            sizes: dict[str, Segment] = json.loads(files[CONFIG].read_text(encoding="utf-8"))["types"]
            named = load_file(files[HEADS])
            heads = torch.stack([named[f"head.{kind}"] for kind in sizes])
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the span heads cannot be read: {error}", where=str(files[HEADS])) from error
        width = version.head.shape[1]
        if heads.shape[1] != width + 1:
            raise ModelError(f"the span heads are {heads.shape[1] - 1} wide, the version {width}")
        trunk = version.merged()._adapt(files, None, False, 0)
        return cls(trunk, sizes, version.here(heads[:, :-1]), version.here(heads[:, -1]))
