"""Layers that the start version and its reward models have in common are run once, and say what two forwards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.freezing import Full
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.objectives.stream import pack
from burnish.rewards.learned import score_answers
from burnish.sampling import Sample
from burnish.training.measured import as_trees, with_reference
from burnish.training.shared import SharedLayers, share_layers
from training.test_rollouts import rollouts_of

PROMPTS = [[5, 6, 7], [8, 9]]
HEADED = [[*range(20, 32), *prompt] for prompt in PROMPTS]
UPPER = Lora(4, layers=2)
DRAWN = [
    [Sample((11, 12), (-1.0, -1.0), "stop"), Sample((13,), (-1.0,), "stop")],
    [Sample((14, 15, 16), (-1.0, -1.0, -1.0), "length")],
]


def reward_on(start: LanguageModel, how: Lora | Full, layers: int, seed: int = 1) -> RewardModel:
    """A reward model that has learned something, read back as a saved one is."""
    made, draw = RewardModel.on(start, how, layers, seed), torch.Generator().manual_seed(seed)
    for parameter in made.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return made


def said(
    reward: RewardModel, reference: LanguageModel, prompts: list[list[int]] = PROMPTS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rewards of the drawn answers and their logprobs under the reference, as a rollout asks for them."""
    rewards = score_answers(reward, prompts, [[sample.ids for sample in group] for group in DRAWN])
    trees = with_reference(as_trees(prompts, DRAWN), reference, 1.0)
    logps = [logp for tree in trees for answer in tree.answers for logp in answer.streams["reference_logp"]]
    return torch.tensor([reward for group in rewards for reward in group]), torch.tensor(logps)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of layers of each forward of a trunk."""
    found: list[int] = []
    run = LanguageModel._run

    def counted(self, stream, hidden_TD=None, first=0, last=None, take_S=None):  # type: ignore[no-untyped-def]
        found.append((len(self.trunk.layers) if last is None else last) - first)
        return run(self, stream, hidden_TD, first, last, take_S)

    monkeypatch.setattr(LanguageModel, "_run", counted)
    return found


@pytest.mark.parametrize("how", [Lora(4), Full()], ids=["adapter", "own weights"])
@pytest.mark.parametrize("prompts", [PROMPTS, HEADED], ids=["apart", "under a head"])
def test_one_forward_gives_what_two_give(
    model: LanguageModel, how: Lora | Full, prompts: list[list[int]], runs: list[int]
) -> None:
    """The start has an adapter of its own: the reward was learned on it folded, each with copies of the weights."""
    depth = len(model.trunk.layers)
    reward, reference = reward_on(model, how, layers=1), model.merged()
    apart = said(reward, model, prompts)
    assert runs == [depth, depth]
    shared = share_layers([reference, reward.trunk])
    assert shared is not None and shared.first == depth - 1
    runs.clear()
    together = said(reward, reference, prompts)
    assert runs == [depth - 1, 1, 1]
    for one, two in zip(together, apart, strict=True):
        assert one.std() > 0.01
        assert torch.allclose(one, two, atol=2e-6)


def test_several_reward_models_share_with_one_reference_and_hold_one_copy(
    model: LanguageModel, runs: list[int]
) -> None:
    one, two = (reward_on(model, Lora(4), 1, seed) for seed in (1, 2))
    reference = model.merged()
    share_layers([reference, one.trunk, two.trunk])
    weights = [m.trunk.layers[0].mlp.up_proj.weight for m in (reference, one.trunk, two.trunk)]
    assert weights[0] is weights[1] is weights[2]
    said(one, reference), said(two, reference)
    assert sum(runs) == (len(reference.trunk.layers) - 1) + 4
    assert not torch.equal(said(one, reference)[0], said(two, reference)[0])


def test_what_differs_is_not_shared(model: LanguageModel, tiny_model_folder: Path) -> None:
    """Sharing is seen in the tensors: one bit is enough to run everything twice."""
    depth, reference = len(model.trunk.layers), model.merged()
    assert share_layers([reference]) is None
    assert share_layers([reference, reward_on(model, Lora(4), depth).trunk]) is None
    assert share_layers([model, reward_on(model, Lora(4), 1).trunk]) is None  # its adapter is not folded
    assert share_layers([model.sibling(), reward_on(model, Lora(4), 1).trunk]) is None  # another version
    near = reward_on(model, Lora(4), 1)
    near.trunk.trunk.layers[0].mlp.up_proj.weight.data[0, 0] += 1e-6
    assert share_layers([reference, near.trunk]) is None
    slow = reward_on(model, Lora(4), 1)
    slow.trunk.use_slow("a test")
    assert share_layers([reference, slow.trunk]) is None
    assert reference.kept is None and near.trunk.kept is None


@pytest.fixture
def start(tiny_model_folder: Path, tmp_path: Path) -> LanguageModel:
    """A frozen version of five layers, whose adapter lies on the last two and has learned something."""
    torch.manual_seed(0)
    base = resolve_base(str(tiny_model_folder), tmp_path / "cache")
    config = AutoConfig.from_pretrained(base.folder, num_hidden_layers=5)
    deep = LanguageModel(AutoModelForCausalLM.from_config(config), base).sibling(lora=UPPER, trainable=True)
    for parameter in deep.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return deep.frozen_copy()


def learned(policy: LanguageModel) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The logprobs of what was drawn, and how each parameter moves their sum."""
    (stream,) = pack(as_trees(HEADED, DRAWN), 1000, keep_last=policy.kept is not None)
    logp_S = policy.logp(stream).logp_S
    assert logp_S is not None
    return logp_S.detach(), list(torch.autograd.grad(logp_S.sum(), list(policy.parameters().values())))


