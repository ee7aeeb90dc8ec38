"""AdamW over named parameters: a rate factor for each, and a state that a checkpoint keeps under the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from burnish.errors import TrainingError

Parameters = Mapping[str, nn.Parameter]


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) without weight decay.

    Args:
        parameters: What is trained, by name.
        rates: The factor of a parameter's learning rate, by name; 1 where it is not named.

    Raises:
        TrainingError: A factor belongs to no parameter, or is not a positive number.
    """

    def __init__(self, parameters: Parameters, rates: Mapping[str, float] | None = None) -> None:
        self.parameters = parameters
        rates = rates or {}
        wrong = [f"{name} ({factor})" for name, factor in rates.items() if name not in parameters or not factor > 0]
        if wrong:
            raise TrainingError(f"a learning rate belongs to no trained parameter or is not positive: {wrong[0]}")
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            groups.setdefault(rates.get(name, 1.0), []).append(parameter)
        by_factor = [{"params": members, "factor": factor} for factor, members in groups.items()]
        self.adam = torch.optim.AdamW(by_factor, betas=(0.9, 0.99), weight_decay=0.0)

    def clip(self, norm: float) -> float:
        """Scale the gradients to a Euclidean norm of at most ``norm``; returns the norm before."""
        return float(nn.utils.clip_grad_norm_(list(self.parameters.values()), norm))

    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient; the state of the others stays as it is."""
        for group in self.adam.param_groups:
            group["lr"] = rate * group["factor"]
        self.adam.step()
        self.clear()

    def clear(self) -> None:
        """Drop the gradients."""
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Its tensors as ``parameter/slot``; those of a parameter that was never moved are not there."""
        return {
            f"{name}/{slot}": value
            for name, parameter in self.parameters.items()
            for slot, value in self.adam.state.get(parameter, {}).items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what ``state`` gave."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, slot = key.rpartition("/")
            # The count of its steps is the host's.
            slots.setdefault(name, {})[slot] = value if slot == "step" else value.to(self.parameters[name].device)
        for name, parameter in self.parameters.items():
            self.adam.state[parameter] = slots.get(name, {})
        self.clear()


@contextmanager
def only(parameters: Parameters, names: Set[str] | None) -> Iterator[None]:
    """Within it only these parameters (None: all) ask for a gradient; the backward ends at the lowest of them.

    Raises:
        TrainingError: None of the parameters is among ``names``.
    """
    if names is not None and names.isdisjoint(parameters):
        raise TrainingError("nothing would be trained", mend="unfreeze at least one layer from the first update on")
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(names is None or name in names)
        yield
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
