"""The objective core: the flat batch and the loss terms."""

from burnish.objectives.stream import Answer, Span, Stream, Tree, pack
from burnish.objectives.terms import (
    Outputs,
    Term,
    TermResult,
    entropy,
    entropy_term,
    kl,
    kl_term,
    likelihood,
    likelihood_term,
    pairwise,
    pairwise_term,
    policy,
    policy_term,
    preference_margin,
)

__all__ = [
    "Answer",
    "Outputs",
    "Span",
    "Stream",
    "Term",
    "TermResult",
    "Tree",
    "entropy",
    "entropy_term",
    "kl",
    "kl_term",
    "likelihood",
    "likelihood_term",
    "pack",
    "pairwise",
    "pairwise_term",
    "policy",
    "policy_term",
    "preference_margin",
]
