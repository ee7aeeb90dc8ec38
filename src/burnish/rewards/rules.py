"""Rules as parts of a reward: on an answer's length, and on its format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence


def length_penalty(tokens: int, shortest: int, longest: int) -> float:
    """Minus the tokens too few or too many, as a share of ``longest``: 0 from ``shortest`` to ``longest``.

    ``-(max(0, shortest - tokens) + max(0, tokens - longest)) / longest``
    """
    return -(max(0, shortest - tokens) + max(0, tokens - longest)) / longest


def matches(answer: str, pattern: str) -> float:
    """1 where the whole answer, without the white space around it, matches; else 0. A dot matches newlines too."""
    return float(re.fullmatch(pattern, answer.strip(), re.DOTALL) is not None)


def is_json_object(answer: str, keys: Sequence[str] = ()) -> float:
    """1 where the whole answer is a JSON object that holds these keys; else 0."""
    try:
        found = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return 0.0
    return float(isinstance(found, dict) and all(key in found for key in keys))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
