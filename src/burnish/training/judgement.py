"""Whether answers turned for the worse: the paired test behind the brake, made to be repeated.

A judge says, look by look, how far each dev prompt's answer wins against the start's: a share in [0, 1], a half where
they are equal, None where nothing was said. The start itself is a look of halves. Axis: N dev prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from burnish.records import Figure
from burnish.statistics import alpha_for_use, mean_interval, paired_bootstrap

Shares = Sequence[float | None]

ALPHA = 0.05  # of all tests of a run together, shared by its judges
MARGIN = 0.05  # share of wins: to lose less is not worth a stop
IN_A_ROW = 2  # looks: the best of many looks is better than it is, and one look alone may be worse than it is
LEAST = 12  # prompts: of fewer, all may be lost by chance (12 of 12: once in 4,096)
LOOKS = 4  # whose votes together say how good the newest is: with 24 a look, a standard error of 0.05
RESAMPLES = 20_000  # the tests' tails are far out


def win_shares(rewards_N: Shares, start_N: Shares) -> list[float | None]:
    """How often each answer would win against the start's, in the scale of Bradley-Terry: ``sigmoid(now - start)``."""
    return [
        None if now is None or start is None else 1 / (1 + math.exp(-max(-500.0, min(500.0, now - start))))
        for now, start in zip(rewards_N, start_N, strict=True)
    ]


def mean(shares_N: Shares) -> float | None:
    """The mean of what was said; None where it is about fewer than ``LEAST`` prompts, and about fewer than all."""
    said = [share for share in shares_N if share is not None]
    return sum(said) / len(said) if said and len(said) >= min(LEAST, len(shares_N)) else None


def interval(shares_N: Shares, seed: int) -> Figure | None:
    """The mean with its 95 % bootstrap interval over prompts; None where ``mean`` is."""
    said = [(n, share) for n, share in enumerate(shares_N) if share is not None]
    if mean(shares_N) is None:
        return None
    return mean_interval([share for _, share in said], [n for n, _ in said], seed=seed)


def standing(predicted: Mapping[int, Shares], voted: Mapping[int, Shares]) -> float:
    """The share that the newest look wins against the start, as raters say; as a model says where there are none.

    Two dozen votes say little, and the best of many noisy shares is often an early one by luck: so the mean over the
    newest ``LOOKS`` looks that raters spoke about, of which the start, a half against itself, is one. From there to a
    look that they have not reached leads what the model says has changed since; nothing, where no answer of one of the
    two has a number.

    Args:
        predicted: A model's shares by the number of updates before the look, those of look 0 and the newest included.
        voted: Raters' shares.
    """
    said = {0: 0.5} | {step: found for step, shares in voted.items() if step and (found := mean(shares)) is not None}
    level = [said[step] for step in sorted(said)[-LOOKS:]]
    now, then = (_known(predicted[step]) for step in (max(predicted), max(said)))
    since = 0.0 if now is None or then is None else now - then  # 0 as well where raters have reached the newest look
    return sum(level) / len(level) + since


def _known(shares_N: Shares) -> float | None:
    """The mean of those that have a number, however few; None where none has."""
    known = [share for share in shares_N if share is not None]
    return sum(known) / len(known) if known else None


def turned(looks: Mapping[int, Shares], use: int, alpha: float, seed: int) -> tuple[int, Figure] | None:
    """The best look so far and the newest one's distance from it, where that is surely below -``MARGIN``; else None.

    The paired difference on the prompts that both looks speak about, the newest minus the best before it. Surely: the
    upper end of its one-sided bootstrap interval is below -``MARGIN``, at the level that the ``use``-th test of a run
    may spend, ``alpha / (use (use + 1))``: over all looks of a run the tests together err with probability ``alpha`` at
    most. Choosing the best by the same shares makes it look better than it is; ``benchmarks/brake.py`` measures what
    that costs.

    Args:
        looks: Shares by the number of updates before the look.
        use: The number of this test in the run, 1 or more.
    """
    known = {step: found for step, shares in looks.items() if (found := mean(shares)) is not None}
    if len(known) < 2:
        return None
    newest = max(known)
    best = max((step for step in known if step != newest), key=lambda step: known[step])
    pairs = [
        (n, now, then)
        for n, (now, then) in enumerate(zip(looks[newest], looks[best], strict=True))
        if now is not None and then is not None
    ]
    if len(pairs) < LEAST:
        return None
    prompts, now_N, then_N = zip(*pairs, strict=True)
    level = 1 - 2 * alpha_for_use(use, alpha)
    apart = paired_bootstrap(now_N, then_N, prompts, seed=seed, level=level, resamples=RESAMPLES)
    return (best, apart) if apart.high is not None and apart.high < -MARGIN else None
