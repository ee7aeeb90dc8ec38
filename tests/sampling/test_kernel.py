"""The compiled kernel gives the sums of torch's operators, on every kind of processor that this one can play."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.sampling import kernel as module
from burnish.sampling.kernel import Kernel, absence, build, kernel

PROCESSORS = ["native"]
if platform.machine() == "x86_64":
    PROCESSORS += ["x86-64", "x86-64-v3"] if "AVX" in torch.backends.cpu.get_cpu_capability() else ["x86-64"]
pytestmark = [pytest.mark.compiler, pytest.mark.skipif(kernel() is None, reason="needs gcc")]


@pytest.fixture(scope="module", params=PROCESSORS)
def made(request: pytest.FixtureRequest) -> Kernel:
    return build(request.param)


@pytest.fixture(autouse=True, params=[1, 3], ids=["one thread", "three"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_threads", lambda: request.param)


@pytest.fixture
def anew() -> Iterator[None]:
    """Whether there is a kernel is found out anew."""
    module._searched.cache_clear()
    yield
    module._searched.cache_clear()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 11, 63, 64, 65, 200])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (48, 128), (49, 129), (100, 300), (7, 513)])
def test_a_product_is_torchs(made: Kernel, rows: int, outputs: int, inputs: int) -> None:
    x, weight, onto, bias = (numbers(*s) for s in ((rows, inputs), (outputs, inputs), (rows, outputs), (outputs,)))
    packed, plain = made.pack(weight), (x.double() @ weight.double().T).float()
    for start in (None, onto, bias):
        wanted = plain if start is None else plain + start
        torch.testing.assert_close(made.product(x, packed, start), wanted, atol=1e-4, rtol=1e-5)


def test_what_is_not_contiguous_is_multiplied_as_well(made: Kernel) -> None:
    x, weight, onto = numbers(24, 6).T, numbers(10, 48)[:, ::2], numbers(6, 20)[:, ::2]
    torch.testing.assert_close(made.product(x, made.pack(weight), onto), onto + x @ weight.T, atol=1e-4, rtol=1e-5)


def test_a_rows_product_does_not_depend_on_who_shares_the_step(made: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit; nor does it on the number of threads."""
    x, weight = numbers(70, 300), numbers(100, 300)
    packed = made.pack(weight)
    together = made.product(x, packed, x[:, :100])
    monkeypatch.setattr(module, "_threads", lambda: 2)
    for row in range(70):
        assert torch.equal(made.product(x[row : row + 1], packed, x[row : row + 1, :100])[0], together[row])


def test_no_number_reaches_another_row(made: Kernel) -> None:
    x, weight = numbers(20, 96), numbers(48, 96)
    x[3], x[11] = float("nan"), float("inf")
    found = made.product(x, made.pack(weight), None)
    finite = torch.isfinite(found).all(1)
    assert finite.sum() == 18 and not finite[3] and not finite[11]


@pytest.mark.parametrize("width", [5, 16, 576, 577])
def test_a_norm_is_torchs(made: Kernel, width: int) -> None:
    x, weight = numbers(9, width) * torch.logspace(-4, 2, 9)[:, None], numbers(width, seed=1)
    found = made.norm(x, weight, 1e-5)
    torch.testing.assert_close(found, F.rms_norm(x, (width,), weight, 1e-5))
    assert all(torch.equal(made.norm(x[i : i + 1], weight, 1e-5)[0], found[i]) for i in range(9))
    heads = numbers(9, 6, width)
    wanted = F.rms_norm(heads[:, 1:4], (width,), weight, 1e-5)
    torch.testing.assert_close(made.norm(heads[:, 1:4], weight, 1e-5), wanted)


def test_a_gate_is_torchs(made: Kernel) -> None:
    x = numbers(40, 96) * torch.logspace(-6, 3, 40)[:, None]
    x[0, :8] = torch.tensor([0.0, -0.0, 88.0, -88.0, 500.0, -500.0, 1e-30, -1e3])
    wanted = F.silu(x[:, :48].double()) * x[:, 48:].double()
    torch.testing.assert_close(made.gate(x).double(), wanted, atol=1e-30, rtol=1e-6)
    x[7, 3] = float("nan")
    assert torch.isnan(made.gate(x)).nonzero().tolist() == [[7, 3]]


