"""A trainer that goes back along what its engine computed has the gradient of its own forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from burnish.errors import ModelError
from burnish.models import language
from burnish.models.adapters import Lora
from burnish.models.base import Base
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.objectives import Answer, Tree, pack
from burnish.sampling import Engine, Params, Sample
from sampling.conftest import SHAPE

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [5, 6, 7, 8, 9, 10, 11, 12, 20, 21], [30, 31, 32], [40]]
DRAW = Params(1.0, 1.0, 6, 3, (1, 2, 3, 4))
Make = Callable[..., LanguageModel]


@pytest.fixture
def make() -> Make:
    """make("qwen3", layers=1): a random policy whose adapter does something, and room for its engine's numbers."""

    def made(kind: str = "llama", layers: int | str = "all", full: bool = False, room: int = 200) -> LanguageModel:
        torch.manual_seed(4)
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE | {"num_hidden_layers": 3}))
        base = LanguageModel(module, Base(kind, Path("nowhere"), "0" * 64, 0))
        how = Full(targets=["mlp", "self_attn"]) if full else Lora(4, layers=layers)
        policy = base.trainable(how)
        for parameter in policy.parameters().values():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        policy.lay_trail(room)
        return policy

    return made


def drawn(policy: LanguageModel, slots: int = 8, prompts: Sequence[list[int]] = PROMPTS, n: int = 3) -> list[Tree]:
    groups = Engine(policy, slots=slots, prefill=7, trail=policy.trail).sample(prompts, n, DRAW)
    return trees_of(prompts, groups)


def trees_of(prompts: Sequence[list[int]], groups: Sequence[Sequence[Sample]]) -> list[Tree]:
    def answer(sample: Sample) -> Answer:
        return Answer(sample.ids, [1.0] * len(sample.ids), {"old_logp": sample.logprobs})

    return [Tree(prompt, tuple(map(answer, group))) for prompt, group in zip(prompts, groups, strict=True)]


def gradient(
    policy: LanguageModel, trees: Sequence[Tree], budget: int = 1000
) -> tuple[list[float], list[torch.Tensor]]:
    """The logprobs of all trained ids, and the gradient of their sum, each weighed apart."""
    for parameter in policy.parameters().values():
        parameter.grad = None
    said: list[float] = []
    for stream in pack(trees, budget, keep_last=False):
        outputs = policy.logp(stream, entropy=True)
        assert outputs.logp_S is not None and outputs.entropy_S is not None
        weights_S = torch.linspace(-1, 2, len(outputs.logp_S))
        (weights_S * (outputs.logp_S + outputs.entropy_S)).sum().backward()
        said += outputs.logp_S.tolist()
    return said, [p.grad.clone() for p in policy.parameters().values() if p.grad is not None]


