"""The chunked projection against full logits."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from burnish.errors import ModelError
from burnish.models.projection import target_logp


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    hidden_SD = torch.randn(600, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    head_VD = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    return hidden_SD, head_VD, torch.randint(50, (len(hidden_SD),), generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_full_logits(parts, temperature):
    hidden_SD, head_VD, targets_S = parts
    logp_SV = (hidden_SD @ head_VD.T / temperature).log_softmax(1)
    wanted = logp_SV.gather(1, targets_S[:, None])[:, 0], -(logp_SV.exp() * logp_SV).sum(1)
    found = target_logp(hidden_SD, head_VD, targets_S, temperature, entropy=True)
    scale_S = torch.linspace(-1, 2, len(hidden_SD), dtype=torch.float64)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)
        (one,) = torch.autograd.grad((mine * scale_S).sum(), hidden_SD, retain_graph=True)
        (other,) = torch.autograd.grad((theirs * scale_S).sum(), hidden_SD, retain_graph=True)
        assert torch.allclose(one, other, atol=1e-12)
    both = torch.autograd.grad(sum((one * scale_S).sum() for one in found), hidden_SD)[0]
    all_of_it = torch.autograd.grad(sum((one * scale_S).sum() for one in wanted), hidden_SD)[0]
    assert torch.allclose(both, all_of_it, atol=1e-12)


def test_by_hand():
    hidden_SD = torch.tensor([[1.0, 0.0]], requires_grad=True)
    logp_S, entropy_S = target_logp(hidden_SD, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0]))
    assert logp_S.item() == pytest.approx(-0.313262, abs=1e-6)  # 1 - log(e + 1)
    assert entropy_S is None
    logp_S.backward()
    assert hidden_SD.grad.tolist() == [pytest.approx([0.268941, 0.0], abs=1e-6)]


def test_full_logits_are_never_built(parts):
    hidden_SD, head_VD, targets_S = parts

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                Largest.seen = max(Largest.seen, out.numel())
            return out

    with Largest():
        logp_S, entropy_S = target_logp(hidden_SD, head_VD, targets_S, entropy=True)
        (logp_S.sum() + entropy_S.sum()).backward()
    assert 600 * 8 < Largest.seen < 600 * 50 / 2


def test_nothing_supervised(parts):
    hidden_SD, head_VD, _ = parts
    logp_S, entropy_S = target_logp(hidden_SD[:0], head_VD, torch.zeros(0, dtype=torch.long), entropy=True)
    assert logp_S.shape == entropy_S.shape == (0,)
    logp_S.sum().backward()


def test_a_trainable_head_is_refused(parts):
    hidden_SD, head_VD, targets_S = parts
    with pytest.raises(ModelError, match="frozen output head"):
        target_logp(hidden_SD, head_VD.requires_grad_(), targets_S)
