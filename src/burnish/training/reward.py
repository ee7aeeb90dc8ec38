"""The reward stage: a head and the last layers on the frozen start version learn who wins (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from burnish.config import Adapt, Recipe
from burnish.errors import TrainingError
from burnish.feedback import least_votes
from burnish.feedback import votes as votes_until
from burnish.models.artifacts import load_version, save_reward
from burnish.models.reward import RewardModel
from burnish.objectives import Outputs, Stream, Tree, pack, pairwise_term
from burnish.progress import Progress
from burnish.records import Json, Record, Row, Vote
from burnish.rewards.halves import disjoint_halves, prompts_of
from burnish.rewards.pairs import Pair, pairs_of, row_pair
from burnish.statistics import calibration_error, mean_interval
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for
from burnish.tasks.chat import ChatTask
from burnish.training.adapting import adaptation, keyed_adapt
from burnish.training.boundaries import keep_boundaries
from burnish.training.judged import judged_rows
from burnish.training.passes import Learner, learn, watched
from burnish.training.settings import LOOKED_AT, Choice, keyed, reward_settings, shown

VERSION = 2
BUDGET = 832  # tokens in one forward: longer ones need more memory and are hardly faster
HELD_OUT = 0.15  # share of the prompts


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

    It learns from the snapshot's votes, from the dataset's preference rows, or from both.

    ``model`` numbers the members of an ensemble, which differ in their seeds. With ``half`` it learns from one of the
    `disjoint_halves` of the votes alone: what was learned from the other half shares neither rater nor prompt with it.

    The record's body holds the held-out accuracy with its interval beside the raters' agreement with each other, the
    calibration error, the predicted odds of every held-out pair, and as "centre" the mean score of their answers.

    Raises:
        TrainingError: Fewer votes than ``reward.min_comparisons``, none of them prefers an answer, or no two halves
            are disjoint.
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
        trees = [pair.tree(task, row) for row, pair in enumerate(pairs)]
        learned, unseen, held = _split(pairs, work.seed)
        if not watched("reward", choices, len(learned), len(unseen)):  # nothing would look at them
            learned, unseen = sorted([*learned, *unseen]), []
        reward = RewardModel.on(loaded.model, adaptation(recipe)[0], layers=table.layers, seed=work.seed)
        passes, folder = choices["epochs"].value, store.begin(work)
        keep_boundaries(reward.trunk, trees, passes, store.cache, start.digest, progress, "reward", keep_last=True)
        taught, others = ([trees[i] for i in indices] for indices in (learned, unseen))
        ended = learn(_learner(recipe.adapt, reward), table, taught, others, choices, work, folder, progress)
        return {
            "settings": shown(ended.choices),
            "votes": cast,
            "rows": len(rows),
            "agreement": snapshot.body["agreement"] if snapshot is not None else None,
            "raters": len({vote.rater for vote in votes}),
            "updates": ended.updates,
            "stopped": ended.stopped,
            "pairs": {"learned": len(learned), "looked_at": len(unseen), "held_out": len(held)},
            **_held_out(_scores(reward, [trees[i] for i in held]), [pairs[i] for i in held], work.seed),
            **save_reward(store, reward, loaded, start),
        }

    return store.once(work, make, progress=progress)


def _work(
    recipe: Recipe, parents: Sequence[Record | None], choices: Mapping[str, Choice], model: int, half: str | None
) -> Work:
    assert recipe.reward is not None
    return Work(
        kind="reward",
        stage="-".join(("reward", *([str(model + 1)] if model else []), *([half] if half else []))),
        version=VERSION,
        settings={
            "reward": recipe.reward.model_dump(mode="json", exclude={"models"}) | keyed(choices),
            "feedback": {"sources": list(recipe.feedback.sources)},
            **({"adapt": asked} if (asked := keyed_adapt(recipe.adapt)) else {}),
            **({"half": half} if half else {}),
        },
        parents=tuple(parent for parent in parents if parent is not None),
        seed=derive_seed(recipe.seed, "reward", *([str(model)] if model else [])),
        project=recipe.name,
    )


def _learner(adapt: Adapt, model: RewardModel) -> Learner:
    return Learner("reward", adapt, model.parameters(), partial(_scored, model), [pairwise_term()], BUDGET, True)


def _scored(model: RewardModel, stream: Stream) -> Outputs:
    return Outputs(scores_A=model.scores(stream))


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
    pairs = pairs_of(store, votes, task.renderer, recipe.data.max_length)
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


def _split(pairs: Sequence[Pair], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Indices to learn from, to look at while learning, and to measure on at the end.

    All pairs of one prompt are in one part. What chooses the parameters does not measure them.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for place, pair in enumerate(pairs):
        share = derive_seed(seed, "held out", pair.cluster) % 1000 / 1000
        parts[2 if share < HELD_OUT else 1 if share < HELD_OUT + LOOKED_AT else 0].append(place)
    return parts


def _scores(model: RewardModel, trees: Sequence[Tree]) -> list[tuple[float, float]]:
    """The scores of both answers of each pair."""
    found: list[float] = []
    with torch.no_grad():
        for stream in pack(trees, BUDGET):
            found += model.scores(stream).tolist()
    return list(zip(found[0::2], found[1::2], strict=True))


def _held_out(scores: Sequence[tuple[float, float]], pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Accuracy on the votes of held-out pairs (a tie is left out), calibration, the odds themselves, and the centre."""
    centre = sum(map(sum, scores)) / (2 * len(scores)) if scores else 0.0
    odds = [float(torch.sigmoid(torch.tensor(a - b))) for a, b in scores]
    decided = [(p, pair) for p, pair in zip(odds, pairs, strict=True) if pair.preference != 0.5]
    if not decided:
        return {"accuracy": None, "calibration_error": None, "predictions": {}, "centre": centre}
    right = [
        max(pair.preference, 1 - pair.preference) if (p > 0.5) == (pair.preference > 0.5) else 0.0
        for p, pair in decided
    ]
    accuracy = mean_interval(right, [pair.cluster for _, pair in decided], seed=seed)
    return {
        "accuracy": asdict(accuracy),
        "calibration_error": calibration_error([p for p, _ in decided], [q.preference for _, q in decided], bins=5),
        "predictions": {pair.id: p for p, pair in zip(odds, pairs, strict=True)},
        "centre": centre,
    }
