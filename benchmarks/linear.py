"""A policy that is linear in features of what stands before a token: hidden states that need no network.

It has what rollouts, the step loop and a value head ask of a policy, and draws its own answers. On it an effect shows
that a network's own noise hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from online import online_loop
from torch import Tensor, nn

from burnish.config import Rl
from burnish.models.language import LanguageModel
from burnish.objectives import Outputs, Stream, above
from burnish.progress import Progress
from burnish.rewards.scores import Score
from burnish.sampling import Params, Sample
from burnish.training.loop import Loop, Settings
from burnish.training.rollouts import Rollouts

Features = Callable[[Sequence[int]], Sequence[float]]


class Linear:
    """logits = head x features(ids before the token); it starts from ``head_VD``, of V words and D features."""

    kept = None
    device = torch.device("cpu")

    def __init__(self, features: Features, head_VD: Tensor) -> None:
        self.features = features
        self.head = nn.Parameter(head_VD.clone())

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"head": self.head}

    def hidden(self, stream: Stream, take_S: Tensor) -> Tensor:
        """The features of what stands at and before the positions ``take`` [S, D]."""
        ids, known = stream.ids_T.tolist(), {}
        for span, parents in zip(stream.spans, above(stream.spans), strict=True):
            before = [id for parent in parents for id in ids[stream.spans[parent].start : stream.spans[parent].stop]]
            for place in range(span.start, span.stop):
                known[place] = self.features([*before, *ids[span.start : place + 1]])
        return torch.tensor([known[place] for place in take_S.tolist()])

    def outputs(self, hidden_SD: Tensor, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        logp_SV = (hidden_SD @ self.head.T / temperature).log_softmax(-1)
        logp_S = logp_SV.gather(1, stream.targets_S[:, None])[:, 0]
        return Outputs(logp_S, -(logp_SV.exp() * logp_SV).sum(-1) if entropy else None)

    def logp(self, stream: Stream, temperature: float = 1.0, entropy: bool = False) -> Outputs:
        return self.outputs(self.hidden(stream, stream.take_S), stream, temperature, entropy)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, params: Params, progress: Progress | None = None
    ) -> list[list[Sample]]:
        generator = torch.Generator().manual_seed(params.seed)
        prefixes = [list(prompt) for prompt in prompts for _ in range(n)]
        logprobs: list[list[float]] = [[] for _ in prefixes]
        for _ in range(params.max_new_tokens):
            logp_AV = (torch.tensor([self.features(ids) for ids in prefixes]) @ self.head.T).log_softmax(-1)
            drawn_A1 = torch.multinomial(logp_AV.exp(), 1, generator=generator)
            said = zip(drawn_A1[:, 0].tolist(), logp_AV.gather(1, drawn_A1)[:, 0].tolist(), strict=True)
            for ids, own, (token, logprob) in zip(prefixes, logprobs, said, strict=True):
                ids.append(token)
                own.append(logprob)
        found = iter(
            Sample(tuple(ids[len(ids) - len(own) :]), tuple(own), "length")
            for ids, own in zip(prefixes, logprobs, strict=True)
        )
        return [[next(found) for _ in range(n)] for _ in prompts]


def training(
    policy: Linear, table: Rl, seed: int, pay: Score, longest: int, rate: float, folder: Path
) -> tuple[Loop, Rollouts]:
    """The loop and where its windows come from; the prompts are the ids 0 to ``table.prompts`` - 1."""
    start = cast(LanguageModel, Linear(policy.features, policy.head.detach()))
    settings = Settings(table.updates, rate, "constant", budget=4096)
    ids = range(table.prompts)
    return online_loop(
        cast(LanguageModel, policy), lambda: policy, start, ids, table, seed, pay, longest, settings, folder
    )
