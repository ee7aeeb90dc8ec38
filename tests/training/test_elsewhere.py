"""Every kind of training on a device that is not the host's, pretended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from burnish.models import language
from burnish.models.language import LanguageModel
from elsewhere import DEVICE, Elsewhere, There
from training.kinds import KINDS, Run


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_not_the_hosts_trains_the_same(
    kind: str, base: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor is made where the model lies: one that is not would raise. Resumed too."""
    here = Run(kind, base(), tmp_path / "here")
    monkeypatch.setattr(language, "place", lambda: (DEVICE, torch.float32))
    with Elsewhere():
        model = base()
        assert all(isinstance(p, There) for p in model.module.parameters())
        Run(kind, model, tmp_path / "there", stop=5)
        there = Run(kind, base(), tmp_path / "there")
        assert all(isinstance(p, There) for p in there.parameters.values())
        assert there.losses == pytest.approx([*here.losses[:5], *here.losses[4:]], rel=1e-4, abs=1e-6)


def test_the_pretended_device_refuses_what_lies_on_the_host() -> None:
    with Elsewhere():
        there = torch.ones(2, 3, device=DEVICE)
        assert (there * 2 + torch.tensor(1.0)).tolist() == [[3.0] * 3] * 2
        assert there[torch.tensor([1])].device == DEVICE and there.cpu().device.type == "cpu"
        for mixed in (lambda: there + torch.ones(2, 3), lambda: there @ torch.ones(3, 1), lambda: there.numpy()):
            with pytest.raises((RuntimeError, TypeError)):
                mixed()
