"""The causal language model: a frozen base, one adapter, and logprobs of flat streams.

Axes: T packed tokens, S supervised positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.errors import ModelError
from burnish.models import adapters, attention
from burnish.models.adapters import Lora
from burnish.models.base import Base
from burnish.models.layer import decoder_layer
from burnish.models.projection import project
from burnish.objectives import Outputs, Stream


class LanguageModel:
    """A base with at most one adapter. ``module`` is transformers' causal LM; the base's tensors are frozen.

    ``path`` is "flat" (packed streams) or "slow" (transformers' plain forward, one row at a time, eager
    attention, full logits); ``message`` says why where it is slow. ``folded`` says that an adapter was folded
    into the weights, which are no longer the base's.
    """

    def __init__(self, module: Any, base: Base, checkpointing: bool = False) -> None:
        self.module, self.base, self.folded = module, base, False
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
        from transformers import AutoModelForCausalLM, logging

        logging.disable_progress_bar()
        try:
            module = AutoModelForCausalLM.from_pretrained(
                base.folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
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
        """Another model over the same base tensors: without an adapter, with a saved or with a new one.

        Raises:
            ModelError: This model's adapter is folded into its weights, or the new one does not fit.
        """
        if self.folded:
            raise ModelError("a model with a folded adapter has no base tensors to share")
        twin = self._shell(share_adapter=True)
        adapters.detach(twin.module, merge=False)
        return twin._adapt(adapter, lora, trainable, seed)

    def frozen_copy(self) -> LanguageModel:
        """This model as it is now, frozen: its own copy of the adapter, over the same base tensors."""
        twin = self._shell(share_adapter=False)
        for parameter in twin.module.parameters():
            parameter.requires_grad_(False)
        return twin

    @property
    def context(self) -> int | None:
        """Most tokens of a prompt and its answer: the positions it knows, or its sliding window; None: unknown."""
        bounds = (getattr(self.module.config, "max_position_embeddings", None), attention.window(self.module.config))
        return min((int(bound) for bound in bounds if bound is not None), default=None)

    def merged(self) -> LanguageModel:
        """A frozen model with the adapter folded into copies of the layers it changes; the rest is shared."""
        twin = self._shell(share_adapter=True)
        twin.folded = self.folded or bool(adapters.adapted(twin.module))
        adapters.detach(twin.module, merge=True)
        return twin

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in sorted order."""
        return {name: p for name, p in sorted(self.module.named_parameters()) if p.requires_grad}

    def adapter_files(self) -> dict[str, bytes]:
        """The adapter in PEFT's layout. Raises ModelError where there is none or it is not finite."""
        return adapters.adapter_files(self.module, self.base.name)

    def logp(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """log-softmax(logits / temperature) of the targets [S], and the entropy [S] where asked for."""
        if not self._fits(stream):
            return self.logp_slow(stream, temperature, entropy)
        hidden_SD = self.hidden(stream)[stream.take_S]
        found = project(hidden_SD, self.head, stream.targets_S, temperature, entropy)
        return Outputs(found.logp_S, found.entropy_S)

    def logp_slow(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """The slow twin of ``logp``: plain forward, one row at a time, eager attention, full logits."""
        rows = [self._twin(input_ids=row, use_cache=False).logits[0, own:] for row, own in _rows(stream)]
        logits_TV = torch.cat(rows)
        logp_SV = (logits_TV[stream.take_S] / temperature).log_softmax(-1)
        logp_S = logp_SV.gather(1, stream.targets_S[:, None])[:, 0]
        return Outputs(logp_S, -(logp_SV.exp() * logp_SV).sum(-1) if entropy else None)

    def hidden(self, stream: Stream, boundary: Tensor | None = None) -> Tensor:
        """The hidden states after the last norm [T, D]; ``boundary`` (see there) spares the lower layers."""
        if not self._fits(stream):
            return self.hidden_slow(stream)
        if boundary is None or boundary.shape[1] == 0:
            return self._run(stream)
        return self._run(stream, boundary, first=self.first_trained)

    def hidden_slow(self, stream: Stream) -> Tensor:
        """The slow twin of ``hidden``."""
        trunk = self._twin.get_decoder()
        outputs = ((trunk(input_ids=row, use_cache=False), own) for row, own in _rows(stream))
        return torch.cat([output.last_hidden_state[0, own:] for output, own in outputs])

    @torch.no_grad()
    def boundary(self, stream: Stream) -> Tensor:
        """The input of the first trained layer [T, D]: the same at every step, so it may be kept.

        A row's part of it does not depend on what it is packed with. [T, 0] where there is nothing to spare:
        no layer below the first trained one, or the slow path.
        """
        if self.first_trained == 0 or not self._fits(stream):
            return torch.empty(len(stream.ids_T), 0)
        return self._run(stream, last=self.first_trained)

    @property
    def first_trained(self) -> int:
        """The lowest layer with a trained adapter (0 where nothing is trained)."""
        return min((adapters.layer_of(name) for name in self.parameters()), default=0)

    @property
    def trunk(self) -> Any:
        """The model without its output head."""
        return self.module.get_decoder()

    @property
    def head(self) -> Tensor:
        """The output head's weight [V, D]."""
        weight: Tensor = self.module.get_output_embeddings().weight
        return weight

    def use_slow(self, reason: str) -> None:
        """Run the slow path from now on, and say why."""
        self.path, self.message = "slow", f"the flat path is off, training is several times slower: {reason}"
        self.module.set_attn_implementation("eager")

    def checkpoint(self) -> None:
        """Keep only each layer's input and compute the rest again in the backward."""
        self.checkpointing = True

    @cached_property
    def _twin(self) -> Any:
        """The module that the slow path runs: the same tensors under eager attention."""
        if self.path == "slow":
            return self.module
        twin = self._shell(share_adapter=True).module
        twin.set_attn_implementation("eager")
        return twin

    def _fits(self, stream: Stream) -> bool:
        window = attention.window(self.module.config)
        if self.path == "flat" and window is not None and stream.longest > window:
            self.message = f"a row of {stream.longest} tokens exceeds the sliding window of {window}: it runs slowly"
            return False
        return self.path == "flat"

    def _run(self, stream: Stream, hidden_TD: Tensor | None = None, first: int = 0, last: int | None = None) -> Tensor:
        """The trunk's layers ``first`` to ``last`` on ``hidden`` (None: the embeddings); the norm follows the last."""
        trunk = self.trunk
        hidden_TD = trunk.embed_tokens(stream.ids_T) if hidden_TD is None else hidden_TD
        cos_1TE, sin_1TE = trunk.rotary_emb(hidden_TD[None], position_ids=stream.positions_T[None])
        for layer in trunk.layers[first:last]:
            run = partial(decoder_layer, layer, cos_TE=cos_1TE[0], sin_TE=sin_1TE[0], spans=stream.spans)
            if self.checkpointing and torch.is_grad_enabled():
                hidden_TD = checkpoint(run, hidden_TD, use_reentrant=False)
            else:
                hidden_TD = run(hidden_TD)
        return trunk.norm(hidden_TD) if last is None else hidden_TD

    def _shell(self, share_adapter: bool) -> LanguageModel:
        """A copy of the structure that shares the frozen tensors, and the adapter's where asked for."""
        tensors = chain(self.module.parameters(), self.module.buffers())
        shared = {id(tensor): tensor for tensor in tensors if share_adapter or not tensor.requires_grad}
        twin: LanguageModel = copy.copy(self)
        twin.__dict__.pop("_twin", None)
        twin.module = copy.deepcopy(self.module, shared).eval()
        twin.checkpointing = False
        return twin

    def _adapt(
        self, adapter: Mapping[str, Path] | None, lora: Lora | None, trainable: bool, seed: int
    ) -> LanguageModel:
        if adapter is not None and lora is not None:
            raise ModelError("a model has one adapter: either a saved or a new one")
        if adapter is not None:
            adapters.load_adapter(self.module, adapter, trainable)
        elif lora is not None:
            adapters.attach(self.module, lora, seed, trainable)
        return self


def _rows(stream: Stream) -> Iterator[tuple[Tensor, int]]:
    """Each span as a batch of one row: (parent's and own ids, where its own begin)."""
    for span in stream.spans:
        above = stream.ids_T[slice(*span.parent)] if span.parent else stream.ids_T[:0]
        yield torch.cat([above, stream.ids_T[span.start : span.stop]])[None], len(above)