def along_and_by_itself(policy: LanguageModel, trees: Sequence[Tree], budget: int = 1000) -> None:
    trail = policy.trail
    assert trail is not None and trail.holds(trees)
    assert all(trail.inputs(stream) is not None for stream in pack(trees, budget, keep_last=False))
    said, along = gradient(policy, trees, budget)
    policy.trail = None
    wanted, alone = gradient(policy, trees, budget)
    assert said == pytest.approx(wanted, abs=1e-4)
    assert len(along) == len(alone) > 0
    for mine, theirs in zip(along, alone, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    assert any(theirs.abs().max() > 1e-3 for theirs in alone)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("slots", [2, 8, 16])
def test_the_gradient_is_that_of_the_trainers_own_forward(make: Make, kind: str, slots: int) -> None:
    """Prompts that are run in parts, that share a beginning in the very step that runs it, that wait for a slot."""
    policy = make(kind)
    along_and_by_itself(policy, drawn(policy, slots))


@pytest.mark.parametrize("budget", [20, 60])
def test_it_does_not_depend_on_how_the_rows_are_packed(make: Make, budget: int) -> None:
    policy = make()
    along_and_by_itself(policy, drawn(policy), budget)


def test_layers_below_the_lowest_trained_one_are_compared(make: Make) -> None:
    policy = make(layers=1)
    trees = drawn(policy)
    trail = policy.trail
    along_and_by_itself(policy, trees)
    policy.trail = trail
    assert trail is not None
    trail._states_LND[0] *= 1.01  # what the first layer gave, of which nothing trained is made but by the second
    with pytest.raises(ModelError, match="layer 1 of the trainer"):
        gradient(policy, trees)


def test_weights_of_its_own_are_trained_so_too(make: Make) -> None:
    policy = make(full=True)
    along_and_by_itself(policy, drawn(policy))


def test_what_moved_weights_would_compute_is_not_found(make: Make) -> None:
    policy = make()
    trees = drawn(policy)
    assert policy.trail is not None and policy.trail.holds(trees)
    gradient(policy, trees)
    torch.optim.AdamW(list(policy.parameters().values()), lr=1e-2).step()
    assert not policy.trail.fresh and not policy.trail.holds(trees)
    moved, _ = gradient(policy, trees)
    policy.trail = None
    assert moved == gradient(policy, trees)[0]


def test_what_no_engine_drew_is_run_by_the_trainer(make: Make) -> None:
    policy = make()
    trees = drawn(policy)
    written = Tree(PROMPTS[0], (*trees[0].answers, Answer([50, 51, 52], [1.0] * 3)))
    assert policy.trail is not None and not policy.trail.holds([written])
    assert policy.trail.inputs(pack([written], 100, keep_last=False)[0]) is None
    assert policy.trail.inputs(pack(trees[:1], 100)[0]) is None  # no engine runs an answer's last token
    gradient(policy, [written])


@pytest.mark.parametrize("room", range(25, 74, 2))
def test_what_finds_no_room_is_run_by_the_trainer(make: Make, room: int) -> None:
    """The trail may be full in the middle of a step: what of it was kept is right, and the rest is not found."""
    policy = make(room=room)
    assert policy.trail is not None
    policy.trail._states_LND.fill_(math.nan)
    trees = drawn(policy)
    assert not policy.trail.holds(trees)
    assert policy.trail.holds(trees_of(PROMPTS[:1], [[]]))  # the first prompt did
    for tree in trees:
        said, _ = gradient(policy, [tree])
        assert all(map(math.isfinite, said))


def test_a_sampler_that_computes_something_else_is_seen(make: Make) -> None:
    policy = make()
    trees = drawn(policy)
    assert policy.trail is not None
    policy.trail._states_LND[1] *= 1.01
    with pytest.raises(
        ModelError, match=r"layer [12] of the trainer makes of its input what is \d.*% from the sampler's"
    ):
        gradient(policy, trees)


def test_an_engine_without_the_policys_adapter_is_seen(make: Make) -> None:
    policy = make()
    stale = policy.sibling(lora=Lora(4), trainable=True)  # an adapter that does nothing yet
    groups = Engine(stale, slots=8, trail=policy.trail).sample(PROMPTS, 2, DRAW)
    with pytest.raises(ModelError, match="from the sampler's"):
        gradient(policy, trees_of(PROMPTS, groups))


def test_rounded_weights_leave_no_trail(make: Make) -> None:
    policy = make()
    Engine(policy, slots=8, weights="half", trail=policy.trail).sample(PROMPTS, 1, DRAW)
    assert policy.trail is not None and policy.trail.find(PROMPTS[2]) is None


def test_a_second_engine_of_the_same_weights_goes_on(make: Make) -> None:
    policy = make()
    first = drawn(policy, prompts=PROMPTS[:2])
    second = drawn(policy, prompts=PROMPTS[1:], n=2)
    along_and_by_itself(policy, [*first, *second])


def test_an_engine_that_has_answered_before_its_trail_began_keeps_what_follows_it(make: Make) -> None:
    policy = make()
    engine = Engine(policy, slots=4)
    engine.sample(PROMPTS[:1], 1, DRAW)
    engine._trail = policy.trail
    groups = engine.sample([PROMPTS[0], PROMPTS[2]], 2, replace(DRAW, seed=9))
    assert policy.trail is not None
    assert not policy.trail.holds(trees_of(PROMPTS[:1], groups[:1]))  # its prompt's keys were there already
    assert policy.trail.find(PROMPTS[0][-1:]) is None  # and its last token, which was run, begins nothing
    along_and_by_itself(policy, trees_of(PROMPTS[2:3], groups[1:]))


def test_it_is_laid_only_where_it_can_be_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make()
    assert policy.trail is not None
    assert policy.frozen_copy().trail is None
    monkeypatch.setattr(language, "MOST", 100 * 3 * 32 * 4)
    policy.lay_trail(100)
    assert policy.trail is not None
    policy.lay_trail(101)
    assert policy.trail is None
    policy.use_slow("for this test")
    policy.lay_trail(1)
    assert policy.trail is None
