"""Layers that the policy, the reference and the reward models have in common: run once for all of them.

A reward model is the start version with its last layers adapted and a head on top, and the start version is the
reference: for the same answers, what lies below the lowest adapted layer says the same in both. So does what lies
below the policy's lowest trained layer, where only its last layers learn: every update of a rollout reads it again.
Axes: T packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from burnish.models.language import LanguageModel
from burnish.objectives.stream import Stream
from burnish.training.boundaries import by_tree, joined, trees_of


@dataclass
class SharedLayers:
    """The input of layer ``first`` of models that are the same below it: what ``LanguageModel.kept`` asks.

    Whichever of them asks first for a stream has ``model`` run its lower layers, from where ``below`` ends if others
    share fewer; the others read what came out. It is kept until the next answers come (`forget`): 4 bytes x width for
    each token in float32.
    """

    model: LanguageModel
    first: int
    below: SharedLayers | None = None
    _known: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, stream: Stream) -> tuple[Tensor, int]:
        """The input of layer ``first`` [T, D], and which it is."""
        trees = list(trees_of(stream))
        if all(key in self._known for key, _ in trees):
            return joined(stream, [self._known[key] for key, _ in trees]), self.first
        hidden_TD = self.model.boundary(stream, self.first, self.below(stream) if self.below else None)
        self._known |= by_tree(stream, hidden_TD, trees)
        return hidden_TD, self.first

    def forget(self) -> None:
        """Drop what is known of the answers so far."""
        self._known.clear()
        if self.below is not None:
            self.below.forget()


def share_layers(models: Sequence[LanguageModel], policy: LanguageModel | None = None) -> SharedLayers | None:
    """Have models run the layers that they have in common once, and hold one copy of these.

    ``models`` are frozen: the reference, then the reward models. Of the ``policy`` what lies below its first trained
    layer is shared with them. Layers are compared tensor by tensor, bit by bit, from the lowest on. None where there is
    nothing to share: one model, another base, a lowest layer that differs, or the slow path.
    """
    reference, *rewards = models
    first = _in_common(models) if rewards else 0
    under = min(policy.first_trained, _in_common([reference, policy])) if policy is not None else 0
    shared: SharedLayers | None = None
    for level in sorted({first, under} - {0}):
        shared = SharedLayers(reference, level, shared)
        sharing = [*(rewards if level <= first else []), *([policy] if policy and level <= under else [])]
        for model in (reference, *sharing):
            for number in range(level):
                _hold(model.trunk.layers[number], dict(reference.trunk.layers[number].named_parameters()))
            model.kept = shared
    return shared


def _in_common(models: Sequence[LanguageModel]) -> int:
    """How many of their lowest layers are the same in all of these models."""
    model, *others = models
    if any(each.path == "slow" or each.base.digest != model.base.digest for each in models):
        return 0
    if not all(_same(model.trunk.embed_tokens, other.trunk.embed_tokens) for other in others):
        return 0
    count = 0
    for layers in zip(*(each.trunk.layers for each in models), strict=True):
        if not all(_same(layers[0], layer) for layer in layers[1:]):
            break
        count += 1
    return count


def _same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return mine.keys() == theirs.keys() and all(_equal(mine[name], theirs[name]) for name in mine)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.dtype == other.dtype and torch.equal(one, other))


def _hold(layer: nn.Module, tensors: Mapping[str, nn.Parameter]) -> None:
    """Have the layer hold these tensors in the place of its own, which are equal."""
    for name, tensor in tensors.items():
        place, _, last = name.rpartition(".")
        setattr(layer.get_submodule(place), last, tensor)
