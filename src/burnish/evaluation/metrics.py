"""What is measured of answers: one number per item, and the figure of a contender over its items.

Every figure is a mean over items, so that one pair of functions gives all intervals. A figure of the whole corpus
(distinct-2) or of two means (a ratio) is linearised: its items' numbers have exactly that figure as their mean, and
spread as the figure would if items were drawn again. Shapes: N items.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from burnish.records import Exchange, Figure
from burnish.statistics import mean_interval, paired_bootstrap, share_interval

SCORE = "score."  # what the task's own score says is named by this and its key
UTILITY = SCORE + "utility"
MOST_RESAMPLES = 200_000

Numbers = Sequence[float | None]  # None: this item has no such number (no written answer: no loss)

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True, slots=True)
class Metric:
    """``better`` says which way is good (None: neither); ``share``: each item says yes or no; ``most``: no figure can
    be larger."""

    meaning: str
    better: Literal["higher", "lower"] | None
    share: bool = False
    most: float = math.inf


METRICS: Mapping[str, Metric] = {
    "loss": Metric("negative log-likelihood per token of the written answer, in nats", "lower"),
    "length": Metric("tokens of the answer, the stop token included", None),
    "cut": Metric("share of answers that reached max_new_tokens", "lower", share=True),
    "changed": Metric("share of answers that differ from the start version's", None, share=True),
    "kl": Metric("nats per token of the candidate away from the start version, by its own samples (k1)", "lower"),
    "distinct_2": Metric(
        "distinct pairs of neighbouring words over all such pairs, of all answers", "higher", most=1.0
    ),
    "repeats": Metric("share of answers that say four words in a row twice", "lower", share=True),
    "length_ratio": Metric("mean length over the reference's mean length", None),
    "win_rate": Metric("how often raters preferred it to the reference, a tie counting a half", "higher"),
}


def metric_of(name: str) -> Metric | None:
    """The metric of a name, None where there is none; the parts of the task's score, and own metrics
    (``package.module:function``), are better when higher."""
    if ":" in name:
        return Metric(f"mean of {name} over answers", "higher")
    if name.startswith(SCORE) and len(name) > len(SCORE):
        return Metric(f"mean of {name.removeprefix(SCORE)} over answers", "higher")
    return METRICS.get(name)


def text_numbers(exchanges: Sequence[Exchange]) -> dict[str, list[float]]:
    """What the answers alone say: length, cut, repeats and distinct_2."""
    texts = [exchange.answer for exchange in exchanges]
    return {
        "length": [float(len(exchange.answer_ids)) for exchange in exchanges],
        "cut": [float(exchange.finish_reason == "length") for exchange in exchanges],
        "repeats": [float(repeats(text)) for text in texts],
        "distinct_2": distinct_2(texts),
    }


def repeats(text: str) -> bool:
    """Whether four words in a row occur twice."""
    grams = _grams(text, 4)
    return len(set(grams)) < len(grams)


def distinct_2(texts: Sequence[str]) -> list[float]:
    """Distinct word bigrams over all bigrams (Li et al. 2016, arXiv:1510.03055), linearised by leaving each text out.

    Drawing texts with replacement would count the bigrams of doubled texts as repeated, so the corpus itself cannot be
    bootstrapped; its jackknife influences can (Efron 1992). Returns N numbers whose mean is the corpus figure; zeros
    where there is no bigram.
    """
    own = [Counter(_grams(text, 2)) for text in texts]
    holders = Counter(gram for grams in own for gram in grams)
    total, distinct = sum(sum(grams.values()) for grams in own), len(holders)
    if total == 0:
        return [0.0] * len(texts)
    figure = distinct / total
    without = []
    for grams in own:
        rest = total - sum(grams.values())
        alone = sum(holders[gram] == 1 for gram in grams)
        without.append((distinct - alone) / rest if rest else 0.0)
    middle = math.fsum(without) / len(without)
    return [figure + (len(texts) - 1) * (middle - left_out) for left_out in without]


def figure_of(
    values: Numbers, clusters: Sequence[Any], *, seed: int, level: float = 0.95, metric: Metric | None = None
) -> Figure:
    """The mean of the items that have a number, with its interval over clusters.

    NaN without an interval where there is no number or one that is not finite. A share that is the same for all items
    has Wilson's interval over clusters: 0 of 96 is not the same as 0 of ever.
    """
    kept = [(value, cluster) for value, cluster in zip(values, clusters, strict=True) if value is not None]
    numbers, groups = [value for value, _ in kept], [cluster for _, cluster in kept]
    if not kept or not all(map(math.isfinite, numbers)):
        return Figure(math.nan, None, None, len(set(groups)), level)
    if metric is not None and metric.share and len(set(numbers)) == 1:
        count = len(set(groups))
        return share_interval(round(numbers[0]) * count, count, level=level)
    figure = mean_interval(numbers, groups, seed=seed, resamples=_resamples(level), level=level)
    if metric is None or figure.high is None:
        return figure
    return replace(figure, high=min(figure.high, metric.most))


def difference_of(a: Numbers, b: Numbers, clusters: Sequence[Any], *, seed: int, level: float = 0.95) -> Figure:
    """The mean of a - b over the items that both have, paired by item, with its interval over clusters."""
    both = [(x, y, c) for x, y, c in zip(a, b, clusters, strict=True) if x is not None and y is not None]
    groups = [c for *_, c in both]
    if not both or not all(math.isfinite(x) and math.isfinite(y) for x, y, _ in both):
        return Figure(math.nan, None, None, len(set(groups)), level)
    firsts, seconds = [x for x, *_ in both], [y for _, y, _ in both]
    return paired_bootstrap(firsts, seconds, groups, seed=seed, resamples=_resamples(level), level=level)


def ratio_numbers(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """N numbers whose mean is mean(a) / mean(b), linearised (Cochran 1977, 2.11); NaN where b sums to zero."""
    below = math.fsum(b) / max(1, len(b))
    if below == 0:
        return [math.nan] * len(a)
    ratio = math.fsum(a) / len(a) / below
    return [ratio + (x - ratio * y) / below for x, y in zip(a, b, strict=True)]


def shown(figure: Figure) -> str:
    """For people: "0.61 [0.55, 0.66]"."""
    ends = "" if figure.low is None or figure.high is None else f" [{number(figure.low)}, {number(figure.high)}]"
    return number(figure.value) + ends


def number(value: float) -> str:
    """Two digits after the point, three where the number is small."""
    return f"{value:.3f}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def _resamples(level: float) -> int:
    """Enough resamples that about ten of them lie outside the interval on each side, within reason."""
    return min(MOST_RESAMPLES, max(2000, math.ceil(20 / (1 - level))))


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(text)]
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
