"""Losses and gradients against those that TRL's own code gave: see tests/golden/make_golden.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.models.projection import project
from burnish.models.teacher import FullTeacher, teacher_kl
from burnish.objectives import (
    METHODS,
    Answer,
    Outputs,
    Term,
    Tree,
    distillation_term,
    kl_term,
    likelihood_term,
    pack,
    pairwise_term,
    policy_term,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = GOLDEN["cases"]
METHOD_OF = {
    "dpo": "dpo",
    "hinge": "hinge",
    "ipo": "ipo",
    "robust": "robust",
    "dpo with sft": "dpo",
    "cpo with label smoothing": "dpo",  # its reference is 0
    "cpo hinge": "hinge",
    "simpo": "simpo",
    "simpo with label smoothing": "simpo",
    "orpo": "orpo",
    "kto": "kto",
}
CLOSE = {"rtol": 1e-4, "atol": 1e-7}


def as_answer(row: dict[str, list[float]], **streams: list[float]) -> Answer:
    """Ids do not matter: the logprobs are given."""
    length = len(row["logp"])
    return Answer(
        range(length), [1.0] * length, {"reference_logp": row.get("reference_logp", [0.0] * length), **streams}
    )


def flat(rows: Sequence[dict[str, list[float]]], name: str) -> torch.Tensor:
    return torch.tensor([value for row in rows for value in row[name]])


def require_close(terms: Sequence[Term], trees: Sequence[Tree], rows: Sequence[dict[str, Any]], loss: float) -> None:
    """The objective and its gradient with respect to each logprob are TRL's."""
    logp_S = flat(rows, "logp").requires_grad_()
    stream = pack(trees, 10_000)[0]
    for term in terms:
        if term.statistic is not None:
            other = term.statistic.trees(trees)
            mismatched_S = torch.tensor([x for tree in other for x in tree.answers[0].streams["policy_logp"]])
            read = term.statistic.read(Outputs(mismatched_S), pack(other, 10_000)[0])
            stream.window = {term.name: float(read.total) / read.units}
    results = [(term, term.loss(Outputs(logp_S), stream)) for term in terms]
    total = sum(term.weight * result.total / term.divided_by(trees) for term, result in results)
    total.backward()
    torch.testing.assert_close(total.detach(), torch.tensor(loss), rtol=1e-4, atol=0)
    torch.testing.assert_close(logp_S.grad, flat(rows, "gradient"), **CLOSE)
    assert logp_S.grad.abs().max() > 1e-3


def test_the_golden_file_holds_every_case() -> None:
    assert GOLDEN["made with"]["trl"] == "1.16.0"
    assert set(METHOD_OF) <= set(CASES)
    assert len(CASES) == 20


@pytest.mark.parametrize("case", METHOD_OF)
def test_preference_methods(case: str) -> None:
    given = CASES[case]
    method = METHODS[METHOD_OF[case]]
    settings = {name: value for name, value in given.items() if name in method.defaults}
    if method.rows == "pairs":
        rows = [row for pair in given["pairs"] for row in pair]
        trees = [Tree([1], tuple(map(as_answer, pair)), {"preference": 1.0}) for pair in given["pairs"]]
    else:
        rows = given["answers"]
        others = [as_answer(row, policy_logp=row["logp"]) for row in given["mismatched"]]
        trees = [
            Tree([1], (as_answer(row),), {"label": label}, other)
            for row, label, other in zip(rows, given["labels"], others, strict=True)
        ]
    require_close(method.terms(settings), trees, rows, given["loss"])


@pytest.mark.parametrize("case", ["bradley-terry", "bradley-terry with margins"])
def test_bradley_terry(case: str) -> None:
    given = CASES[case]
    trees = [
        Tree([1], (Answer([2], [0.0]), Answer([3], [0.0])), {"preference": 1.0, "margin": margin})
        for margin in given["margins"]
    ]
    scores_A = torch.tensor(given["scores"]).flatten().requires_grad_()
    term = pairwise_term()
    total = term.loss(Outputs(scores_A=scores_A), pack(trees, 100)[0]).total / term.count(trees)
    total.backward()
    torch.testing.assert_close(total.detach(), torch.tensor(given["loss"]), rtol=1e-4, atol=0)
    torch.testing.assert_close(scores_A.grad, torch.tensor(given["gradient"]).flatten(), **CLOSE)


def test_likelihood() -> None:
    given = CASES["likelihood"]
    trees = [Tree([1], (as_answer(row),)) for row in given["answers"]]
    require_close([likelihood_term()], trees, given["answers"], given["loss"])


@pytest.mark.parametrize("case", ["grpo", "dapo", "dr_grpo", "dapo with kl"])
def test_policy(case: str) -> None:
    given = CASES[case]
    rows = given["answers"]
    trees = [
        Tree([1], (as_answer(row, old_logp=row["old_logp"], advantage=[advantage] * len(row["logp"])),))
        for row, advantage in zip(rows, given["advantages"], strict=True)
    ]
    unit = "sequence" if case == "grpo" else "token"
    terms = [policy_term(unit=unit, clip=(0.2, 0.28), longest=given.get("length"))]
    if "kl" in given:
        terms.append(kl_term(given["kl"], "k3"))
    require_close(terms, trees, rows, given["loss"])


@pytest.mark.parametrize("case", ["distillation", "distillation at temperature 2"])
def test_distillation(case: str) -> None:
    given = CASES[case]
    hidden_SD, head_VD, teacher_SE, teacher_VE = (
        torch.tensor(given[name]) for name in ("hidden", "head", "teacher_hidden", "teacher_head")
    )
    length = len(hidden_SD.requires_grad_())
    teacher = FullTeacher(teacher_SE, teacher_VE, given["temperature"])
    logp_S = project(hidden_SD, head_VD, torch.zeros(length, dtype=torch.long)).logp_S
    trees, term = [Tree([1], (Answer(range(length), [1.0] * length),))], distillation_term()
    outputs = Outputs(logp_S, teacher_kl_S=teacher_kl(hidden_SD, head_VD, teacher))
    total = term.loss(outputs, pack(trees, 100)[0]).total / term.count(trees)
    total.backward()
    torch.testing.assert_close(total.detach(), torch.tensor(given["loss"]), rtol=1e-4, atol=0)
    assert given["plain_loss"] == pytest.approx(given["loss"], rel=1e-4)
    torch.testing.assert_close(hidden_SD.grad, torch.tensor(given["gradient"]), **CLOSE)
