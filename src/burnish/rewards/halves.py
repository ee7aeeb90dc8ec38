"""Votes in two halves that share no rater and no prompt: what one reward model learned, another can watch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.errors import TrainingError
from burnish.records import Vote
from burnish.rewards.pairs import cluster_of
from burnish.store import Store, derive_seed


@dataclass(frozen=True)
class Halves:
    """Two sets of votes, disjoint in raters and in prompts; ``left_out`` are those that would have crossed."""

    first: list[Vote]
    second: list[Vote]
    left_out: list[Vote]


def disjoint_halves(votes: Sequence[Vote], prompts: Mapping[str, str], seed: int) -> Halves:
    """Split votes so that the halves share neither a rater nor a prompt.

    The raters are dealt in an order drawn from ``seed``, each to the half with fewer votes; each prompt then goes to
    the half whose raters said more about it, or, where both said as much, to the one with fewer votes. A vote whose
    rater and prompt lie in different halves is left out: with one vote a prompt that is none, with all raters on every
    prompt it is half of them.

    Args:
        prompts: What stands for an answer's prompt, by the answer's id (`prompts_of`); votes on others are left out.

    Raises:
        TrainingError: Fewer than two raters or two prompts: no halves are disjoint.
    """
    known = [vote for vote in votes if vote.exchange in prompts]
    said = Counter(vote.rater for vote in known)
    if len(said) < 2 or len({prompts[vote.exchange] for vote in known}) < 2:
        raise TrainingError(
            f"votes of {len(said)} raters on {len({prompts[v.exchange] for v in known})} prompts make no two halves "
            "that share neither",
            mend="let a second person vote, on other prompts too",
        )
    side_of: dict[str, int] = {}
    sizes = [0, 0]
    for rater in sorted(said, key=lambda name: derive_seed(seed, "rater", name)):
        side_of[rater] = side = int(sizes[1] < sizes[0])
        sizes[side] += said[rater]
    on: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for vote in known:
        on[prompts[vote.exchange]][side_of[vote.rater]] += 1
    kept = [0, 0]
    half_of: dict[str, int] = {}
    for prompt in sorted(on, key=lambda name: derive_seed(seed, "prompt", name)):
        a, b = on[prompt]
        half_of[prompt] = half = int(b > a) if a != b else int(kept[1] < kept[0])
        kept[half] += on[prompt][half]
    halves: tuple[list[Vote], list[Vote], list[Vote]] = ([], [], [])
    for vote in votes:
        home = half_of.get(prompts.get(vote.exchange, ""))
        halves[2 if home is None or home != side_of[vote.rater] else home].append(vote)
    return Halves(*halves)


def prompts_of(store: Store, votes: Sequence[Vote]) -> dict[str, str]:
    """What stands for the prompt of each answer that votes speak about, by the answer's id; erased ones are missing."""
    found = store.exchanges.many(sorted({vote.exchange for vote in votes}))
    return {id: cluster_of(exchange.prompt_ids) for id, exchange in found.items()}
