"""The flat path against transformers' plain forward: logprobs, gradients, isolation, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.errors import ModelError
from burnish.models import layer
from burnish.models.attention import flat_attention, refuse, window
from burnish.models.language import LanguageModel
from burnish.models.selfcheck import fixed_stream, self_check
from burnish.objectives import Answer, Span, Tree, likelihood, pack


def tree(prompt: list[int], *answers: list[int]) -> Tree:
    return Tree(prompt, tuple(Answer(ids, [1.0] * len(ids)) for ids in answers))


TREES = [
    tree([3, 5, 7, 9, 11, 2], [4, 8, 1], [6, 1], [10, 12, 13, 14, 1]),
    tree([20, 21, 22], [30, 31, 1]),
    tree([40], [1], [41, 1]),
]


def gradient(model: LanguageModel, loss: torch.Tensor) -> torch.Tensor:
    grads = torch.autograd.grad(loss, list(model.parameters().values()))
    return torch.cat([grad.flatten() for grad in grads])


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_flat_is_the_plain_forward(build, plain_logp, kind, checkpointing):
    model = build(kind, checkpointing)
    assert (model.path, model.checkpointing) == ("flat", checkpointing)
    other = build(kind)
    wanted = plain_logp(other, TREES)
    wanted_gradient = gradient(other, wanted.square().sum())
    for keep_last in (True, False):
        stream = pack(TREES, 1000, keep_last)[0]
        for logp_S in (model.logp(stream).logp_S, model.logp_slow(stream).logp_S):
            assert torch.allclose(logp_S, wanted, atol=1e-5, rtol=0)
            assert relative(gradient(model, logp_S.square().sum()), wanted_gradient) < 1e-5


def test_checkpointing_keeps_fewer_activations(build):
    def kept(checkpointing: bool) -> int:
        model, total = build("llama", checkpointing), [0]

        def count(tensor: torch.Tensor) -> torch.Tensor:
            total[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model.hidden(pack(TREES, 1000)[0])
        return total[0]

    assert kept(True) < kept(False) / 3


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=8)
forests = st.lists(st.tuples(st.integers(1, 200), lengths), min_size=1, max_size=4)
heads = st.integers(0, 150)


def grown(forest: list[tuple[int, list[int]]], head: int, seed: int) -> list[Tree]:
    """Trees of these lengths (of a prompt after the head that all share, of its answers), with random ids and weights:
    whole, part or none."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> list[int]:
        return torch.randint(97, (length,), generator=generator).tolist()

    def answer(length: int, first: bool) -> Answer:
        weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(3, (length,), generator=generator)].tolist()
        return Answer(ids(length), [1.0, *weights[1:]] if first else weights)

    shared = ids(head)
    return [
        Tree(shared + ids(prompt), tuple(answer(length, not n and not place) for place, length in enumerate(several)))
        for n, (prompt, several) in enumerate(forest)
    ]


@pytest.fixture(params=["llama", "qwen3", "mistral"])
def kind(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["kept", "checkpointing"])
def twin(request, build, kind):
    """A model on the flat path, built once for all examples of a test."""
    model = build(kind, request.param, max_position_embeddings=512)
    assert (model.path, model.checkpointing) == ("flat", request.param)
    return model


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    forest=forests,
    head=heads,
    budget=st.integers(1, 1500),
    keep_last=st.booleans(),
    shared=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_random_trees(twin, forest, head, budget, keep_last, shared, seed):
    """Logprobs, loss and gradient of the flat path are those of its slow twin, however rows are packed and shared."""
    trees = grown(forest, head, seed)
    if not shared:
        trees = [Tree(t.prompt, (answer,)) for t in trees for answer in t.answers]
    streams = pack(trees, budget, keep_last)
    units = sum(answer.units for t in trees for answer in t.answers)
    flat, slow = ([run(stream).logp_S for stream in streams] for run in (twin.logp, twin.logp_slow))
    losses = [
        sum(likelihood(logp, stream.weights_S).total for logp, stream in zip(logps, streams, strict=True)) / units
        for logps in (flat, slow)
    ]
    assert torch.allclose(torch.cat(flat), torch.cat(slow), atol=2e-5, rtol=0)
    assert torch.allclose(*losses, rtol=1e-5)
    assert relative(gradient(twin, losses[0]), gradient(twin, losses[1])) < 1e-4
    assert twin.message == ""  # it did not fall back


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(forest=forests, head=heads, seed=st.integers(0, 2**31 - 1))
def test_random_trees_of_the_slow_twin_are_plain_rows(build, plain_logp, forest, head, seed):
    """The slow twin reads streams as the flat path does: here both face rows that were never packed."""
    model, trees = build("llama", max_position_embeddings=512), grown(forest, head, seed)
    slow = torch.cat([model.logp_slow(stream).logp_S for stream in pack(trees, 300)])
    assert torch.allclose(slow, plain_logp(model, trees), atol=2e-5, rtol=0)


def test_packed_is_unpacked(build):
    model = build()
    packed = model.logp(pack(TREES, 1000)[0]).logp_S
    single = torch.cat([model.logp(stream).logp_S for stream in pack(TREES, 1)])
    assert torch.allclose(packed.sum(), single.sum(), rtol=1e-6)
    assert relative(gradient(model, packed.sum()), gradient(model, single.sum())) < 1e-5


