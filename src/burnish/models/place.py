"""Where a model lies and in which precision it computes: decided here, when its base is loaded; all else follows it.

The frozen base is held in the host's dtype, what is trained always in float32. In bfloat16 a matrix product rounds its
inputs; logprobs, losses, gradients of what is trained and the optimizer are float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from burnish.config import host
from burnish.errors import ConfigError

# The largest difference of a logprob, in nats: between the flat path and its slow twin, and between two machines. In
# bfloat16 SmolLM2's paths are up to 0.33 apart, and either is up to 0.26 from float32.
FLAT = {torch.float32: 1e-4, torch.bfloat16: 1.0}
LOADED = {torch.float32: 1e-3, torch.bfloat16: 1.0}
SCORED = {torch.float32: 1e-3, torch.bfloat16: 0.05}  # the same of a reward, as a share of the largest one


def place() -> tuple[torch.device, torch.dtype]:
    """The device and the dtype of the base's weights, from the host's settings.

    Raises:
        ConfigError: One of them is unknown, or there is no such device here.
    """
    device, dtype = torch.device(host.device()), getattr(torch, host.dtype())
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.backends.cuda.is_built():
            what, mend = f"PyTorch {torch.__version__} is built without CUDA", "install a build of PyTorch with CUDA"
            raise ConfigError(f"{host.DEVICE} is {device}, and {what}", mend=f"{mend}, or unset {host.DEVICE}")
        if (device.index or 0) >= count:
            raise ConfigError(f"{host.DEVICE} is {device}, and PyTorch sees {count} GPUs", mend=f"unset {host.DEVICE}")
    return device, dtype


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Within it matrix products round float32 inputs to the base's ``dtype``, as the base's own are; else nothing."""
    return nullcontext() if dtype != torch.bfloat16 else torch.autocast(device.type, dtype)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is bfloat16, itself where it is not: what logprobs are made of."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
