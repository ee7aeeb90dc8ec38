"""Weight-decomposed adapters (DoRA, Liu et al. 2024, arXiv:2402.09353)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.models.adapters import LoraLinear


class DoraLinear(LoraLinear):
    """y = m (W + scale B A) x / |W + scale B A|, the norm taken for each output over its inputs.

    The learned magnitude m starts as the norm itself, so that a new adapter changes nothing. As the paper proposes
    (section 4.3), the norm has no gradient: it is a constant of the step.
    """

    def __init__(
        self,
        base: nn.Linear,
        lora_A: Tensor,
        lora_B: Tensor,
        scale: float,
        trainable: bool,
        magnitude: Tensor | None = None,
    ) -> None:
        super().__init__(base, lora_A, lora_B, scale, trainable)
        magnitude = self._norm() if magnitude is None else magnitude
        self.lora_magnitude_vector = nn.Parameter(magnitude, requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        both = F.linear(x, self.weight) + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)
        scaled = both * (self.lora_magnitude_vector / self._norm()).to(both.dtype)
        return scaled if self.bias is None else scaled + self.bias

    def folded(self) -> Tensor:
        """The weight that the layer multiplies with."""
        return super().folded() * (self.lora_magnitude_vector / self._norm())[:, None]

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """|W + scale B A| of each output."""
        return super().folded().norm(dim=1)
