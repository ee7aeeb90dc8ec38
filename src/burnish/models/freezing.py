"""What may change in a model: by count, by name, layer by layer, and from which update on.

A name is dotted, as torch gives it: ``model.layers.3.mlp.down_proj.weight``. What lies above the layers (the final
norm, a reward head) has no number and counts as above the top layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from burnish.errors import ModelError

LAYER = re.compile(r"\.layers\.(\d+)\.")
PARAMETER = re.compile(r"\.(weight|bias|lora_A|lora_B|lora_magnitude_vector)$")
EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True, kw_only=True)
class Where:
    """The part of a model that may change: what is in the last ``layers`` layers, in ``targets``, not in ``freeze``.

    ``freeze`` is how many of the lowest layers stay as they are, or patterns of names that do. A pattern is a run of
    whole parts of a dotted name, ``*`` standing for any part: ``layers.0``, ``q_proj``, ``layers.*.mlp``.
    """

    layers: int | Literal["all"] = "all"
    targets: tuple[str, ...] | Literal["all"] = "all"
    freeze: int | tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Full(Where):
    """The weights themselves are trained: those of the layers and the final norm, never embeddings or head."""


def layer_of(name: str) -> int | None:
    """Which layer of the trunk a module or tensor of this name belongs to; None: it lies outside them."""
    match = LAYER.search(name + ".")
    return int(match[1]) if match else None


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern's parts stand in a row in the name: ``layers.1`` fits ``layers.1.mlp``, not ``layers.10``."""
    parts = re.escape(pattern).replace(r"\*", "[^.]*")
    return re.search(rf"(^|\.){parts}(\.|$)", name) is not None


def choose(names: Iterable[str], where: Where, module: nn.Module) -> list[str]:
    """Those of ``names`` (modules or tensors of ``module`` that can be trained) that may change, in sorted order.

    Raises:
        ModelError: A pattern fits nothing, there are fewer layers than asked for, or nothing is left to train.
    """
    names = sorted(names)
    numbers = [number for number in map(layer_of, names) if number is not None]
    depth, lowest = 1 + max(numbers, default=-1), min(numbers, default=0)
    if where.layers != "all" and not 1 <= where.layers <= depth - lowest:
        what = f"cannot train the last {where.layers} layers: {depth - lowest} can be"
        raise ModelError(what, where="adapt.layers", mend=f"lower layers: at most {depth - lowest}")
    first = 0 if where.layers == "all" else depth - where.layers
    frozen: tuple[str, ...] = ()
    if isinstance(where.freeze, int):
        if where.freeze >= depth:
            what = f"cannot freeze the lowest {where.freeze} layers: the model has {depth}"
            raise ModelError(what, where="adapt.freeze", mend=f"at most {depth - 1}, so that one is left to train")
        first = max(first, where.freeze)
    else:
        frozen = where.freeze
    targets = ("*",) if where.targets == "all" else where.targets
    _require_frozen_known(frozen, module)
    _require_targets_known(targets, names, module)
    chosen = [
        name
        for name in names
        if (number := layer_of(name)) is None or number >= first
        if any(matches(pattern, name) for pattern in targets)
        if not any(matches(pattern, name) for pattern in frozen)
    ]
    if not chosen or (where.targets == "all" and all(layer_of(name) is None for name in chosen)):
        mend = f"of {depth} layers at least one must be left: freeze less, or train more layers"
        raise ModelError("everything is frozen: there is nothing to train", where="adapt.freeze", mend=mend)
    return chosen


def rates(names: Iterable[str], decay: float) -> dict[str, float]:
    """The factor on the learning rate of each tensor: decay ** (layers between it and the top trained one).

    Discriminative fine-tuning (Howard and Ruder 2018, arXiv:1801.06146). What lies above the layers has factor 1.
    """
    numbers = {name: layer_of(name) for name in names}
    top = max((number for number in numbers.values() if number is not None), default=0)
    return {name: 1.0 if number is None else decay ** (top - number) for name, number in numbers.items()}


def unfreezing(names: Collection[str], share: float, updates: int) -> Callable[[int], frozenset[str]]:
    """Which tensors update ``step`` trains: the top layer first, all of them from ``share`` of ``updates`` on.

    Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146), evenly spaced: of n trained layers the top
    1 + floor((n - 1) step / whole) learn, with whole = floor(share updates). What lies above the layers learns from
    the start.
    """
    return partial(_unfrozen, {name: layer_of(name) for name in sorted(names)}, int(share * updates))


def _unfrozen(numbers: dict[str, int | None], whole: int, step: int) -> frozenset[str]:
    layers = sorted({number for number in numbers.values() if number is not None}, reverse=True)
    free = len(layers) if step >= whole else 1 + (len(layers) - 1) * step // whole
    return frozenset(name for name, number in numbers.items() if number is None or number in layers[:free])


def _require_frozen_known(patterns: Iterable[str], module: nn.Module) -> None:
    every = [name for name, _ in module.named_modules()]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in every):
            inside = sorted({name.rpartition(".")[2] for name in every if layer_of(name) is not None})
            last = max((layer_of(name) or 0 for name in every), default=0)
            mend = f"known are layers.0 to layers.{last}, {', '.join(name for name in inside if not name.isdigit())}"
            raise ModelError(f'no module is called "{pattern}"', where="adapt.freeze", mend=mend)


def _require_targets_known(patterns: Iterable[str], names: list[str], module: nn.Module) -> None:
    for pattern in patterns:
        if any(matches(pattern, name) for name in names):
            continue
        if any(matches(pattern, name) for name, _ in module.named_modules() if name.endswith(EMBEDDINGS)):
            what = f"{pattern} is not trained: answers are scored in chunks through an output head that stays as it is"
            raise ModelError(what, where="adapt.targets", mend="name layers, or modules inside them")
        known = sorted({PARAMETER.sub("", name).rpartition(".")[2] for name in names})
        what = f'no module that can be trained is called "{pattern}"'
        raise ModelError(what, where="adapt.targets", mend=f"known are {', '.join(known)}")
