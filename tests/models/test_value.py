"""The value head: the policy's own logprobs beside a linear reading of the same hidden states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.models.value import Critic
from burnish.objectives import Answer, Stream, Tree, pack


@pytest.fixture(scope="module")
def policy(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    return base.sibling(lora=Lora(4), trainable=True, seed=3)


@pytest.fixture
def stream() -> Stream:
    trees = [
        Tree([5, 6, 7], (Answer([8, 9], [1.0] * 2), Answer([4, 3, 2], [1.0] * 3))),
        Tree([1], (Answer([2], [1.0]),)),
    ]
    return pack(trees, 100, keep_last=False)[0]


def test_logprobs_and_entropies_are_the_policys(policy: LanguageModel, stream: Stream) -> None:
    found, wanted = Critic(policy).logp(stream, 0.7, entropy=True), policy.logp(stream, 0.7, entropy=True)
    torch.testing.assert_close(found.logp_S, wanted.logp_S)
    torch.testing.assert_close(found.entropy_S, wanted.entropy_S)


def test_values_are_zero_at_first_and_then_those_of_the_prefix(policy: LanguageModel, stream: Stream) -> None:
    critic = Critic(policy)
    assert not critic.logp(stream).value_S.any()
    generator = torch.Generator().manual_seed(0)
    critic.head_D.data = torch.randn(critic.head_D.shape, generator=generator)
    critic.bias.data += 0.5
    # the third id of the second answer follows the prompt and two ids of its own
    hidden_TD = policy.hidden(pack([Tree([5, 6, 7, 4, 3], (Answer([2], [1.0]),))], 100, keep_last=False)[0])
    wanted = hidden_TD[-1] @ critic.head_D + 0.5
    torch.testing.assert_close(critic.logp(stream).value_S[4], wanted, rtol=1e-4, atol=1e-5)


def test_at_the_start_a_value_moves_the_head_and_not_the_trunk(policy: LanguageModel, stream: Stream) -> None:
    critic = Critic(policy)
    parameters = critic.parameters()
    for grown in (False, True):
        for parameter in parameters.values():
            parameter.grad = None
        critic.logp(stream).value_S.sum().backward()
        assert parameters["value.head"].grad.abs().max() > 0.1 and parameters["value.bias"].grad == 6.0
        trunk = [p.grad for name, p in parameters.items() if not name.startswith("value.")]
        assert any(grad is not None and grad.abs().max() > 0 for grad in trunk) == grown
        critic.head_D.data += 0.1
