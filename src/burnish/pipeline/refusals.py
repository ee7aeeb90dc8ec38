"""What a later stage would stumble over, asked before anything is spent: by the check, and by every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from burnish.evaluation import check_rules
from burnish.feedback import least_votes
from burnish.pipeline.project import Project
from burnish.records import Row
from burnish.training.settings import Choice, preference_settings, reward_settings, rl_settings, sft_settings


def require_possible(project: Project, rows: int, preferences: Sequence[Row]) -> None:
    """Nothing in the recipe is known to fail with so many training rows and these rows of data.preferences.

    Needs torch; reads no weights of the base.

    Raises:
        ConfigError: A gate names a metric that does not exist.
        ModelError: [adapt] names what the base does not have, or leaves nothing to train; or the teacher is not there,
            or has another tokenizer.
        PartError: An own part cannot be loaded.
        StoreError: The recipe names a version that does not exist.
        TrainingError: The preference method does not fit the rows, or a warm-up is not shorter than its run.
    """
    from burnish.training.adapting import require_adaptable
    from burnish.training.judged import method_of

    recipe = project.recipe
    check_rules(recipe.gate, recipe.evaluate.metrics)
    parts = project.parts
    if recipe.preference is not None:
        method_of(recipe, preferences, parts.preference)
    for _ in stage_settings(project, rows, judged(project, preferences)):
        pass
    project.teacher()
    own = project.own_base
    files = project.store.blobs.tree(own.body["adapter"]) if own is not None and own.body["adapter"] else {}
    require_adaptable(recipe, project.resolved_base, files)


def stage_settings(project: Project, rows: int, judged: int) -> Iterator[tuple[str, dict[str, Choice]]]:
    """The resolved settings of each stage that the recipe runs, for so many training rows and preferences."""
    recipe = project.recipe
    yield "sft", sft_settings(recipe, rows)
    if recipe.preference is not None:
        yield "preference", preference_settings(recipe, judged)
    if recipe.reward is not None:
        yield "reward", reward_settings(recipe)
    if recipe.rl is not None:
        yield "rl", rl_settings(recipe)


def judged(project: Project, preferences: Sequence[Row]) -> int:
    """The pairs or labelled answers that a preference stage would learn from: rows, and votes that are in or due."""
    if project.recipe.preference is None:
        return 0
    cast = project.votes_cast() if project.has_store and project.recipe.vote_kinds else 0
    return len(preferences) + max(cast, least_votes(project.recipe))
