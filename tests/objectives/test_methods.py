"""The table of preference methods: what each minimises, and the settings that it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from burnish.errors import TrainingError
from burnish.objectives import METHODS, Answer, Outputs, Tree, pack

PAIR = Tree(
    [1],
    tuple(Answer([2], [1.0], {"reference_logp": [logp]}, row) for row, logp in enumerate((-3.0, -1.0))),
    {"preference": 1.0},
)
THUMB = Tree([1], (Answer([2], [1.0], {"reference_logp": [-3.0]}),), {"label": 1.0})


def minimised(name: str, **settings: float) -> tuple[float, list[float]]:
    """The objective on one pair (logp -1 and -5: margin 6) or one good answer (ratio 2), and its gradient."""
    tree, logp_S = (PAIR, [-1.0, -5.0]) if METHODS[name].rows == "pairs" else (THUMB, [-1.0])
    leaf_S = torch.tensor(logp_S, requires_grad=True)
    loss = torch.zeros(())
    stream = pack([tree], 10)[0]
    stream.window = {"kto": 0.0}
    for term in METHODS[name].terms(settings):
        loss = loss + term.weight * term.loss(Outputs(leaf_S), stream).total
    loss.backward()
    return loss.item(), leaf_S.grad.tolist()


@pytest.mark.parametrize(
    ("name", "settings", "loss", "gradient"),
    [
        ("dpo", {"beta": 0.1}, 0.437488, [-0.035434, 0.035434]),
        ("dpo", {"beta": 0.1, "label_smoothing": 0.1}, 0.497488, [-0.025434, 0.025434]),
        ("dpo", {"beta": 0.1, "sft": 0.5}, 0.937488, [-0.535434, 0.035434]),
        ("hinge", {"beta": 0.1}, 0.4, [-0.1, 0.1]),
        ("ipo", {"beta": 0.1}, 1.0, [2.0, -2.0]),
        ("robust", {"beta": 0.1}, 0.362488, [-0.047934, 0.047934]),
        ("simpo", {"beta": 0.5, "gamma": 2.0}, math.log(2), [-0.25, 0.25]),
        ("orpo", {"beta": 0.1}, 1.001159, [-1.001823, 0.001160]),
        ("kto", {"beta": 0.1}, 0.450166, [-0.024752]),
        ("kto", {"beta": 0.1, "desirable": 2.0, "sft": 1.0}, 1.900332, [-1.049503]),
    ],
)
def test_each_method_minimises_what_it_says(name, settings, loss, gradient):
    found = minimised(name, **settings)
    assert found[0] == pytest.approx(loss, abs=1e-6)
    assert found[1] == pytest.approx(gradient, abs=1e-6)


def test_the_table_says_what_each_method_needs():
    assert {n: m.rows for n, m in METHODS.items() if m.rows == "labels"} == {"kto": "labels"}
    assert {n for n, m in METHODS.items() if not m.reference} == {"simpo", "orpo"}
    for name, method in METHODS.items():
        assert method.name == name
        assert (method.zero_margin is not None) == method.reference
        if method.zero_margin is not None:
            term, metric = method.zero_margin.split("/")
            assert metric in method.terms({})[0].loss(Outputs(torch.zeros(0)), pack_nothing()).metrics
            assert method.terms({})[0].name == term


def pack_nothing():
    return pack([Tree([1], (Answer([2], [0.0]),))], 10)[0]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("dpo", {"gamma": 1.0}, "dpo reads no gamma"),
        ("kto", {"label_smoothing": 0.1}, "kto reads no label_smoothing"),
        ("dpo", {"beta": 0.0}, "beta of dpo is 0.0"),
        ("dpo", {"beta": math.nan}, "beta of dpo is nan"),
        ("robust", {"label_smoothing": 0.5}, "label_smoothing of robust is 0.5"),
        ("simpo", {"gamma": -1.0}, "gamma of simpo is -1.0"),
        ("orpo", {"sft": -1.0}, "sft of orpo is -1.0"),
        ("kto", {"undesirable": 0.0}, "undesirable of kto is 0.0"),
    ],
)
def test_a_setting_that_a_method_cannot_use_is_refused(name, settings, says):
    with pytest.raises(TrainingError, match=says):
        METHODS[name].terms(settings)


def test_the_docs_say_what_each_method_reads_and_logs():
    docs = Path(__file__).parents[2] / "docs"
    losses, metrics = ((docs / page).read_text() for page in ("explanation/losses.md", "reference/metrics.md"))
    for name, method in METHODS.items():
        (row,) = (line for line in losses.splitlines() if line.startswith(f"| `{name}` | {method.rows} |"))
        assert ", ".join(f"{key} {value}" for key, value in method.defaults.items()) in row
        for term in method.terms({"sft": 1.0}):
            figures = term.loss(Outputs(torch.zeros(0)), pack_nothing()).metrics
            for figure in (term.name, *(f"{term.name}/{metric}" for metric in figures)):
                assert f"`{figure}`" in metrics
