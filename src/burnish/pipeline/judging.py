"""The judge that a recipe names in [feedback.judge], asked to compare pairs beside the raters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from burnish.config import Recipe
from burnish.errors import ConfigError
from burnish.feedback import judge_votes
from burnish.records import Row
from burnish.store import digest_of

if TYPE_CHECKING:
    from burnish.pipeline.project import Project
    from burnish.rewards.judge import Endpoint


def ask_judge(project: Project, campaign: str) -> None:
    """Let the recipe's judge, where there is one, vote on a campaign, and say on how many pairs it had no answer.

    Raises:
        ConfigError: The host names no endpoint.
        TrainingError: The endpoint refuses the request itself: a wrong key, an unknown model.
    """
    asked = project.recipe.feedback.judge
    if asked is None:
        return
    from burnish.rewards.judge import FILE, Judge  # brings torch, which a recipe without a judge does without here

    def compare(cases: Sequence[tuple[Row, str, str]]) -> tuple[Sequence[float | None], str | None]:
        project.progress.say(f"judge: {asked.model} compares {len(cases)} pairs, in both orders")
        paid = Judge(_endpoint(), asked.model, asked.criterion, project.store.path / FILE).prefer(cases)
        return paid.values[0], paid.why

    # another criterion is another judge: what was said by the former one stays its own
    name = f"{asked.model[:60]} by {digest_of(asked.criterion)[:8]}"
    found = judge_votes(project.store, project.recipe.name, campaign, name, compare)
    if found.failed:
        of = found.voted + found.failed
        project.progress.say(f"judge: no vote on {found.failed} of {of} pairs: {found.why}; the next run asks again")


def require_judge(recipe: Recipe) -> None:
    """Nothing is spent before it is known where a judge answers, of comparisons or as a part of the reward.

    Raises:
        ConfigError: The recipe names a judge, and the host no endpoint.
    """
    if recipe.feedback.judge is not None:
        _endpoint()
    if recipe.rl is not None and any(part.kind == "judge" for part in recipe.rl.paid):
        from burnish.rewards.judge import Endpoint

        Endpoint.of_host()


def _endpoint() -> Endpoint:
    from burnish.rewards.judge import Endpoint

    try:
        return Endpoint.of_host("feedback.judge")
    except ConfigError as error:
        raise ConfigError(error.what, where="feedback.judge", mend=error.mend) from error
