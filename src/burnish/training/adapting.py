"""What [adapt] means in every stage that trains: what is put on a version, at which rates, and when it learns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from burnish.config import Adapt, Recipe
from burnish.models.adapters import Lora
from burnish.models.artifacts import Loaded
from burnish.models.freezing import Full, rates, unfreezing
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
