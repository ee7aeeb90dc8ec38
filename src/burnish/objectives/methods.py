"""The preference methods: a row of a table each, and what its settings mean.

A stage reads this table and knows no formula: ``METHODS["dpo"].terms({"beta": 0.1})`` are the terms to minimise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from burnish.errors import TrainingError
from burnish.objectives.preference import Margin, Smoothing, chosen_term, orpo_term, preference_term, simpo_term
from burnish.objectives.terms import Term
from burnish.objectives.unpaired import kto_term

Rows = Literal["pairs", "labels"]
Values = Mapping[str, float]


@dataclass(frozen=True)
class Method:
    """A way to learn from judged answers.

    ``rows``: "pairs" are trees of two answers with "preference", "labels" trees of one answer with "label" and a
    ``mismatched`` answer. ``reference``: whether every answer (the mismatched too) carries "reference_logp", the
    logprobs under the start version. ``defaults`` names every setting that the method reads; ``build`` takes them
    all and makes the terms. ``zero_margin`` is the logged figure that is exactly 0 as long as the policy is the
    reference (None where there is no reference).
    """

    name: str
    summary: str
    rows: Rows
    reference: bool
    defaults: Values
    build: Callable[[Values], list[Term]]
    zero_margin: str | None = None

    def settings(self, given: Values) -> dict[str, float]:
        """The defaults with ``given`` in their place.

        Raises:
            TrainingError: The method does not read a setting, or cannot take its value.
        """
        for name, value in given.items():
            if name not in self.defaults:
                reads = ", ".join(self.defaults)
                raise TrainingError(f"{self.name} reads no {name}", mend=f"leave it out; it reads {reads}")
            if not _ALLOWED[name](value):
                raise TrainingError(f"{name} of {self.name} is {value}", mend=f"it is {_SAID[name]}")
        return {**self.defaults, **given}

    def terms(self, given: Values) -> list[Term]:
        """The terms to minimise, with the given settings and the defaults of the others.

        Raises:
            TrainingError: As ``settings``.
        """
        return self.build(self.settings(given))


_ALLOWED: Mapping[str, Callable[[float], bool]] = {
    "beta": lambda value: 0 < value < float("inf"),
    "gamma": lambda value: 0 <= value < float("inf"),
    "label_smoothing": lambda value: 0 <= value < 0.5,
    "sft": lambda value: 0 <= value < float("inf"),
    "desirable": lambda value: 0 < value < float("inf"),
    "undesirable": lambda value: 0 < value < float("inf"),
}
_SAID = {
    "beta": "a number above 0",
    "gamma": "a number from 0",
    "label_smoothing": "a share of wrong votes, from 0 to below 0.5",
    "sft": "a weight from 0",
    "desirable": "a weight above 0",
    "undesirable": "a weight above 0",
}


def _margin(kind: Margin, smoothing: Smoothing, values: Values) -> list[Term]:
    first = preference_term(kind, values["beta"], values["label_smoothing"], smoothing)
    return [first, *_chosen(values)]


def _simpo(values: Values) -> list[Term]:
    return [simpo_term(values["beta"], values["gamma"], values["label_smoothing"]), *_chosen(values)]


def _orpo(values: Values) -> list[Term]:
    return [orpo_term(values["label_smoothing"], weight=values["beta"]), *_chosen(values)]


def _kto(values: Values) -> list[Term]:
    return [kto_term(values["beta"], values["desirable"], values["undesirable"]), *_chosen(values)]


def _chosen(values: Values) -> list[Term]:
    return [chosen_term(values["sft"])] if values["sft"] else []


_DPO = {"beta": 0.1, "label_smoothing": 0.0, "sft": 0.0}


def _of_margin(name: str, summary: str, kind: Margin, smoothing: Smoothing = "conservative", **other: float) -> Method:
    return Method(name, summary, "pairs", True, _DPO | other, partial(_margin, kind, smoothing), "preference/margin")


_ROWS = (
    _of_margin("dpo", "the better answer ahead of the other, against the start version (logistic loss)", "sigmoid"),
    _of_margin(
        "ipo", "as dpo, with a margin of 1 / (2 beta) nats a token as the goal: clear pairs do not run away", "ipo"
    ),
    _of_margin("hinge", "as dpo, until the margin is 1 / beta nats: pairs beyond it teach nothing", "hinge"),
    _of_margin(
        "robust",
        "as dpo, corrected for a known share of wrong votes (label_smoothing)",
        "sigmoid",
        "robust",
        label_smoothing=0.1,
    ),
    Method(
        "simpo",
        "mean logprob of the better answer ahead by gamma / beta; no reference",
        "pairs",
        False,
        {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.0, "sft": 0.0},
        _simpo,
    ),
    Method(
        "orpo",
        "likelihood of the better answer, and beta times the log odds ratio; no reference",
        "pairs",
        False,
        {"beta": 0.1, "label_smoothing": 0.0, "sft": 1.0},
        _orpo,
    ),
    Method(
        "kto",
        "answers that were called good or bad, one at a time",
        "labels",
        True,
        {"beta": 0.1, "desirable": 1.0, "undesirable": 1.0, "sft": 0.0},
        _kto,
        "kto/margin",
    ),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _ROWS}
