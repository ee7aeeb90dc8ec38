"""The projection by blocks of the vocabulary, and a teacher's KL by chunks of positions, against full logits."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from burnish.errors import ModelError
from burnish.models import projection
from burnish.models import teacher as room
from burnish.models.projection import project
from burnish.models.teacher import FullTeacher, TopTeacher, most_likely, teacher_kl
from burnish.objectives import Top


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several blocks of a small vocabulary, the last one shorter, and several chunks of the positions."""
    monkeypatch.setattr(projection, "BLOCK", 16)
    monkeypatch.setattr(room, "CHUNK", 128)


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    hidden_SD = torch.randn(600, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    head_VD = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    return hidden_SD, head_VD, torch.randint(50, (len(hidden_SD),), generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_full_logits(parts, temperature):
    hidden_SD, head_VD, targets_S = parts
    logp_SV = (hidden_SD @ head_VD.T / temperature).log_softmax(1)
    wanted = logp_SV.gather(1, targets_S[:, None])[:, 0], -(logp_SV.exp() * logp_SV).sum(1)
    projected = project(hidden_SD, head_VD, targets_S, temperature, entropy=True)
    found = projected.logp_S, projected.entropy_S
    same_value_and_gradient(hidden_SD, found, wanted)


def test_by_hand():
    hidden_SD = torch.tensor([[1.0, 0.0]], requires_grad=True)
    found = project(hidden_SD, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0]))
    assert found.logp_S.item() == pytest.approx(-0.313262, abs=1e-6)  # 1 - log(e + 1)
    assert found.entropy_S is None
    found.logp_S.backward()
    assert hidden_SD.grad.tolist() == [pytest.approx([0.268941, 0.0], abs=1e-6)]


@pytest.mark.parametrize("likeliest", [3, 21, 47])
def test_a_near_certain_target_keeps_its_small_gradient(likeliest):
    """In bfloat16 the head's rows have 8 bits: p head and head[target] would cancel to noise of a hundredth."""
    generator = torch.Generator().manual_seed(2)
    head_VD = torch.randn(50, 8, generator=generator).bfloat16()
    head_VD[likeliest] = 0
    head_VD[likeliest, 0] = 4
    hidden_SD = torch.tensor([[4.0] + 7 * [0.125]]).bfloat16().requires_grad_()
    found = project(hidden_SD, head_VD, torch.tensor([likeliest]))
    logits_V = (hidden_SD.detach() @ head_VD.T).double()[0]
    p_V = logits_V.softmax(0)
    p_V[likeliest] = -(p_V.sum() - p_V[likeliest])
    assert -0.01 < found.logp_S.item() < 0
    found.logp_S.backward()
    wanted_D = -(p_V @ head_VD.double())
    assert torch.allclose(hidden_SD.grad[0].double(), wanted_D, rtol=0.05, atol=1e-12 + 0.02 * wanted_D.abs().max())


def test_full_logits_are_never_built(parts):
    hidden_SD, head_VD, targets_S = parts
    teacher_SE, teacher_VE = hidden_SD.detach()[:, :5] + 1, head_VD[:, :5]

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                Largest.seen = max(Largest.seen, out.numel())
            return out

    with Largest():
        found = project(hidden_SD, head_VD, targets_S, entropy=True)
        kl_S = teacher_kl(hidden_SD, head_VD, FullTeacher(teacher_SE, teacher_VE))
        (found.logp_S.sum() + found.entropy_S.sum() + kl_S.sum()).backward()
    assert 600 * 8 < Largest.seen < 600 * 50 / 2  # 600 x 16, the largest block


def test_nothing_supervised(parts):
    hidden_SD, head_VD, _ = parts
    teacher = TopTeacher(Top(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3)))
    found = project(hidden_SD[:0], head_VD, torch.zeros(0, dtype=torch.long), entropy=True)
    kl_S = teacher_kl(hidden_SD[:0], head_VD, teacher)
    assert found.logp_S.shape == found.entropy_S.shape == kl_S.shape == (0,)
    (found.logp_S.sum() + found.entropy_S.sum() + kl_S.sum()).backward()


def test_a_trainable_head_is_refused(parts):
    hidden_SD, head_VD, targets_S = parts
    with pytest.raises(ModelError, match="frozen output head"):
        project(hidden_SD, head_VD.requires_grad_(), targets_S)
    with pytest.raises(ModelError, match="frozen output head"):
        teacher_kl(hidden_SD, head_VD, FullTeacher(hidden_SD, head_VD))