@pytest.mark.parametrize("width", [16, 64, 80, 128])
def test_what_is_placed_is_turned_and_lies_where_it_belongs(made: Kernel, width: int) -> None:
    heads, cos, sin = numbers(5, 2 + 2 * 3, width), numbers(5, width, seed=1), numbers(5, width, seed=2)
    before = heads.clone()
    keys, values = torch.zeros(4, 3, 128, width), torch.zeros(4, 3, 128, width)
    slots, positions = torch.tensor([0, 3, 3, 1, 2]), torch.tensor([0, 7, 8, 127, 2])
    made.place(heads, cos[:, None], sin[:, None], keys, values, slots, positions)
    turned = before * cos[:, None] + before.roll(width // 2, -1) * sin[:, None]
    wanted = torch.zeros_like(keys), torch.zeros_like(values)
    wanted[0][slots, :, positions], wanted[1][slots, :, positions] = turned[:, 2:5], before[:, 5:]
    torch.testing.assert_close(heads[:, :2], turned[:, :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(keys, wanted[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(values, wanted[1])


@pytest.mark.parametrize("width", [16, 64, 80, 128])
@pytest.mark.parametrize("group", [1, 3])
def test_rows_attend_to_their_slots_as_far_as_they_have_come(made: Kernel, width: int, group: int) -> None:
    keyed, length = 2, 192
    keys, values = numbers(6, keyed, length, width), numbers(6, keyed, length, width, seed=1)
    slots, positions = torch.tensor([4, 0, 2, 5, 1]), torch.tensor([0, 191, 87, 15, 16])
    query = numbers(5, keyed * group + 4, width, seed=2)[:, : keyed * group] * 4
    wanted = torch.stack(
        [
            F.scaled_dot_product_attention(
                query[row, :, None], *(x[slot, :, : position + 1] for x in (keys, values)), scale=0.3, enable_gqa=True
            )[:, 0]
            for row, (slot, position) in enumerate(zip(slots.tolist(), positions.tolist(), strict=True))
        ]
    )
    for slot, position in zip(slots.tolist(), positions.tolist(), strict=True):  # nobody reads what comes after
        keys[slot, :, position + 1 :] = values[slot, :, position + 1 :] = float("nan")
    keys[3] = values[3] = float("nan")
    found = made.attend(query, keys, values, 0.3, slots, positions)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    for row in range(5):
        alone = made.attend(query[row : row + 1], keys, values, 0.3, slots[row : row + 1], positions[row : row + 1])
        assert torch.equal(alone[0], found[row])


def test_a_score_that_is_no_number_stays_one(made: Kernel) -> None:
    """The engine names the request that it broke: no other may answer for it, and none may hide it."""
    keys, values, query = numbers(2, 1, 64, 16), numbers(2, 1, 64, 16), numbers(2, 1, 16)
    keys[1, 0, 5] = float("nan")
    found = made.attend(query, keys, values, 0.3, torch.tensor([0, 1]), torch.tensor([9, 9]))
    assert torch.isfinite(found[0]).all() and torch.isnan(found[1]).all()


def test_what_c_would_misread_is_refused(made: Kernel) -> None:
    """A pointer has no type: each of these would be read, or written, beyond its end."""
    x, weight, packed = numbers(3, 32), numbers(48, 32), made.pack(numbers(48, 32))
    heads, turns, pair = numbers(2, 4, 16), numbers(2, 1, 16), (numbers(2, 1, 64, 16), numbers(2, 1, 64, 16))
    two = torch.tensor([0, 1])
    for wrong in (
        lambda: made.norm(x, numbers(32).double(), 1e-5),
        lambda: made.pack(weight.bfloat16()),
        lambda: made.product(x.bfloat16(), packed, None),
        lambda: made.product(x[:, :31], packed, None),
        lambda: made.product(x, packed, numbers(2, 48)),
        lambda: made.product(x, packed, numbers(3, 48).half()),
        lambda: made.norm(x.double(), numbers(32).double(), 1e-5),
        lambda: made.norm(x, numbers(31), 1e-5),
        lambda: made.norm(x.T, numbers(3), 1e-5),
        lambda: made.gate(numbers(3, 40)),
        lambda: made.gate(numbers(64, 3).T),
        lambda: made.place(heads, turns[..., :8], turns, *pair, two, two),
        lambda: made.place(heads, turns, turns.bfloat16(), *pair, two, two),
        lambda: made.place(heads, turns, turns, pair[0], pair[1][:1], two, two),
        lambda: made.place(heads, turns, turns, *pair, two.int(), two),
        lambda: made.attend(heads[:, :2], *pair, 1.0, two, two[:1]),
        lambda: made.attend(heads[:, :2, :8], *pair, 1.0, two, two),
    ):
        with pytest.raises(RuntimeError, match="the kernel wants"):
            wrong()


def test_nothing_is_nothing(made: Kernel) -> None:
    assert made.product(numbers(0, 32), made.pack(numbers(48, 32)), None).shape == (0, 48)
    assert made.norm(numbers(0, 32), numbers(32), 1e-5).shape == (0, 32)
    assert made.gate(numbers(0, 32)).shape == (0, 16)


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    assert kernel() is not None
    (library,) = (tmp_path / "kernels").iterdir()
    stamp = library.stat().st_mtime_ns
    module._searched.cache_clear()
    assert kernel() is not None
    assert library.stat().st_mtime_ns == stamp and list((tmp_path / "kernels").iterdir()) == [library]


def test_what_does_not_load_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    assert kernel() is not None
    (library,) = (tmp_path / "kernels").iterdir()
    whole = library.read_bytes()
    library.unlink()
    library.write_bytes(b"of another kind of machine")
    library.chmod(0o700)
    module._searched.cache_clear()
    assert kernel() is not None and library.read_bytes() == whole


@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_others_may_write_is_not_run(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    assert kernel() is not None
    folder = tmp_path / "kernels"
    (folder if which == "folder" else next(folder.iterdir())).chmod(0o777)
    module._searched.cache_clear()
    assert kernel() is None
    assert "others may write to it" in absence()


def test_another_source_compiler_or_processor_is_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    built = tmp_path / "kernels"
    for number, name in enumerate(PROCESSORS, 1):
        build(name)
        assert len(list(built.iterdir())) == number
    source, gcc = tmp_path / "kernel.c", shutil.which("gcc")
    source.write_text(module.SOURCE.read_text() + "\n")
    monkeypatch.setattr(module, "SOURCE", source)
    build("native")
    assert len(list(built.iterdir())) == len(PROCESSORS) + 1
    (tmp_path / "gcc").write_text(
        f'#!/bin/sh\ncase "$*" in *-dM*) echo "#define __VERSION__ 99";; esac\nexec {gcc} "$@"\n'
    )
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    build("native")
    assert len(list(built.iterdir())) == len(PROCESSORS) + 2


JUNK = 'case "$*" in *-dM*) exit 0;; esac; while [ "$1" != -o ]; do shift; done; echo junk > "$2"'


@pytest.mark.parametrize(
    ("gcc", "said"),
    [
        (None, "install gcc"),
        ("echo no such option >&2; exit 1", "no such option"),
        ("exit 0", "No such file"),
        (JUNK, "file too short"),
    ],
)
def test_without_a_compiler_that_works_there_is_none(
    gcc: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    if gcc is not None:
        (tmp_path / "gcc").write_text(f"#!/bin/sh\n{gcc}\n")
        (tmp_path / "gcc").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert kernel() is None
    assert not list(tmp_path.rglob("*.so"))  # what does not work is not kept
    assert said in absence()


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    assert kernel() is None
    assert "cache" in absence()


def test_nobody_at_home_is_no_error(monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BURNISH_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert kernel() is None
    assert "home directory" in absence()
