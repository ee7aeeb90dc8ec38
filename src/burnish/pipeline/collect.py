"""Collecting: pairs of answers of one version, put before the raters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

from burnish.config import Recipe
from burnish.feedback import add_comparisons
from burnish.models.artifacts import load_reward, load_version
from burnish.progress import Progress
from burnish.records import Comparison, Exchange, Json, Record, Row
from burnish.rewards.learned import score_answers
from burnish.sampling import Engine, Params
from burnish.store import Store, Work, derive_seed
from burnish.tasks import task_for

VERSION = 1
OVERLAP_VOTES = 3
SLOTS = 128


def collect_pairs(
    recipe: Recipe,
    version: Record,
    dataset: Record,
    turn: int,
    pairs: int,
    store: Store,
    cache: Path,
    progress: Progress,
    stage: str = "collect",
    reward: Record | None = None,
) -> Record:
    """Sample ``feedback.answers`` answers to as many prompts as make ``pairs`` pairs of an answer and the next one, and
    offer these for comparison; kind "campaign".

    Prompts come from the prompts split first, then from the training rows, in turn. A share ``feedback.overlap`` of
    the pairs asks for three votes. Pairs of equal answers are left out. The body names the campaign, and how many
    comparisons and votes it asks for. ``stage`` is what the work is called in messages. With a
    ``reward``, the body also holds its odds that the first answer wins, by comparison, from before anybody votes.
    """
    answers = recipe.feedback.answers
    work = Work(
        kind="campaign",
        stage=stage,
        version=VERSION,
        settings={
            "turn": turn,
            "pairs": pairs,
            "overlap": recipe.feedback.overlap,
            **({"answers": answers} if answers != 2 else {}),  # so that older work is found
            "max_new_tokens": recipe.evaluate.max_new_tokens,
        },
        parents=(version, dataset, *((reward,) if reward else ())),
        seed=derive_seed(recipe.seed, stage, str(turn)),
        project=recipe.name,
    )

    def make() -> Mapping[str, Json]:
        rows = [*store.datasets.rows(dataset.id, "prompts"), *store.datasets.rows(dataset.id, "train")]
        chosen = [rows[i % len(rows)] for i in range(-(-pairs // (answers - 1)))]
        groups = _answers(recipe, version, chosen, work, store, cache, progress)
        answered = [(group[n], group[n + 1]) for n in range(answers - 1) for group in groups][:pairs]
        differing = [(a, b) for a, b in answered if a.answer.strip() != b.answer.strip()]
        overlapping = round(recipe.feedback.overlap * len(differing))
        items: list[Comparison] = []
        for part, votes in ((differing[:overlapping], OVERLAP_VOTES), (differing[overlapping:], 1)):
            if part:
                ids = [(a.id, b.id) for a, b in part]
                items += add_comparisons(store, recipe.name, ids, "train", campaign=work.id, votes_wanted=votes)
        return {
            "campaign": work.id,
            "version": version.id,
            "comparisons": len(items),
            "equal": len(answered) - len(items),
            "votes_wanted": sum(item.votes_wanted for item in items),
            "predictions": _odds(store, reward, items, differing, cache) if reward else {},
        }

    return store.once(work, make, progress=progress)


def _odds(
    store: Store,
    reward: Record,
    items: Sequence[Comparison],
    pairs: Sequence[tuple[Exchange, Exchange]],
    cache: Path,
) -> dict[str, float]:
    """The learned reward's odds that the first answer of each comparison wins (Bradley and Terry 1952)."""
    scores = score_answers(
        load_reward(store, reward, cache),
        [a.prompt_ids for a, _ in pairs],
        [[a.answer_ids, b.answer_ids] for a, b in pairs],
    )
    return {item.id: 1 / (1 + math.exp(b - a)) for item, (a, b) in zip(items, scores, strict=True)}


def _answers(
    recipe: Recipe,
    version: Record,
    rows: Sequence[Row],
    work: Work,
    store: Store,
    cache: Path,
    progress: Progress,
) -> list[list[Exchange]]:
    """The answers to each row's prompt, stored as exchanges; those that an interrupted run stored are used again."""
    answers = recipe.feedback.answers
    names = [[f"{work.id}-{i}{letter}" for letter in ascii_lowercase[:answers]] for i in range(len(rows))]
    known = store.exchanges.many([name for group in names for name in group])
    if len(known) < answers * len(rows):
        loaded = load_version(store, version, cache)
        task = task_for(recipe, loaded.renderer)
        engine = Engine(loaded.model, slots=SLOTS)
        params = Params(1.0, 1.0, recipe.evaluate.max_new_tokens, work.seed, loaded.renderer.stop_ids)
        prompts = [task.prompt_ids(row) for row in rows]
        samples = engine.sample(prompts, answers, params, progress=progress)
        settings = {"temperature": 1.0, "seed": work.seed}
        with store.write() as conn:
            for row, prompt, group, own in zip(rows, prompts, samples, names, strict=True):
                for name, sample in zip(own, group, strict=True):
                    exchange = task.exchange(
                        recipe.name, version.id, row, prompt, sample, "feedback", settings, id=name
                    )
                    if name not in known:
                        store.exchanges.add(conn, exchange)
        known = store.exchanges.many([name for group in names for name in group])
    return [[known[name] for name in group] for group in names]
