"""The reward stage: heads and the last layers on the frozen start version learn who wins (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from burnish.config import OVERALL, Adapt, Recipe
from burnish.errors import TrainingError
from burnish.feedback import least_votes
from burnish.feedback import votes as votes_until
from burnish.models.artifacts import load_version, save_reward
from burnish.models.reward import RewardModel
from burnish.objectives import Outputs, Stream, Tree, pack, pairwise_term
from burnish.progress import Progress
from burnish.records import Json, Record, Row, Vote
from burnish.rewards.criteria import learnable, require_weighable
from burnish.rewards.halves import disjoint_halves, prompts_of
from burnish.rewards.pairs import Chain, Pair, Share, chains_of, pairs_of, row_pair
from burnish.statistics import calibration_error, mean_interval
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.tasks.chat import ChatTask
from burnish.training.adapting import adaptation, keyed_adapt
from burnish.training.boundaries import keep_boundaries
from burnish.training.judged import in_parts, judged_rows
from burnish.training.passes import Learner, learn, watched
from burnish.training.settings import Choice, keyed, reward_settings, shown

VERSION = 4
BUDGET = 832  # tokens in one forward: longer ones need more memory and are hardly faster


def train_reward(
    recipe: Recipe,
    start: Record,
    snapshot: Record | None,
    store: Store,
    cache: Path,
    progress: Progress,
    model: int = 0,
    half: Literal["first", "second"] | None = None,
    dataset: Record | None = None,
) -> Record:
    """Learn a reward on the frozen ``start`` version; kind "reward".

    It learns from the snapshot's votes, from the dataset's preference rows, or from both. ``model`` numbers the members
    of an ensemble. With ``half`` it learns from one of the `disjoint_halves` of the votes alone: what was learned from
    the other half shares neither rater nor prompt with it.

    The body holds the held-out accuracy with its interval beside the raters' agreement with each other, the calibration
    error, and as "centre" the mean score of held-out answers; the same of each criterion's head under "criteria", and
    in "left_out" why others have none. ``reward.criteria``, the heads' weights, is read where the reward is used.

    Raises:
        TrainingError: Too few votes, none that prefers, no two disjoint halves, or a weight on what has no head.
    """
    assert recipe.reward is not None
    table = recipe.reward
    rows = judged_rows(table.learn_from, dataset, store)
    cast = dict(snapshot.body["by_source"]) if snapshot is not None else {}
    choices = reward_settings(recipe, len(rows) + int(sum(cast.values())))
    work = _work(recipe, (start, snapshot, dataset if rows else None), choices, model, half)

    def make() -> Mapping[str, Json]:
        loaded = load_version(store, start, cache, progress=progress)
        task = task_for(recipe, loaded.renderer)
        votes = _votes(recipe, store, snapshot.body, half, progress) if snapshot is not None else []
        pairs = _pairs(recipe, store, task, votes, rows, half)
        criteria, left_out = _criteria(recipe, pairs, progress)
        chains = chains_of(pairs)
        settled = _in_chains(choices, len(pairs), len(chains))
        learned, unseen, held = _parts(chains, settled, work.seed)
        reward = RewardModel.on(loaded.model, adaptation(recipe)[0], table.layers, work.seed, [OVERALL, *criteria])
        trees, passes = [chain.tree(row) for row, chain in enumerate(chains)], choices["epochs"].value
        keep_boundaries(reward.trunk, trees, passes, store.cache, start.digest, progress, "reward", keep_last=True)
        taught, others = ([trees[i] for i in indices] for indices in (learned, unseen))
        ended = learn(_learner(recipe.adapt, reward), table, taught, others, settled, work, store.begin(work), progress)
        return {
            "settings": shown(ended.choices),
            "votes": cast,
            "rows": len(rows),
            "agreement": snapshot.body["agreement"] if snapshot is not None else None,
            "raters": len({vote.rater for vote in votes}),
            "updates": ended.updates,
            "stopped": ended.stopped,
            "pairs": _numbers(chains, learned=learned, looked_at=unseen, held_out=held),
            "left_out": left_out,
            **_held_out(reward, [chains[i] for i in held], work.seed),
            **save_reward(store, reward, loaded, start),
        }

    return store.once(work, make, progress=progress)


def _work(
    recipe: Recipe, parents: Sequence[Record | None], choices: Mapping[str, Choice], model: int, half: str | None
) -> Work:
    assert recipe.reward is not None
    asked = sorted(recipe.feedback.criteria)  # their order means nothing
    return Work(
        kind="reward",
        stage="-".join(("reward", *([str(model + 1)] if model else []), *([half] if half else []))),
        version=VERSION,
        settings={
            "reward": recipe.reward.model_dump(mode="json", exclude={"models", "criteria"}) | keyed(choices),
            "feedback": {"sources": list(recipe.feedback.sources), **({"criteria": asked} if asked else {})},
            **({"adapt": adapt} if (adapt := keyed_adapt(recipe.adapt)) else {}),
            **({"half": half} if half else {}),
        },
        parents=tuple(parent for parent in parents if parent is not None),
        seed=derive_seed(recipe.seed, "reward", *([str(model)] if model else [])),
        project=recipe.name,
    )


def _learner(adapt: Adapt, model: RewardModel) -> Learner:
    """One Bradley-Terry term for each head, each the mean over its own votes; the loss is the mean over the heads."""
    share = 1 / len(model.names)
    terms = [pairwise_term(share), *(pairwise_term(share, name) for name in model.names[1:])]
    return Learner("reward", adapt, model.parameters(), partial(_scored, model), terms, BUDGET, True)


def _scored(model: RewardModel, stream: Stream) -> Outputs:
    overall_A, *others = model.by_head(stream).unbind(1)
    return Outputs(scores_A=overall_A, by_criterion_A=dict(zip(model.names[1:], others, strict=True)))


def _votes(
    recipe: Recipe, store: Store, frozen: Mapping[str, Json], half: str | None, progress: Progress
) -> list[Vote]:
    """The snapshot's votes, or those of a half; one person's taste looks like a rule, so it is said."""
    assert recipe.reward is not None
    kinds, sources = recipe.reward.votes, frozen["sources"]
    votes = votes_until(store, recipe.name, frozen["up_to"], kinds, sources, purpose="train")
    if len({vote.rater for vote in votes}) == 1:
        progress.say(
            "reward: all votes are from one rater. It learns what that rater likes; whether others agree, and so how "
            "right any reward could be, cannot be known, and no second reward model can watch it"
        )
    if half is not None:
        halves = disjoint_halves(votes, prompts_of(store, votes), derive_seed(recipe.seed, "halves"))
        votes = halves.first if half == "first" else halves.second
    return votes


def _pairs(
    recipe: Recipe, store: Store, task: ChatTask, votes: Sequence[Vote], rows: Sequence[Row], half: str | None
) -> list[Pair]:
    """What votes and rows say, once there is something to learn."""
    pairs = pairs_of(store, votes, task.renderer, recipe.data.max_length, recipe.feedback.criteria)
    _require_preference(pairs, 1 if half else least_votes(recipe), len(rows))
    return pairs + [row_pair(row, task) for row in rows]


def _require_preference(pairs: Sequence[Pair], least: int, rows: int) -> None:
    """Raises where there is nothing to learn; rows alone are enough where the recipe waits for no vote."""
    if rows and not least:
        return
    votes = sum(pair.votes for pair in pairs)
    if not votes:
        raise TrainingError(
            "no comparisons yet: there is no vote to learn a reward from",
            mend="let people vote on the compare page (`burnish serve`), then run it again",
        )
    if votes < least:
        raise TrainingError(
            f"{votes} votes to learn from, and reward.min_comparisons is {least}",
            mend="collect more votes on the compare page, or lower reward.min_comparisons",
        )
    if all(pair.preference == 0.5 for pair in pairs):
        raise TrainingError("every vote is a tie: there is no preference to learn", mend="ask more raters")


def _criteria(recipe: Recipe, pairs: Sequence[Pair], progress: Progress) -> tuple[Sequence[str], Mapping[str, str]]:
    """The criteria that get a head, and why others get none.

    Raises:
        TrainingError: The recipe weighs one that gets none.
    """
    assert recipe.reward is not None
    criteria, left_out = learnable(pairs, recipe.feedback.criteria)
    require_weighable(recipe.reward.criteria, left_out)
    for name, why in left_out.items():
        progress.say(f'reward: "{name}" gets no head: {why}')
    return criteria, left_out


def _in_chains(choices: Mapping[str, Choice], pairs: int, chains: int) -> dict[str, Choice]:
    """The choices, with a batch of as many chains as hold its pairs; pairs that share no answer are chains of one."""
    batch = choices["batch_size"]
    if pairs == chains:
        return dict(choices)
    whole = max(1, round(batch.value * chains / pairs))
    return {**choices, "batch_size": Choice(whole, f"{batch.value} pairs, {pairs / chains:.1f} of them in a chain")}


def _numbers(chains: Sequence[Chain], **parts: Sequence[int]) -> dict[str, int]:
    """How many pairs are in each part."""
    return {name: sum(len(chains[place].pairs) for place in part) for name, part in parts.items()}


def _parts(chains: Sequence[Chain], choices: Mapping[str, Choice], seed: int) -> tuple[list[int], list[int], list[int]]:
    """As `in_parts`; where nothing would look at the second part while learning, it is learned from too."""
    learned, unseen, held = in_parts([chain.cluster for chain in chains], seed)
    if not watched("reward", choices, len(learned), len(unseen)):
        return sorted([*learned, *unseen]), [], held
    return learned, unseen, held


def _scores(model: RewardModel, trees: Sequence[Tree]) -> list[tuple[list[float], list[float]]]:
    """What each head says of both answers of each pair, chain by chain."""
    found: list[list[float]] = []
    with torch.no_grad():
        for stream in pack(trees, BUDGET):
            found += model.by_head(stream).tolist()
    said = iter(found)
    chains = [[next(said) for _ in tree.answers] for tree in trees]
    return [both for scores in chains for both in pairwise(scores)]


def _held_out(model: RewardModel, chains: Sequence[Chain], seed: int) -> dict[str, Any]:
    """How each head fares on held-out pairs, and, where there are criteria, what both sides of every pair said."""
    scores, pairs = _scores(model, [chain.tree() for chain in chains]), [p for chain in chains for p in chain.pairs]
    said = {}
    for place, name in enumerate(model.names):
        by_head = [(a[place], b[place]) for a, b in scores]
        judged = [(a - b, pair.by(name), pair.cluster) for (a, b), pair in zip(by_head, pairs, strict=True)]
        centre = sum(map(sum, by_head)) / (2 * len(scores)) if scores else 0.0
        said[name] = {**_foreseen([(m, share, at) for m, share, at in judged if share], seed), "centre": centre}
    overall, criteria = said.pop(OVERALL), said
    odds = {pair.id: _odds(a[0] - b[0]) for (a, b), pair in zip(scores, pairs, strict=True)}
    return {
        **overall,
        "predictions": odds if overall["accuracy"] else {},
        "criteria": criteria,
        "held_out": [_both_sides(model.names, *each) for each in zip(scores, pairs, strict=True)] if criteria else [],
    }


def _foreseen(judged: Sequence[tuple[float, Share, str]], seed: int) -> dict[str, Any]:
    """The share of votes that a head foresaw, and its calibration error; a pair whose votes are even is left out."""
    decided = [
        (_odds(margin), share.preference, cluster) for margin, share, cluster in judged if share.preference != 0.5
    ]
    if not decided:
        return {"accuracy": None, "calibration_error": None}
    odds, preferences, clusters = zip(*decided, strict=True)
    right = [won if p > 0.5 else 1 - won for p, won in zip(odds, preferences, strict=True)]
    return {
        "accuracy": asdict(mean_interval(right, clusters, seed=seed)),
        "calibration_error": calibration_error(odds, preferences, bins=5),
    }


def _both_sides(names: Sequence[str], scores: tuple[list[float], list[float]], pair: Pair) -> dict[str, Json]:
    """By how much each head prefers the first answer of a held-out pair, and the share of votes that it won."""
    shares = {name: share.preference for name in names if (share := pair.by(name)) is not None}
    margins = {name: a - b for name, a, b in zip(names, *scores, strict=True)}
    return {"prompt": pair.cluster, "margins": margins, "shares": shares}


def _odds(margin: float) -> float:
    return float(torch.sigmoid(torch.tensor(margin)))
