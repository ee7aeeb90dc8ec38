"""What [adapt] means in every stage that trains: what is put on a version, at which rates, and when it learns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.config import Adapt, Recipe, host
from burnish.errors import ModelError
from burnish.models.adapters import Lora, adapter_parameters, continued
from burnish.models.artifacts import Loaded
from burnish.models.attaching import places
from burnish.models.attention import refuse
from burnish.models.base import Base
from burnish.models.freezing import Full, choose, rates, unfreezing
from burnish.models.layer import misfit
from burnish.models.peft_layout import CONFIG, load_adapter
from burnish.models.skeleton import skeleton
from burnish.models.weights import candidates
from burnish.records import Json
from burnish.training.settings import Choice, adapter_settings


def adaptation(recipe: Recipe, own: Lora | None = None) -> tuple[Lora | Full, dict[str, Choice]]:
    """What [adapt] asks for, and how its open keys were settled; ``own`` is the adapter that is to be continued."""
    adapt = recipe.adapt
    where: dict[str, Any] = {"layers": adapt.layers, "targets": adapt.targets, "freeze": adapt.freeze}
    if adapt.method == "full" or adapt.method == "last":
        return Full(**where), {}
    choices = adapter_settings(recipe, (own.rank, own.numerator) if own else None)
    return Lora(choices["rank"].value, choices["alpha"].value, adapt.method, **where), choices


def adapted(recipe: Recipe, loaded: Loaded, seed: int) -> tuple[Loaded, dict[str, Choice]]:
    """A version ready to be trained as [adapt] says, and how the open keys were settled.

    Its own adapter is continued; one is put on a version without. ``loaded`` itself stays frozen: it is the reference.

    Raises:
        ModelError: [adapt] names what is not there, freezes everything, or differs from the adapter that is continued.
    """
    how, choices = adaptation(recipe, loaded.model.lora)
    return replace(loaded, model=loaded.model.trainable(how, seed)), choices


def require_adaptable(recipe: Recipe, base: Base, module: Any, own: Mapping[str, Path]) -> None:
    """What [adapt] names is there, and something is left to train, in every stage: known without the base's weights.

    ``module`` is the base's skeleton. ``own`` are the files of the version that the recipe names as its base, empty
    where it names none.

    Raises:
        ModelError: [adapt] names what is not there, freezes everything, or differs from the adapter that is continued;
            or there are fewer layers than reward.layers or spans.layers.
    """
    new, _ = adaptation(recipe)
    if CONFIG in own and isinstance(new, Lora):
        carried = skeleton(base)
        lora = load_adapter(carried, own, base)
        how, _ = adaptation(recipe, lora)
        assert isinstance(how, Lora)
        choose(adapter_parameters(carried), continued(lora, how), carried)
    else:
        _require_places(module, new)
    for stage, table in (("reward", recipe.reward), ("spans", recipe.spans)):
        if table is not None:
            try:
                _require_places(module, replace(new, layers=table.layers))
            except ModelError as error:
                where = f"{stage}.layers" if error.where == "adapt.layers" else error.where
                raise ModelError(error.what, where=where, mend=error.mend) from error


def fallback(recipe: Recipe, module: Any) -> str:
    """Why a base's layers do not run in few passes, and what runs instead; "" where they do. A skeleton is enough."""
    dtype = getattr(torch, host.dtype())
    if refuse(module.config):
        return ""  # there is no flat path: loading the base says so
    why = next(filter(None, (misfit(layer, dtype) for layer in module.get_decoder().layers)), "")
    if not why and recipe.adapt.method == "dora":
        why = 'adapt.method is "dora", whose layers are of another form'
    return f"transformers' own layers run instead of Burnish's faster ones: {why}" if why else ""


def _require_places(module: nn.Module, how: Lora | Full) -> None:
    if isinstance(how, Lora):
        places(module, how)
    else:
        choose(candidates(module), how, module)


def keyed_adapt(adapt: Adapt, *always: str) -> dict[str, Json]:
    """[adapt] in a work's key: the keys ``always``, and what differs from the defaults.

    So work that was done before a key existed is found, not done again.
    """
    return adapt.model_dump(mode="json", include=set(always)) | adapt.model_dump(mode="json", exclude_defaults=True)


def layer_rates(adapt: Adapt, parameters: Collection[str]) -> Mapping[str, float]:
    """The factor on each parameter's learning rate, for the loop."""
    return {} if adapt.layer_decay == 1.0 else rates(parameters, adapt.layer_decay)


def unfreezes(adapt: Adapt, parameters: Collection[str], updates: int) -> Callable[[int], frozenset[str]] | None:
    """Which parameters learn at an update of a run of so many, for the loop; None: all of them, always."""
    return None if adapt.unfreeze is None else unfreezing(parameters, adapt.unfreeze, updates)
