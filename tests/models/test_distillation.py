"""A student beside its teacher: the fast path against its slow twin, and a teacher's tokens kept from one run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.adapters import Lora
from burnish.models.distillation import Student, with_top
from burnish.models.language import LanguageModel
from burnish.objectives import Answer, Top, Tree, pack

TREES = [
    Tree([5, 6, 7], (Answer([8, 9, 10, 2], [1.0, 0.0, 1.0, 1.0], row=1),)),
    Tree([4], (Answer([3, 3], [1.0, 1.0], row=2), Answer([11], [1.0], row=3))),
]


@pytest.fixture
def models(tiny: LanguageModel) -> tuple[LanguageModel, LanguageModel]:
    """A student and a teacher with adapters that do something."""
    found = []
    for seed in (1, 2):
        model = tiny.sibling(lora=Lora(4), trainable=True, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters().values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        found.append(model)
    return found[0], found[1]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_fast_path_is_its_slow_twin(models, stored, temperature):
    model, teacher = models
    student = Student(model, None if stored else teacher, temperature)
    trees = with_top(TREES, teacher, 5, temperature, budget=8) if stored else TREES
    stream = pack(trees, 100, keep_last=False)[0]
    results = []
    for forward in (student.logp, student.logp_slow):
        outputs = forward(stream)
        loss = -outputs.logp_S.sum() + 3 * outputs.teacher_kl_S.sum()
        results.append((outputs, torch.autograd.grad(loss, list(model.parameters().values()))))
    (fast, fast_grads), (slow, slow_grads) = results
    torch.testing.assert_close(fast.logp_S, slow.logp_S, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.teacher_kl_S, slow.teacher_kl_S, rtol=1e-3, atol=1e-5)
    assert fast.teacher_kl_S.min() > 1e-3
    for one, other in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters().values())


def test_a_model_is_no_distance_from_itself(models):
    model, _ = models
    stream = pack(TREES, 100, keep_last=False)[0]
    assert Student(model, model).logp(stream).teacher_kl_S.abs().max() < 1e-5


def test_with_top_names_tokens_where_an_id_is_trained(models):
    _, teacher = models
    found = with_top(TREES, teacher, 3, 1.0, budget=6)  # two streams
    top = found[0].answers[0].top
    assert top is not None
    assert top.ids.shape == (4, 3)
    assert top.ids[1].tolist() == [-1, -1, -1]
    assert [replace(a, top=None) for t in found for a in t.answers] == [a for t in TREES for a in t.answers]
    row = Tree([4, 3], (Answer([3], [1.0]),))  # the second id of the second tree's first answer, alone
    with torch.no_grad():
        hidden = teacher.hidden(pack([row], 10, keep_last=False)[0])[-1]
    wanted = (hidden @ teacher.head.T).log_softmax(0).topk(3)
    second = found[1].answers[0].top
    assert second is not None
    assert second.ids[1].tolist() == wanted.indices.tolist()
    torch.testing.assert_close(second.logp[1], wanted.values, rtol=1e-4, atol=1e-5)


def test_rows_without_a_teacher_have_no_distance(models):
    model, teacher = models
    taught = with_top(TREES[:1], teacher, 5, 1.0, budget=100)
    kl_S = Student(model).logp(pack([*taught, TREES[1]], 100, keep_last=False)[0]).teacher_kl_S
    assert (kl_S[:3] > 0).all()
    assert kl_S[3:].tolist() == [0.0, 0.0, 0.0]
    assert Student(model).logp(pack(TREES, 100, keep_last=False)[0]).teacher_kl_S.tolist() == [0.0] * 6


def test_what_cannot_teach_is_refused(models, build):
    model, teacher = models
    with pytest.raises(ModelError, match="the teacher knows 97 tokens and the student 294"):
        Student(model, build("llama"))
    assert isinstance(with_top(TREES, teacher, 1000, 1.0, 100)[0].answers[0].top, Top)  # at most the vocabulary
