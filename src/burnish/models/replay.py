"""The backward of a trunk whose layers' inputs are known: layer by layer, without the forward before it.

Each layer is run again from its known input and left again at once, so that the activations of one layer exist at a
time. Its last product is known too: it is the next layer's input. At a few positions it is computed all the same, and
must be what was known (``layer.decoder_layer``). Axes: T packed tokens, S positions that are read, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from burnish.models.layer import decoder_layer
from burnish.models.trail import Inputs
from burnish.objectives import Stream

Step = tuple[Callable[[Tensor], Tensor], Tensor, list[nn.Parameter]]


def replayed(trunk: nn.Module, stream: Stream, inputs: Inputs, take_S: Tensor) -> Tensor:
    """The hidden states after the last norm at ``take`` [S, D], with a gradient for what is trained of the trunk.

    The embeddings are frozen, and all layers of the form that ``layer.fits`` knows.

    Raises:
        ModelError: (in the backward) A layer does not make of its input what is known of its output.
    """
    hidden_SD: Tensor = _Replayed.apply(trunk, stream, inputs, take_S, *_trained(trunk))
    return hidden_SD


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, trunk: Any, stream: Stream, inputs: Inputs, take_S: Tensor, *trained: Tensor) -> Tensor:
        ctx.walk = partial(_steps, trunk, stream, inputs, take_S)
        ctx.save_for_backward(*trained)
        hidden_SD: Tensor = trunk.norm(inputs(len(trunk.layers))[take_S])
        return hidden_SD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        trained = ctx.saved_tensors
        # One room for all: small gradients strewn between what comes and goes would keep the heap from shrinking.
        room = grad.new_zeros(sum(parameter.numel() for parameter in trained))
        rooms = room.split([parameter.numel() for parameter in trained])
        found = {id(p): part.view_as(p) for p, part in zip(trained, rooms, strict=True)}
        left = len(trained)
        for run, input, own in ctx.walk():
            if not left:  # nothing is trained from here on: what is known is compared, no more
                run(input)
                continue
            left -= len(own)
            last = left == 0
            input.requires_grad_(not last)
            with torch.enable_grad():
                output = run(input)
            asked = own if last else [input, *own]
            grads = torch.autograd.grad(output, asked, grad)
            for parameter, mine in zip(own, grads[len(asked) - len(own) :], strict=True):
                found[id(parameter)].copy_(mine)
            grad = grads[0]  # of the input, where it is still wanted
        return (None, None, None, None, *found.values())


def _steps(trunk: Any, stream: Stream, inputs: Inputs, take_S: Tensor) -> Iterator[Step]:
    """The norm and the layers, from the top: what runs, its known input, and what of it is trained."""
    depth = len(trunk.layers)
    known_TD = inputs(depth)[take_S]
    yield trunk.norm, known_TD, _trained(trunk.norm)
    cos_1TE, sin_1TE = trunk.rotary_emb(known_TD[None], position_ids=stream.positions_T[None])
    for number in reversed(range(depth)):
        layer = trunk.layers[number]
        run = partial(decoder_layer, layer, cos_TE=cos_1TE[0], sin_TE=sin_1TE[0], spans=stream.spans)
        take = {"take_S": take_S} if number == depth - 1 else {}
        input_TD = inputs(number) if number else trunk.embed_tokens(stream.ids_T)
        yield partial(run, **take, known_TD=known_TD.detach()), input_TD.detach(), _trained(layer)
        known_TD = input_TD
