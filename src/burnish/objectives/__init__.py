"""The objective core: the flat batch, the loss terms, and the table of preference methods."""

from burnish.objectives.distillation import distillation, distillation_term
from burnish.objectives.hybrid import chord, chord_schedule, chord_term, shaped, shaped_term, sharing
from burnish.objectives.methods import METHODS, Method
from burnish.objectives.own import PairLogps, own_method
from burnish.objectives.preference import (
    chosen_term,
    orpo,
    orpo_term,
    pairwise,
    pairwise_term,
    preference_margin,
    preference_term,
    simpo,
    simpo_term,
    smoothed,
)
from burnish.objectives.stream import Answer, Span, Stream, Top, Tree, pack, pack_evenly
from burnish.objectives.terms import (
    Outputs,
    Statistic,
    Term,
    TermResult,
    entropy,
    entropy_term,
    kl,
    kl_term,
    likelihood,
    likelihood_term,
    policy,
    policy_term,
)
from burnish.objectives.unpaired import kto, kto_term, mismatch
from burnish.objectives.value import value, value_term

__all__ = [
    "METHODS",
    "Answer",
    "Method",
    "Outputs",
    "PairLogps",
    "Span",
    "Statistic",
    "Stream",
    "Term",
    "TermResult",
    "Top",
    "Tree",
    "chord",
    "chord_schedule",
    "chord_term",
    "chosen_term",
    "distillation",
    "distillation_term",
    "entropy",
    "entropy_term",
    "kl",
    "kl_term",
    "kto",
    "kto_term",
    "likelihood",
    "likelihood_term",
    "mismatch",
    "orpo",
    "orpo_term",
    "own_method",
    "pack",
    "pack_evenly",
    "pairwise",
    "pairwise_term",
    "policy",
    "policy_term",
    "preference_margin",
    "preference_term",
    "shaped",
    "shaped_term",
    "sharing",
    "simpo",
    "simpo_term",
    "smoothed",
    "value",
    "value_term",
]