def test_what_all_prompts_begin_with_is_run_once(build):
    """With its gradient: a head counts in every row that has it."""
    head = [*range(50, 62)]
    trees = [Tree([*head, *t.prompt], t.answers) for t in TREES]
    model = build()
    (stream,) = pack(trees, 1000)
    assert len(stream.ids_T) == len(head) + sum(t.tokens() for t in TREES)
    packed, single = stream, [alone for t in trees for alone in pack([t], 1000)]
    together, apart = model.logp(packed).logp_S, torch.cat([model.logp(stream).logp_S for stream in single])
    assert torch.allclose(together, apart, atol=1e-5, rtol=0)
    assert relative(gradient(model, together.square().sum()), gradient(model, apart.square().sum())) < 1e-5


def test_rows_and_siblings_do_not_see_each_other(build):
    model = build()
    before = model.logp(pack(TREES, 1000)[0]).logp_S
    changed = [tree([3, 5, 7, 9, 11, 2], [4, 8, 1], [90, 91], [10, 12, 13, 14, 1]), *TREES[1:]]
    after = model.logp(pack(changed, 1000)[0]).logp_S
    assert torch.equal(before[:3], after[:3])
    assert torch.equal(before[5:], after[5:])
    assert not torch.isclose(before[3:5], after[3:5]).any()


def test_temperature_and_entropy_agree_with_the_slow_twin(build):
    model, stream = build(), pack(TREES, 1000)[0]
    flat, slow = model.logp(stream, 0.7, entropy=True), model.logp_slow(stream, 0.7, entropy=True)
    assert torch.allclose(flat.logp_S, slow.logp_S, atol=1e-5)
    assert torch.allclose(flat.entropy_S, slow.entropy_S, atol=1e-5)
    assert not torch.allclose(flat.logp_S, model.logp(stream).logp_S, atol=1e-2)


def test_a_row_longer_than_the_sliding_window_runs_slowly_and_rightly(build, plain_logp):
    model = build("mistral", sliding_window=8)
    assert model.path == "flat"
    short, long = pack(TREES[1:], 1000)[0], pack(TREES, 1000)[0]
    assert (short.longest, long.longest) == (6, 11)
    assert torch.allclose(model.logp(short).logp_S, plain_logp(model, TREES[1:]), atol=1e-5)
    assert model.message == ""
    assert torch.allclose(model.logp(long).logp_S, plain_logp(model, TREES), atol=1e-5)
    assert torch.allclose(model.hidden(long), model.hidden_slow(long))
    assert "sliding window of 8" in model.message


@pytest.mark.parametrize(
    ("kind", "extra", "says"),
    [
        ("gemma2", {}, 'the architecture "gemma2" is not among'),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout is 0.1"),
        ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ("qwen3", {"num_hidden_layers": 2, "layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope_type"),
    ],
)
def test_what_the_flat_path_does_not_know_it_refuses(kind, extra, says):
    from transformers import AutoConfig

    assert says in refuse(AutoConfig.for_model(kind, **extra))


def test_a_refused_architecture_trains_on_the_slow_path(build, plain_logp):
    model = build("gemma2", sliding_window=8, final_logit_softcapping=5.0)
    assert model.path == "slow"
    assert 'several times slower: the architecture "gemma2"' in model.message
    stream = pack(TREES, 1000)[0]
    found, wanted = model.logp(stream).logp_S, plain_logp(model, TREES)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert relative(gradient(model, found.sum()), gradient(model, wanted.sum())) < 1e-5
    assert model.hidden(stream).shape == (len(stream.ids_T), 64)


def test_the_window_is_read_from_the_configuration():
    from transformers import AutoConfig

    assert window(AutoConfig.for_model("llama")) is None
    assert window(AutoConfig.for_model("mistral", sliding_window=8)) == 8
    assert window(AutoConfig.for_model("qwen2", use_sliding_window=False, sliding_window=8)) is None
    assert window(AutoConfig.for_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)) == 8


def test_flat_attention_refuses_what_it_does_not_implement():
    q = torch.zeros(1, 2, 3, 4)
    right = {"attention_mask": None, "spans": (Span(0, 3),)}
    assert flat_attention(torch.nn.Identity(), q, q, q, **right)[0].shape == (1, 3, 2, 4)
    for wrong in ({"spans": None}, {"dropout": 0.1}, {"attention_mask": q}):
        with pytest.raises(ModelError, match="without spans"):
            flat_attention(torch.nn.Identity(), q, q, q, **{**right, **wrong})


def test_the_self_check_is_kept_and_reused(tiny, tmp_path):
    result = self_check(tiny, tmp_path)
    assert result["passed"]
    assert result["difference"] < 1e-5
    assert tiny.path == "flat"
    file = tmp_path / "self_checks.json"
    file.write_text(file.read_text().replace('"passed": true', '"passed": false'))
    assert not self_check(tiny, tmp_path)["passed"]
    assert (tiny.path, tiny.module.config._attn_implementation) == ("slow", "eager")
    assert "differ from the plain forward" in tiny.message


@pytest.mark.parametrize("blind", ["to the prompt", "to the head"])
def test_the_self_check_sees_a_wrong_flat_path(tiny, tmp_path, monkeypatch, blind):
    head = fixed_stream(97).head

    def wrong(module, q, k, v, mask, scaling, spans):
        seen = [s if (s.parent == (0, head)) == (blind == "to the prompt") else Span(s.start, s.stop) for s in spans]
        return flat_attention(module, q, k, v, mask, scaling, spans=seen)

    monkeypatch.setattr(layer, "flat_attention", wrong)
    assert not self_check(tiny, tmp_path)["passed"]
    assert tiny.path == "slow"


def test_the_fixed_stream_has_256_tokens_of_every_kind():
    stream = fixed_stream(49152)
    assert (len(stream.ids_T), stream.head, stream.trees, len(stream.tree_A)) == (256, 16, 3, 7)
