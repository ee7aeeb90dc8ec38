"""The causal language model: a frozen base, one adapter, and logprobs of flat streams.

Axes: T packed tokens, S supervised positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models import adapters, attention
from burnish.models.adapters import Lora
from burnish.models.base import Base
from burnish.models.projection import target_logp
from burnish.objectives import Outputs, Stream


class LanguageModel:
    """A base with at most one adapter. ``module`` is transformers' causal LM; base tensors are shared and frozen.

    ``path`` is "flat" (packed streams) or "slow" (transformers' plain forward, one row at a time, eager attention,
    full logits); ``message`` says why where it is slow.
    """

    def __init__(self, module: nn.Module, base: Base, checkpointing: bool = False) -> None:
        self.module, self.base = module, base
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        module.eval()
        reason = attention.refuse(module.config)
        self.path: Literal["flat", "slow"] = "flat"
        self.message = ""
        self.checkpointing = False
        if reason:
            self.use_slow(reason)
        else:
            module.set_attn_implementation(attention.register())
        if checkpointing:
            self.checkpoint()

    @classmethod
    def load(
        cls,
        base: Base,
        adapter: Mapping[str, Path] | None = None,
        lora: Lora | None = None,
        trainable: bool = False,
        seed: int = 0,
        checkpointing: bool = False,
    ) -> LanguageModel:
        """Load the base in fp32, with a saved adapter (``adapter``: its files) or a new one (``lora``).

        Raises:
            ModelError: The base cannot be loaded, or the adapter does not fit it.
        """
        from transformers import AutoModelForCausalLM

        try:
            module = AutoModelForCausalLM.from_pretrained(
                base.folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"the base {base.name} cannot be loaded: {error}", where=str(base.folder)) from error
        return cls(module, base, checkpointing)._adapt(adapter, lora, trainable, seed)

    def sibling(
        self,
        adapter: Mapping[str, Path] | None = None,
        lora: Lora | None = None,
        trainable: bool = False,
        seed: int = 0,
    ) -> LanguageModel:
        """Another model over the same base tensors: without an adapter, with a saved or with a new one."""
        twin = self._shell(share_adapter=True)
        adapters.detach(twin.module, merge=False)
        return twin._adapt(adapter, lora, trainable, seed)

    def frozen_copy(self) -> LanguageModel:
        """This model as it is now, frozen: its own copy of the adapter, over the same base tensors."""
        twin = self._shell(share_adapter=False)
        for parameter in twin.module.parameters():
            parameter.requires_grad_(False)
        return twin

    def merged(self) -> LanguageModel:
        """A frozen model with the adapter folded into copies of the layers it changes; the rest is shared."""
        twin = self._shell(share_adapter=True)
        adapters.detach(twin.module, merge=True)
        return twin

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in sorted order."""
        return {name: p for name, p in sorted(self.module.named_parameters()) if p.requires_grad}

    def adapter_files(self) -> dict[str, bytes]:
        """The adapter in PEFT's layout. Raises ModelError where there is none or it is not finite."""
        return adapters.adapter_files(self.module, self.base.name)

    def logp(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """logp_S = log-softmax(logits / temperature) of the targets, and the entropy in nats where asked for."""
        if not self._fits(stream):
            return self.logp_slow(stream, temperature, entropy)
        hidden_SD = self.hidden(stream)[stream.take_S]
        logp_S, entropy_S = target_logp(hidden_SD, self.head, stream.targets_S, temperature, entropy)
        return Outputs(logp_S, entropy_S)

    def logp_slow(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """The slow twin of ``logp``: plain forward, one row at a time, eager attention, full logits."""
        logits_TV = torch.cat([self._twin(input_ids=row[None]).logits[0, own:] for row, own in _rows(stream)])
        logp_SV = (logits_TV[stream.take_S] / temperature).log_softmax(-1)
        logp_S = logp_SV.gather(1, stream.targets_S[:, None])[:, 0]
        return Outputs(logp_S, -(logp_SV.exp() * logp_SV).sum(-1) if entropy else None)

    def hidden(self, stream: Stream, boundary_TD: Tensor | None = None) -> Tensor:
        """The hidden states after the last norm [T, D]; ``boundary_TD`` (see ``boundary``) spares the lower layers."""
        if not self._fits(stream):
            return self.hidden_slow(stream)
        if boundary_TD is None:
            return self._run(self.trunk, stream, input_ids=stream.ids_T[None])
        return self._run(self._part(self.first_trained, None), stream, inputs_embeds=boundary_TD[None])

    def hidden_slow(self, stream: Stream) -> Tensor:
        """The slow twin of ``hidden``."""
        trunk = self._twin.get_decoder()
        return torch.cat([trunk(input_ids=row[None]).last_hidden_state[0, own:] for row, own in _rows(stream)])

    @torch.no_grad()
    def boundary(self, stream: Stream) -> Tensor | None:
        """The input [T, D] of the first trained layer: the same at every step, so it may be kept between epochs.

        None where there is nothing to spare: no layer below it, or the slow path.
        """
        if self.first_trained == 0 or not self._fits(stream):
            return None
        return self._run(self._part(0, self.first_trained), stream, input_ids=stream.ids_T[None])

    @property
    def first_trained(self) -> int:
        """The lowest layer with a trained adapter (0 where nothing is trained)."""
        return min((adapters._layer(name) for name in self.parameters()), default=0)

    @property
    def trunk(self) -> nn.Module:
        """The model without its output head."""
        return self.module.get_decoder()

    @property
    def head(self) -> Tensor:
        """The output head's weight [V, D]."""
        return self.module.get_output_embeddings().weight

    def use_slow(self, reason: str) -> None:
        """Run the slow path from now on, and say why."""
        self.path, self.message = "slow", f"the flat path is off, training is several times slower: {reason}"
        self.module.set_attn_implementation("eager")

    def checkpoint(self) -> None:
        """Keep only each layer's input and compute the rest again in the backward: less memory, a third more time."""
        self.checkpointing = True
        self.module.gradient_checkpointing_enable({"use_reentrant": False})
        self.module.train()
