"""The causal language model: a base, an adapter or weights of its own, and logprobs of flat streams.

Axes: T packed tokens, S supervised positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.errors import ModelError
from burnish.models import adapters, attention, peft_layout, weights
from burnish.models.adapters import Lora
from burnish.models.attaching import attach
from burnish.models.base import Base
from burnish.models.freezing import Full, choose, layer_of
from burnish.models.layer import decoder_layer, fits, plain_layer
from burnish.models.place import mixed, place, wide
from burnish.models.projection import project
from burnish.models.replay import replayed
from burnish.models.trail import MOST, Trail
from burnish.objectives import Outputs, Stream, above

# The hidden states below a layer for a stream [T, D], and that layer; None where they were not kept.
Kept = Callable[[Stream], tuple[Tensor, int] | None]


class LanguageModel:
    """A base with at most one adapter (``lora``: what it is) and weights of its own (``changed``: their names).

    ``module`` is transformers' causal LM; whatever is not named as trained is frozen. ``path`` is "flat" (packed
    streams) or "slow" (transformers' plain forward, one row at a time, eager attention, full logits); ``message`` says
    why where it is slow. ``folded`` says that the model was merged and stands for itself: the weights are no longer the
    base's, and only what is put on it afterwards is saved. ``kept`` gives hidden states of layers that do not change,
    ``trail`` those of what an engine of this model has just run.
    """

    def __init__(self, module: Any, base: Base, checkpointing: bool = False) -> None:
        self.module, self.base, self.folded = module, base, False
        self.lora: Lora | None = None
        self.changed: frozenset[str] = frozenset()
        self._trained: frozenset[str] = frozenset()
        self.kept: Kept | None = None
        self.trail: Trail | None = None
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
        """Load the base where the host says, with saved files (``adapter``: an adapter or weights) or a new ``lora``.

        Raises:
            ConfigError: The host's device or dtype is not to be had.
            ModelError: The base cannot be loaded, or the files do not fit it.
        """
        from transformers import AutoModelForCausalLM, logging

        logging.disable_progress_bar()
        device, dtype = place()
        try:
            module: Any = AutoModelForCausalLM.from_pretrained(
                base.folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"the base {base.name} cannot be loaded: {error}", where=str(base.folder)) from error
        return cls(module.to(device), base, checkpointing)._adapt(adapter, lora, trainable, seed)

    def sibling(
        self,
        adapter: Mapping[str, Path] | None = None,
        lora: Lora | None = None,
        trainable: bool = False,
        seed: int = 0,
    ) -> LanguageModel:
        """Another model over the same base tensors: without an adapter, with saved files or a new adapter.

        Raises:
            ModelError: This model has other tensors than its base, or what it is given does not fit.
        """
        if self.folded or self.changed:
            raise ModelError("a model with weights of its own, or folded, has no base tensors to share")
        twin = self._shell(())
        adapters.detach(twin.module, merge=False)
        twin.lora, twin._trained = None, frozenset()
        return twin._adapt(adapter, lora, trainable, seed)

    def trainable(self, how: Lora | Full, seed: int = 0) -> LanguageModel:
        """This version ready to be trained, over the same frozen tensors; it stays as it is, as the reference may.

        An adapter is continued with a copy of it where there is one, and is new where there is none. Full training has
        copies of the weights that may change; an adapter is folded into them first.

        Raises:
            ModelError: ``how`` names what the model does not have, freezes everything, or is another adapter than the
                one to be continued.
        """
        twin = self._shell(self._trained.union(adapters.adapter_parameters(self.module)))
        if isinstance(how, Full):
            return twin._own(how)
        if self.lora is None:
            return twin._adapt(None, how, True, seed)
        twin.lora = adapters.continued(self.lora, how)
        twin._train(choose(adapters.adapter_parameters(twin.module), how, twin.module))
        return twin

    def frozen_copy(self) -> LanguageModel:
        """This model as it is now, frozen: its own copy of what is trained, over the same frozen tensors."""
        twin = self._shell(self._trained)
        twin._train(())
        return twin

    @property
    def context(self) -> int | None:
        """Most tokens of a prompt and its answer: the positions it knows, or its sliding window; None: unknown."""
        bounds = (getattr(self.module.config, "max_position_embeddings", None), self.window)
        return min((int(bound) for bound in bounds if bound is not None), default=None)

    @property
    def window(self) -> int | None:
        """The sliding window in tokens: the flat path runs no row longer than that; None: there is none."""
        return attention.window(self.module.config)

    def merged(self) -> LanguageModel:
        """A frozen model that stands for itself: an adapter folded into copies of layers, trained weights copied."""
        twin = self.frozen_copy()
        twin.folded = self.folded or self.lora is not None or bool(self.changed)
        adapters.detach(twin.module, merge=True)
        twin.lora, twin.changed = None, frozenset()
        weights.recast(twin.module, weights.candidates(twin.module), self.dtype)
        return twin

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in sorted order; some of it may be frozen for a while (gradual unfreezing)."""
        return {name: p for name, p in sorted(self.module.named_parameters()) if name in self._trained}

    def files(self) -> dict[str, bytes]:
        """What makes this model of its base: its own weights, its adapter in PEFT's layout, nothing for the base.

        Raises:
            ModelError: A tensor is not finite.
        """
        own = weights.weight_files(self.module, self.changed, self.base) if self.changed else {}
        return own | (peft_layout.adapter_files(self.module, self.lora, self.base) if self.lora else {})

    def logp(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """log-softmax(logits / temperature) of the targets [S], and the entropy [S] where asked for."""
        if not self._fits(stream):
            return self.logp_slow(stream, temperature, entropy)
        return self.outputs(self.hidden(stream, stream.take_S), stream, temperature, entropy)

    def outputs(self, hidden_SD: Tensor, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """What ``logp`` says, from the hidden states of the supervised positions."""
        found = project(hidden_SD, self.head, self.here(stream.targets_S), temperature, entropy)
        return Outputs(stream.here(found.logp_S), None if found.entropy_S is None else stream.here(found.entropy_S))

    def logp_slow(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        """The slow twin of ``logp``: plain forward, one row at a time, eager attention, full logits."""
        with mixed(self.device, self.dtype):
            rows = (self._twin(input_ids=self.here(row), use_cache=False).logits[0, own:] for row, own in _rows(stream))
            logits_TV = stream.here(wide(torch.cat(list(rows))))
        logp_SV = (logits_TV[stream.take_S] / temperature).log_softmax(-1)
        logp_S = logp_SV.gather(1, stream.targets_S[:, None])[:, 0]
        return Outputs(logp_S, -(logp_SV.exp() * logp_SV).sum(-1) if entropy else None)

    def hidden(self, stream: Stream, take_S: Tensor | None = None) -> Tensor:
        """The hidden states after the last norm [T, D], or those of positions ``take`` alone [S, D], for less work.

        What is ``kept`` spares the lower layers, a ``trail`` the whole forward.
        """
        take_S = None if take_S is None else self.here(take_S)
        if not self._fits(stream):
            found_TD = self.hidden_slow(stream)
            return found_TD if take_S is None else found_TD[take_S]
        if self.trail is not None and take_S is not None and (inputs := self.trail.inputs(stream)):
            return replayed(self.trunk, stream, inputs, take_S)
        kept = self.kept(stream) if self.kept else None
        below_TD, first = kept or (None, 0)
        return self._run(stream, below_TD, first, take_S=take_S)

    def hidden_slow(self, stream: Stream) -> Tensor:
        """The slow twin of ``hidden``."""
        trunk = self._twin.get_decoder()
        with mixed(self.device, self.dtype):
            outputs = ((trunk(input_ids=self.here(row), use_cache=False), own) for row, own in _rows(stream))
            return torch.cat([output.last_hidden_state[0, own:] for output, own in outputs]).to(self.dtype)

    @torch.no_grad()
    def boundary(self, stream: Stream, first: int | None = None, below: tuple[Tensor, int] | None = None) -> Tensor:
        """The input of layer ``first`` [T, D]; None: of the first trained one, the same at every step, so kept.

        A row's part of it does not depend on what it is packed with. ``below``: the input of a lower layer, and which.
        """
        hidden_TD, start = below or (None, 0)
        return self._run(stream, hidden_TD, start, last=self.first_trained if first is None else first)

    def lay_trail(self, tokens: int) -> None:
        """Have the next engine of this model keep what it computes at up to so many tokens, for ``hidden`` to use.

        Not where a model is of another form, trains its embeddings, or would need more memory than ``trail.MOST``.
        """
        depth, width = len(self.trunk.layers), int(self.head.shape[1])
        form = self.path == "flat" and self.kept is None and all(self._fast) and self.dtype == torch.float32
        form = form and self.device.type == "cpu"
        size = tokens * depth * width * self.dtype.itemsize
        useful = form and size <= MOST and not any(layer_of(name) is None for name in self._trained)
        self.trail = Trail(self.parameters().values(), depth, tokens, width) if useful else None

    @property
    def first_trained(self) -> int:
        """The lowest layer that is trained at any update (0 where none is)."""
        depth = len(self.trunk.layers)
        numbers = [layer_of(name) for name in self._trained]
        return min((depth if number is None else number for number in numbers), default=0)

    @property
    def trunk(self) -> Any:
        """The model without its output head."""
        return self.module.get_decoder()

    @property
    def head(self) -> Tensor:
        """The output head's weight [V, D]."""
        weight: Tensor = self.module.get_output_embeddings().weight
        return weight

    @property
    def device(self) -> torch.device:
        """Where its tensors lie. A stream lies on the host, and what is said of it is given back there."""
        return self.head.device

    @property
    def dtype(self) -> torch.dtype:
        """What the base's weights and the hidden states are held in; what is trained is float32."""
        return self.head.dtype

    def here(self, tensor: Tensor) -> Tensor:
        """The tensor on the model's device."""
        return tensor.to(self.device)

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
        twin = self._shell(()).module
        twin.set_attn_implementation("eager")
        return twin

    @cached_property
    def _fast(self) -> tuple[bool, ...]:
        """Which layers are of the form that runs in few passes."""
        return tuple(fits(layer) for layer in self.trunk.layers)

    def _fits(self, stream: Stream) -> bool:
        if self.path == "flat" and self.window is not None and stream.longest > self.window:
            self.message = (
                f"a row of {stream.longest} tokens exceeds the sliding window of {self.window}: it runs slowly"
            )
            return False
        return self.path == "flat"

    def _run(
        self,
        stream: Stream,
        hidden_TD: Tensor | None = None,
        first: int = 0,
        last: int | None = None,
        take_S: Tensor | None = None,
    ) -> Tensor:
        """The trunk's layers ``first`` to ``last`` on ``hidden`` (None: the embeddings).

        The norm follows where ``last`` is None, on the positions ``take`` alone (None: on all).
        """
        trunk = self.trunk
        depth = len(trunk.layers)
        hidden_TD = self.here(trunk.embed_tokens(self.here(stream.ids_T)) if hidden_TD is None else hidden_TD)
        cos_1TE, sin_1TE = trunk.rotary_emb(hidden_TD[None], position_ids=self.here(stream.positions_T)[None])
        where = {"cos_TE": cos_1TE[0], "sin_TE": sin_1TE[0], "spans": stream.spans}
        with mixed(self.device, self.dtype):
            for number in range(first, depth if last is None else last):
                if number == depth - 1:
                    where["take_S"] = take_S
                fast = self._fast[number] and hidden_TD.dtype == torch.float32
                form: Callable[..., Tensor] = decoder_layer if fast else plain_layer
                run = partial(form, trunk.layers[number], **where)
                if self.checkpointing and torch.is_grad_enabled():
                    hidden_TD = checkpoint(run, hidden_TD, use_reentrant=False)
                else:
                    hidden_TD = run(hidden_TD)
            if take_S is not None and first == depth:  # no layer ran that could have left the others out
                hidden_TD = hidden_TD[take_S]
            return trunk.norm(hidden_TD).to(self.dtype) if last is None else hidden_TD

    def _shell(self, copied: Collection[str]) -> LanguageModel:
        """A copy of the structure with copies of the named tensors, which shares all others."""
        named = {id(tensor) for name, tensor in self.module.named_parameters() if name in copied}
        tensors = chain(self.module.parameters(), self.module.buffers())
        shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in named}
        twin: LanguageModel = copy.copy(self)
        for cached in ("_twin", "_fast"):
            twin.__dict__.pop(cached, None)
        twin.module = copy.deepcopy(self.module, shared)
        twin.checkpointing, twin.kept, twin.trail = False, None, None
        return twin

    def _adapt(
        self, adapter: Mapping[str, Path] | None, lora: Lora | None, trainable: bool, seed: int
    ) -> LanguageModel:
        if adapter is not None and lora is not None:
            raise ModelError("a model has one adapter: either a saved or a new one")
        if adapter is not None:
            if weights.FILE in adapter:
                self.changed = weights.load_weights(self.module, adapter, self.base)
            if peft_layout.CONFIG in adapter or weights.FILE not in adapter:
                self.lora = peft_layout.load_adapter(self.module, adapter, self.base)
        elif lora is not None:
            attach(self.module, lora, seed)
            self.lora = lora
        if trainable:
            self._train(adapters.adapter_parameters(self.module) if self.lora else self.changed)
        return self

    def _own(self, how: Full) -> LanguageModel:
        """This shell with its own, trained copies of the weights that may change, and no adapter."""
        ours = (
            frozenset() if self.folded else self.changed | {f"{name}.weight" for name in adapters.adapted(self.module)}
        )
        adapters.detach(self.module, merge=True)
        names = choose(weights.candidates(self.module), how, self.module)
        twin = self._shell(names)
        twin.lora, twin.changed = None, ours | frozenset(names)
        twin._train(names)
        return twin

    def _train(self, names: Collection[str]) -> None:
        """Train these tensors and no others, in float32."""
        self._trained = frozenset(names)
        weights.recast(self.module, names, torch.float32)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name in self._trained)


def _rows(stream: Stream) -> Iterator[tuple[Tensor, int]]:
    """Each span as a batch of one row: (the ids above it and its own, where its own begin)."""
    ids = [stream.ids_T[span.start : span.stop] for span in stream.spans]
    for own, parents in zip(ids, above(stream.spans), strict=True):
        yield torch.cat([*(ids[parent] for parent in parents), own])[None], sum(len(ids[parent]) for parent in parents)