@pytest.mark.parametrize("rewarded", [0, 1, 2, 3, 5])
def test_a_policy_whose_last_layers_learn_reads_what_its_reference_ran(
    start: LanguageModel, rewarded: int, runs: list[int]
) -> None:
    """Under a reward that shares more layers with the start than the policy, as many, fewer or none."""
    apart, slopes = learned(start.trainable(UPPER))
    rewards = [reward_on(start, Lora(4), layers=rewarded)] if rewarded else []
    reference, policy = start.merged() if rewards else start, start.trainable(UPPER)
    assert share_layers([reference, *(reward.trunk for reward in rewards)], policy) is not None
    learns = list(policy.parameters().values())
    for parameter in learns:
        parameter.data += 0.2  # as an update moves it: what is kept lies below
    runs.clear()
    for reward in rewards:
        said(reward, reference, HEADED)
    with_reference(as_trees(HEADED, DRAWN), reference, 1.0)
    moved, _ = learned(policy)
    # what all share, what reward and reference share, the reward's own, the reference's own twice, the policy's own
    expected = {0: 3 + 2 + 2, 1: 3 + 1 + 1 + 2 + 2, 2: 3 + 2 + 4 + 2, 3: 2 + 1 + 3 + 4 + 2, 5: 3 + 5 + 4 + 2}
    assert sum(runs) == expected[rewarded]
    assert not torch.allclose(moved, apart, atol=1e-3)
    for parameter in learns:
        parameter.data -= 0.2
    together, also = learned(policy)
    assert torch.allclose(together, apart, atol=2e-6)
    assert all(torch.allclose(mine, alone, atol=1e-5) for mine, alone in zip(also, slopes, strict=True))


def test_a_rollout_forgets_the_last_one(model: LanguageModel) -> None:
    reward, reference = reward_on(model, Lora(4), 1), model.merged()
    shared = share_layers([reference, reward.trunk])
    assert isinstance(shared, SharedLayers)
    rollouts = rollouts_of(model, reference=reference, shared=shared)
    rollouts.window(0)
    first = set(shared._known)
    rollouts.window(2)
    assert len(shared._known) == len(first) == 2 and not first & set(shared._known)
