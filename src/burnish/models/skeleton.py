"""A base's structure without its weights: what names and shapes can tell before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from burnish.errors import ModelError
from burnish.models.base import Base


def skeleton(base: Base) -> Any:
    """The base's causal LM on torch's meta device: every module by its name and shape, and no number of it.

    Raises:
        ModelError: Its configuration names no model that can be built.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base.folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the base {base.name} cannot be loaded: {error}", where=str(base.folder)) from error
