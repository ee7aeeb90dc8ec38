"""The brake of reinforcement learning: it watches the policy on prompts that are never trained on, and stops it.

Rewards rise while answers degrade (Gao, Schulman and Hilton 2023). Before each rollout the policy answers the same dev
prompts with the same draws as before the first; a rollout's own prompts change every time, and their figures with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.records import Figure
from burnish.rewards.scores import Asked
from burnish.statistics import paired_bootstrap
from burnish.store import derive_seed
from burnish.training.fresh import Fresh
from burnish.training.held_out import Stop
from burnish.training.judgement import ALPHA, IN_A_ROW, Shares, interval, mean, standing, turned, win_shares
from burnish.training.measured import Measured
from burnish.training.rollouts import Rollouts

REPEATED, DISTINCT = 4, 2  # tokens of the n-grams that repetition and diversity count


@dataclass(frozen=True)
class Budgets:
    """How far the policy may go from its start.

    ``kl`` in nats per token; ``length`` and ``diversity`` as the share that the mean length may move by and that the
    share of distinct 2-grams may fall by; ``repetition`` as what the share of repeated 4-grams may rise by. Of the
    length, whose mean over a few answers is a noisy one, the whole 95 % interval must lie outside.
    """

    kl: float
    length: float
    repetition: float
    diversity: float

    def exceeded(self, now: Mapping[str, float], start: Mapping[str, float]) -> str | None:
        """Why to stop, by the figures on dev now and before the first update; None inside all budgets.

        A figure that is not a number is outside.
        """
        if not now["dev_kl"] <= self.kl:
            return f"KL to the start is {now['dev_kl']:.3f} nats a token, over rl.stop_kl = {self.kl}"
        moved, low, high = (now[f"dev_length_moved{end}"] for end in ("", "_low", "_high"))
        if not (low <= self.length and high >= -self.length):
            said = f"the mean length moved by {moved:+.0%} [{low:+.0%}, {high:+.0%}]"
            return f"{said}, over rl.stop_length = {self.length:.0%}"
        risen = now["dev_repetition"] - start["dev_repetition"]
        if not risen <= self.repetition:
            return f"repeated 4-grams rose by {risen:.0%}, over rl.stop_repetition = {self.repetition:.0%}"
        fallen = 1 - now["dev_distinct"] / start["dev_distinct"] if start["dev_distinct"] else 0.0
        if not fallen <= self.diversity:
            return f"distinct 2-grams fell by {fallen:.0%}, over rl.stop_diversity = {self.diversity:.0%}"
        return None


@dataclass
class Brake:
    """What looks at the policy before each rollout. Its memory is part of the rollouts' state, so of checkpoints.

    ``watch`` gives the rewards of answers by a second reward model, which the policy does not learn from; without one
    the reward itself judges the dev prompts. ``fresh`` asks raters. Both judge how often an answer wins against the
    start's to the same prompt; where two looks in a row have turned (see `turned`), training ends.
    """

    rollouts: Rollouts
    dev: Sequence[Asked]
    budgets: Budgets
    watch: Callable[[Sequence[Sequence[int]], Sequence[Sequence[Sequence[int]]]], list[list[float]]] | None = None
    fresh: Fresh | None = None

    @property
    def before(self) -> Mapping[str, float]:
        """The figures on dev before the first update."""
        return dict(self.rollouts.state["before"])

    def look(self, step: int) -> dict[str, Any]:
        """The policy's figures on dev after ``step`` updates; "held_out" is the share that it wins against the start.

        Raises:
            Stop: It is outside its budgets, or a judge's shares have turned.
        """
        measured = self.rollouts.measure(self.dev, 1, derive_seed(self.rollouts.seed, "dev"))
        figures: dict[str, Any] = _figures(measured)
        figures |= self._moved(step, [float(len(group[0].drawn)) for group in measured.drawn])
        proxy_N = _by_prompt(self.dev, measured)
        self.rollouts.state.setdefault("before", dict(figures))  # of the first look, before any update
        why = self.budgets.exceeded(figures, self.before)
        if why:
            raise Stop(why, figures)
        figures |= self._gain("dev_gain", step, proxy_N)
        judged_N: Shares = proxy_N
        if self.watch is not None:
            drawn = [[sample.ids for sample in group] for group in measured.drawn]
            watched_N = [group[0] for group in self.watch([asked.ids for asked in self.dev], drawn)]
            figures |= {"dev_held_out_reward": sum(watched_N) / len(watched_N)}
            figures |= self._gain("dev_held_out_gain", step, watched_N)
            judged_N = watched_N
        predicted = self._remembered("predicted", step, win_shares(judged_N, self._start("dev_judged", judged_N)))
        voted: dict[int, Shares] = {}
        if self.fresh is not None:
            voted, said = self._asked(self.fresh, step, measured)
            figures |= said
        figures = {"held_out": standing(predicted, voted), **figures}
        self._require_no_turn(predicted, voted, figures)
        return figures

    def _asked(self, fresh: Fresh, step: int, measured: Measured) -> tuple[dict[int, Shares], dict[str, Any]]:
        """Ask about this look, and read what raters have said about all of them so far."""
        shown = {"dev_samples": fresh.ask(step, self.dev, measured.drawn)}
        until = fresh.until(step)
        steps = [int(name) for name in self.rollouts.state["predicted"]]
        said = {other: fresh.said(other, len(self.dev), until) for other in steps}
        voted: dict[int, Shares] = {other: found.shares for other, found in said.items()}
        newest = max((other for other in steps if other and mean(voted[other]) is not None), default=None)
        if newest is None:
            return voted, shown
        figures = _with_interval("dev_win_share", interval(voted[newest], self._seed(step)))
        sources = Counter(vote.source for vote in said[newest].votes)
        votes = {f"dev_votes_{source}": float(number) for source, number in sorted(sources.items())}
        return voted, {**figures, **votes, "dev_voted": float(newest), **shown}

    def _require_no_turn(
        self, predicted: Mapping[int, Shares], voted: Mapping[int, Shares], figures: Mapping[str, float]
    ) -> None:
        use = len(predicted) - 1  # each look after the first is one more test
        if use < 1:
            return
        model = "the held-out reward model" if self.watch is not None else "the reward on dev prompts"
        judges = {model: predicted} | ({"raters": voted} if self.fresh is not None else {})
        for who, looks in judges.items():
            found = turned(looks, use, ALPHA / len(judges), self._seed(max(predicted)))
            if self._in_a_row(who, looks, found is not None) >= IN_A_ROW and found is not None:
                best, apart = found
                why = f"{who} turned: {apart.value:+.0%} wins against the start since {best} updates"
                raise Stop(f"{why}, at best {apart.high:+.0%}", figures)

    def _in_a_row(self, who: str, looks: Mapping[int, Shares], turns: bool) -> int:
        """So many looks in a row, the newest that the judge spoke about and those before it, have turned."""
        newest = max((step for step in looks if mean(looks[step]) is not None), default=0)
        known = self.rollouts.state.setdefault("turns", {})
        at, before = known.get(who, (0, 0))
        if newest > at:
            known[who] = (newest, before + 1 if turns else 0)
        return int(known.get(who, (0, 0))[1])

    def _remembered(self, what: str, step: int, shares: Shares) -> dict[int, Shares]:
        """All looks' shares so far, this one's among them."""
        known = self.rollouts.state.setdefault(what, {})
        known[str(step)] = list(shares)
        return {int(name): known[name] for name in known}

    def _start(self, what: str, values_N: Shares) -> Shares:
        """The same figures of the first look."""
        found: Shares = self.rollouts.state.setdefault(what, list(values_N))
        return found

    def _gain(self, name: str, step: int, rewards_N: Shares) -> dict[str, float]:
        """The mean reward minus the start's on the same prompts, with its interval over them."""
        start_N = self._start(name, rewards_N)
        both = [
            (n, now, then)
            for n, (now, then) in enumerate(zip(rewards_N, start_N, strict=True))
            if now is not None and then is not None
        ]
        if not both:
            return {}
        prompts, now_N, then_N = zip(*both, strict=True)
        return _with_interval(name, paired_bootstrap(now_N, then_N, prompts, seed=self._seed(step)))

    def _moved(self, step: int, lengths_N: Sequence[float]) -> dict[str, float]:
        """By which share of the start's mean length the answers to the same prompts are longer, with its interval."""
        start_N = [float(length or 0) for length in self._start("dev_lengths", lengths_N)]
        whole = sum(start_N) / len(start_N)
        now_N, then_N = ([length / whole for length in lengths] for lengths in (lengths_N, start_N))
        found = paired_bootstrap(now_N, then_N, range(len(start_N)), seed=self._seed(step))
        low, high = (found.value if end is None else end for end in (found.low, found.high))
        return {"dev_length_moved": found.value, "dev_length_moved_low": low, "dev_length_moved_high": high}

    def _seed(self, step: int) -> int:
        return derive_seed(self.rollouts.seed, "brake", str(step))


