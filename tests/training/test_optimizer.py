"""Rate factors, frozen parameters, and a state that comes back: AdamW's first steps by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from burnish.errors import TrainingError
from burnish.training.optimizer import Optimizer, only


def parameters() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.tensor([1.0, 2.0])) for name in ("high", "low", "frozen")}


def test_the_first_step_is_the_rate_times_the_factor() -> None:
    """AdamW's first step is lr * g / (|g| + eps): the sign of the gradient."""
    values = parameters()
    optimizer = Optimizer(values, {"low": 0.25})
    for name in ("high", "low"):
        values[name].grad = torch.tensor([3.0, -4.0])
    optimizer.step(0.1)
    assert values["high"].tolist() == pytest.approx([0.9, 2.1])
    assert values["low"].tolist() == pytest.approx([0.975, 2.025])
    assert values["frozen"].tolist() == [1.0, 2.0]
    assert values["high"].grad is None
    assert {key.split("/")[0] for key in optimizer.state()} == {"high", "low"}


def test_clipping_scales_all_gradients_by_one_norm() -> None:
    values = parameters()
    optimizer = Optimizer(values)
    values["high"].grad, values["low"].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert optimizer.clip(1.0) == pytest.approx(5.0)
    assert values["high"].grad.tolist() == pytest.approx([0.6, 0.0], abs=1e-5)
    assert values["low"].grad.tolist() == pytest.approx([0.0, 0.8], abs=1e-5)


def test_the_state_comes_back() -> None:
    first, second = parameters(), parameters()
    one, two = Optimizer(first), Optimizer(second)
    for gradient in ([1.0, -2.0], [0.5, 0.5]):
        first["high"].grad = torch.tensor(gradient)
        one.step(0.1)
    second["high"].data.copy_(first["high"].data)
    two.restore({name: value.clone() for name, value in one.state().items()})
    for values, optimizer in ((first, one), (second, two)):
        values["high"].grad = torch.tensor([0.1, 3.0])
        optimizer.step(0.1)
    assert torch.equal(first["high"], second["high"])
    assert {key for key in two.state() if not key.startswith("high/")} == set()


@pytest.mark.parametrize("rates", [{"absent": 0.5}, {"low": 0.0}, {"low": float("nan")}])
def test_a_factor_that_means_nothing_is_refused(rates: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="learning rate"):
        Optimizer(parameters(), rates)


def test_only_what_is_named_asks_for_a_gradient() -> None:
    values = parameters()
    with only(values, {"high"}):
        assert [p.requires_grad for p in values.values()] == [True, False, False]
    with only(values, None):
        assert all(p.requires_grad for p in values.values())
    with pytest.raises(TrainingError, match="nothing would be trained"), only(values, {"elsewhere"}):
        pass
    assert all(p.requires_grad for p in values.values())
