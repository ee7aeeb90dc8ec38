"""What a later stage would stumble over, asked before anything is spent: by the check, and by every run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence

from burnish.data import judged
from burnish.errors import TrainingError
from burnish.evaluation import check_rules
from burnish.feedback import least_votes
from burnish.pipeline.judging import require_judge
from burnish.pipeline.project import Project
from burnish.records import Message, Row, Split
from burnish.training.settings import (
    LOOKED_AT,
    Choice,
    looked,
    preference_settings,
    reward_settings,
    rl_settings,
    sft_settings,
    span_settings,
)

Rows = Mapping[Split, Sequence[Row]]


def require_possible(project: Project, rows: Rows) -> None:
    """Nothing in the recipe is known to fail with these rows of the splits that stages learn from and look at.

    Says where a fast path will not run. Needs torch; reads no weights of the base.

    Raises:
        ConfigError: A gate names a metric that does not exist, or the host does not say where a judge is.
        DataError: There is an environment, and the base's template has no conversations that only grow.
        ModelError: [adapt] names what the base does not have, or leaves nothing to train; or the teacher is not there,
            or has another tokenizer.
        PartError: An own part cannot be loaded.
        SamplingError: A server is to draw answers, and the host does not say where it is.
        StoreError: The recipe names a version that does not exist.
        TrainingError: The preference method or the reward does not fit the rows, a warm-up is not shorter than its run,
            or there is nothing to look at where the recipe asks for looks.
    """
    from burnish.models.skeleton import skeleton
    from burnish.sampling import Served, kernel
    from burnish.training import adapting
    from burnish.training.judged import require_pairs

    recipe = project.recipe
    check_rules(recipe.gate, recipe.evaluate.metrics)
    _ = project.parts, project.raters("train")
    require_judge(recipe)
    if recipe.rl is not None and recipe.rl.sampler == "server":
        Served.of_host(project.folder)
    for _ in stage_settings(project, rows):
        pass
    if recipe.reward is not None and "rows" in recipe.reward.learn_from:
        compared = judged(rows.get("preferences", []))
        if not compared:
            raise TrainingError(
                "no row of data.preferences says which of two answers is better",
                where="reward.learn_from",
                mend="add rows of chosen and rejected answers, or take [reward] out",
            )
        require_pairs("a reward", compared, "reward.learn_from")
    project.teacher()
    if recipe.rl is not None and recipe.rl.environment is not None:
        project.renderer.following((Message("user", "?"),), ("!",))
    own = project.own_base
    files = project.store.blobs.tree(own.body["adapter"]) if own is not None and own.body["adapter"] else {}
    module = skeleton(project.resolved_base)
    adapting.require_adaptable(recipe, project.resolved_base, module, files)
    for slower in filter(None, (adapting.fallback(recipe, module), kernel.absence())):
        project.progress.say(slower)


def stage_settings(project: Project, rows: Rows) -> Iterator[tuple[str, dict[str, Choice], int, int]]:
    """The resolved settings of each stage that the recipe runs, how many rows it learns from, and looks at.

    Raises:
        TrainingError: As ``require_possible``; without torch, whether the preference method fits is not asked.
    """
    recipe, learned = project.recipe, len(rows["train"])
    unseen = sum(row.answer is not None for row in rows["dev"])
    yield "sft", looked("sft", sft_settings(recipe, learned), unseen), learned, unseen
    preferences = judged(rows.get("preferences", []))
    kinds = judge.votes if (judge := recipe.reward or recipe.preference) is not None else ()
    cast = project.votes_cast(kinds=kinds) if project.has_store and kinds else 0
    learned = len(preferences) + max(cast, least_votes(recipe))  # of votes, those that are in or due
    if recipe.preference is not None:
        unseen = round(learned * recipe.preference.held_out)
        settings = looked("preference", preference_settings(recipe, learned), unseen)
        yield "preference", _method(project, preferences) | settings, learned, unseen
    if recipe.reward is not None:
        unseen = round(learned * LOOKED_AT)
        yield "reward", looked("reward", reward_settings(recipe, learned), unseen), learned, unseen
    if recipe.spans is not None:
        table, marked = recipe.spans, [row for row in rows.get("preferences", []) if row.marks is not None]
        said = project.votes_cast(kinds=table.votes) if project.has_store and table.votes else 0
        learned = len(marked) * ("rows" in table.learn_from) + (max(said, table.min_marked) if table.votes else 0)
        unseen = round(learned * LOOKED_AT)
        yield "spans", looked("spans", span_settings(recipe, learned), unseen), learned, unseen
    if recipe.rl is not None:
        yield "rl", rl_settings(recipe), 0, 0


def _method(project: Project, preferences: Sequence[Row]) -> dict[str, Choice]:
    """The settings of the preference method; nothing without torch."""
    if not importlib.util.find_spec("torch"):
        return {}
    from burnish.training.judged import method_of, method_settings

    return method_settings(project.recipe, *method_of(project.recipe, preferences, project.parts.preference))
