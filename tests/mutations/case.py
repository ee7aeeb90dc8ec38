"""What a mutation is: a bug, put into the source on purpose, that a named test must see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """``old`` occurs exactly once in ``file`` and is replaced by ``new``; then ``tests`` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str