@pytest.fixture
def teacher():
    """Hidden states of another width, and an output head over the same vocabulary."""
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((600, 5), (50, 5)))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_kl_of_a_full_teacher_is_that_of_full_logits(parts, teacher, temperature):
    hidden_SD, head_VD, _ = parts
    teacher_SE, teacher_VE = teacher
    kl_S = teacher_kl(hidden_SD, head_VD, FullTeacher(teacher_SE, teacher_VE, temperature))
    student_SV = (hidden_SD @ head_VD.T / temperature).log_softmax(1)
    teacher_SV = (teacher_SE @ teacher_VE.T / temperature).log_softmax(1)
    wanted_S = (teacher_SV.exp() * (teacher_SV - student_SV)).sum(1)
    same_value_and_gradient(hidden_SD, (kl_S,), (wanted_S,))


@pytest.mark.parametrize(("most", "temperature"), [(1, 1.0), (6, 1.0), (6, 2.5), (50, 1.0), (80, 1.0)])
def test_the_kl_of_a_top_teacher_is_that_of_named_tokens_and_one_bucket(parts, teacher, most, temperature):
    hidden_SD, head_VD, _ = parts
    teacher_SE, teacher_VE = teacher
    top = most_likely(teacher_SE, teacher_VE, most, temperature)
    kl_S = teacher_kl(hidden_SD, head_VD, TopTeacher(top, temperature))
    student_SV = (hidden_SD @ head_VD.T / temperature).log_softmax(1)
    p_SK, t_SK = student_SV.gather(1, top.ids).exp(), top.logp.exp()
    wanted_S = (t_SK * (t_SK.log() - p_SK.log())).sum(1)
    if most < 50:
        rest_t_S, rest_p_S = 1 - t_SK.sum(1), 1 - p_SK.sum(1)
        wanted_S = wanted_S + rest_t_S * (rest_t_S / rest_p_S).log()
    else:  # every token is named: the whole distribution's
        full_S = teacher_kl(hidden_SD, head_VD, FullTeacher(teacher_SE, teacher_VE))
        assert torch.allclose(kl_S, full_S, atol=1e-9)
    same_value_and_gradient(hidden_SD, (kl_S,), (wanted_S,), atol=1e-9)


def same_value_and_gradient(hidden_SD, found, wanted, atol=1e-12):
    scale_S = torch.linspace(-1, 2, len(hidden_SD), dtype=torch.float64)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=atol)
        (one,) = torch.autograd.grad((mine * scale_S).sum(), hidden_SD, retain_graph=True)
        (other,) = torch.autograd.grad((theirs * scale_S).sum(), hidden_SD, retain_graph=True)
        assert torch.allclose(one, other, atol=atol)
        assert other.abs().max() > 1e-3
    both = torch.autograd.grad(sum((one * scale_S).sum() for one in found), hidden_SD)[0]
    all_of_it = torch.autograd.grad(sum((one * scale_S).sum() for one in wanted), hidden_SD)[0]
    assert torch.allclose(both, all_of_it, atol=atol)


def test_a_place_may_name_fewer_tokens_or_none(parts):
    hidden_SD, head_VD = parts[0][:3], parts[1]
    none = -torch.inf
    short = Top(
        torch.tensor([[4, 9, -1], [-1, -1, -1], [7, 8, 9]]), torch.tensor([[-1, -2, none], [none] * 3, [-1, -1.5, -3]])
    )
    found_S = teacher_kl(hidden_SD, head_VD, TopTeacher(short))
    alone = (
        Top(torch.tensor([[4, 9]]), torch.tensor([[-1.0, -2.0]])),
        Top(torch.tensor([[7, 8, 9]]), torch.tensor([[-1, -1.5, -3]])),
    )
    for place, top in zip((0, 2), alone, strict=True):
        at = slice(place, place + 1)
        one_S = teacher_kl(hidden_SD[at], head_VD, TopTeacher(top))
        assert found_S[place].item() == pytest.approx(one_S.item(), abs=1e-12)
        (mine,) = torch.autograd.grad(found_S[place], hidden_SD, retain_graph=True)
        (theirs,) = torch.autograd.grad(one_S.sum(), hidden_SD)
        assert torch.allclose(mine, theirs, atol=1e-12)
    assert found_S[1].item() == 0.0
    assert torch.autograd.grad(found_S[1], hidden_SD)[0].abs().max() == 0.0


def test_a_teachers_kl_by_hand():
    """The student says 1/2, 1/4, 1/4. The teacher names the first token at 1/4: three quarters are left over."""
    hidden_SD = torch.tensor([[1.0]], requires_grad=True)
    head_VD = torch.tensor([[0.693147], [0.0], [0.0]])
    teacher = TopTeacher(Top(torch.tensor([[0]]), torch.tensor([[0.25]]).log()))
    kl_S = teacher_kl(hidden_SD, head_VD, teacher)
    assert kl_S.item() == pytest.approx(0.130812, abs=1e-6)  # 1/4 log 1/2 + 3/4 log 3/2
    kl_S.backward()
    assert hidden_SD.grad.item() == pytest.approx(0.25 * 0.693147, abs=1e-6)  # (1/2 - 1/4) x the head's row
