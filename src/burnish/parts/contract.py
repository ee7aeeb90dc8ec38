"""What an own reward, metric or credit function promises, tried before it is used; ours pass the same.

Each contract that is broken is one message with the numbers. The contract of losses needs tensors and is in
``objectives.contract``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence

from burnish.errors import PartError
from burnish.parts.load import Part
from burnish.records import Reply, Row

EXAMPLES = 4
ROLLOUT = ((0.0, 1.0, 3.0, 4.0), (5.0, 5.5, -2.0, 5.5), (0.0, 0.0, 1.0, 0.0), (2.0, 2.0, 2.0, 2.0))
CLOSE = 1e-9

Credit = Callable[[Sequence[Sequence[float]]], Sequence[Sequence[float]]]


def number_of(part: Part, reply: Reply, row: int) -> float:
    """What an own reward or metric says about one answer.

    Raises:
        PartError: It raised, or returned anything but a finite number.
    """
    return finite(part.name, "one number per answer", "it", part(reply, about=f"row {row}"), row)


def examples_of(rows: Sequence[Row]) -> list[tuple[Reply, int]]:
    """Answers to try a function on, with their rows: as written, cut short, and empty, as a model may well answer."""
    found = []
    for row in rows[:EXAMPLES]:
        text = row.answer if row.answer else row.prompt[-1].content
        half = text[: len(text) // 2]
        for answer, finished in ((text, True), (half, False), ("", True)):
            found.append((Reply(row.prompt, answer, finished, len(answer.split()) + finished, row.answer), row.number))
    return found


def score_contract(part: Part, examples: Sequence[tuple[Reply, int]]) -> list[str]:
    """Try an own reward or metric; returns the contracts that it kept.

    Raises:
        PartError: It raised, gave no finite number, or another number the second time.
    """
    first = [number_of(part, reply, row) for reply, row in examples]
    again = [number_of(part, reply, row) for reply, row in reversed(examples)][::-1]
    for (_, row), a, b in zip(examples, first, again, strict=True):
        if a != b:
            what = f"the same answer to row {row} gave {a!r}, then {b!r}"
            raise broken(part.name, "determinism", what)
    return ["one number per answer", "determinism"]


def credit_contract(name: str, credit: Credit) -> list[str]:
    """Try a credit function on a made-up rollout; returns the contracts that it kept.

    Raises:
        PartError: The shape is not that of the rewards, an advantage is not finite, the order of groups or answers
            matters, equal answers get unequal advantages, a better answer gets less than a worse one, or it says
            something else the second time.
    """
    found = _advantages(name, credit, ROLLOUT)
    if _advantages(name, credit, ROLLOUT) != found:
        raise broken(name, "determinism", "the same rewards gave other advantages the second time")
    turned = [list(reversed(group)) for group in reversed(ROLLOUT)]
    back = [list(reversed(group)) for group in reversed(_advantages(name, credit, turned))]
    for a_G, b_G in zip(found, back, strict=True):
        if not all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) for a, b in zip(a_G, b_G, strict=True)):
            raise broken(name, "order", f"{a_G} became {b_G} when groups and answers came in another order")
    for rewards_G, a_G in zip(ROLLOUT, found, strict=True):
        _require_monotone(name, rewards_G, a_G)
    equal_G = _advantages(name, credit, ((1.5, 1.5, 1.5),))[0]
    _require_monotone(name, (1.5, 1.5, 1.5), equal_G)
    try:
        _advantages(name, credit, ((1.0,),))
        alone = "a group of one"
    except (ValueError, PartError) as error:
        cause = error.__cause__ if isinstance(error, PartError) else error
        if not isinstance(cause, ValueError):
            raise
        alone = "a group of one is refused"
    return ["one advantage per answer", "determinism", "order", "a better answer never gets less", alone]


def _advantages(name: str, credit: Credit, rewards_NG: Sequence[Sequence[float]]) -> list[list[float]]:
    found = credit([list(group) for group in rewards_NG])
    try:
        values = [[float(a) for a in group] for group in found]
    except (TypeError, ValueError):
        raise broken(name, "one advantage per answer", f"it returned a {type(found).__name__}") from None
    shapes = [len(group) for group in values], [len(group) for group in rewards_NG]
    if shapes[0] != shapes[1]:
        what = f"groups of {shapes[1]} rewards gave groups of {shapes[0]} advantages"
        raise broken(name, "one advantage per answer", what)
    if not all(math.isfinite(a) for group in values for a in group):
        raise broken(name, "finite", f"the rewards {list(map(list, rewards_NG))} gave {values}")
    return values


def _require_monotone(name: str, rewards_G: Sequence[float], advantages_G: Sequence[float]) -> None:
    pairs = [(r, a) for r, a in zip(rewards_G, advantages_G, strict=True)]
    for r, a in pairs:
        for better, b in pairs:
            if better >= r and b < a - CLOSE:
                what = f"in one group, reward {r:g} got {a:g} and reward {better:g} got {b:g}"
                raise broken(name, "a better answer never gets less", what)


def finite(name: str, contract: str, who: str, value: object, row: int) -> float:
    """A number that ``who``, a part or a method of it, returned on a row.

    Raises:
        PartError: It is anything but a finite number.
    """
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise broken(name, contract, f"{who} returned {shown(value)} on row {row}, not a finite number")


def shown(value: object) -> str:
    """A value of the user's in a message."""
    return repr(value) if len(repr(value)) <= 60 else type(value).__name__


def broken(name: str, contract: str, what: str) -> PartError:
    """The message about a contract that a part breaks."""
    return PartError(f'"{name}" breaks the contract "{contract}": {what}')