def _figures(measured: Measured) -> dict[str, float]:
    """The policy's figures on the dev prompts."""
    figures: dict[str, Any] = measured.figures()
    parts = [name for name in figures if name.startswith("reward/")]
    answers = [sample.drawn for group in measured.drawn for sample in group]
    said = {"repetition": repetition(answers), "distinct": distinct(answers)}
    kept = {name: figures[name] for name in ("reward", *parts, "kl", "length", "cut_share")}
    return {f"dev_{name}": value for name, value in (kept | said).items()}


def _by_prompt(dev: Sequence[Asked], measured: Measured) -> list[float | None]:
    """The reward of each dev prompt's answer; None where a part of the reward had no number for it."""
    paid = {id(tree.prompt): group[0] for tree, group in zip(measured.trees, measured.scores.total, strict=True)}
    return [paid.get(id(asked.ids)) for asked in dev]


def _with_interval(name: str, figure: Figure | None) -> dict[str, float]:
    found = {} if figure is None else {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return {key: value for key, value in found.items() if value is not None}


def repetition(answers: Sequence[Sequence[int]], n: int = REPEATED) -> float:
    """1 - distinct n-grams / n-grams, each answer's own, over the n-grams of all answers; 0 where there is none."""
    grams = [_grams(answer, n) for answer in answers]
    total = sum(map(len, grams))
    return 1 - sum(len(set(each)) for each in grams) / total if total else 0.0


def distinct(answers: Sequence[Sequence[int]], n: int = DISTINCT) -> float:
    """Distinct n-grams of all answers together / their n-grams (Li et al. 2016); 0 where there is none."""
    grams = [gram for answer in answers for gram in _grams(answer, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _grams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
