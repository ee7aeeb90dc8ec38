"""The own parts of a recipe, tried on the tests that ours pass, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.parts import credit_contract, environment_contract, examples_of, score_contract
from burnish.pipeline.project import Project
from burnish.records import Row


def contract_lines(project: Project, rows: Sequence[Row], prompts: Sequence[Row] = ()) -> list[str]:
    """One line for each own part: what it is, where it comes from, and the contracts that it kept.

    ``rows`` are those of the training split, ``prompts`` further ones that rollouts begin with in their place.

    Raises:
        PartError: A part cannot be loaded, breaks a contract, or raises.
        TrainingError: The own loss does not take a setting of the recipe.
    """
    parts, examples = project.parts, examples_of(rows)
    kept = [("own metric", part, score_contract(part, examples)) for part in parts.metrics]
    if parts.sft:
        from burnish.objectives.own import own_token_contract

        kept.append(("own loss of tokens", parts.sft, own_token_contract(parts.sft)))
    if parts.preference:
        from burnish.objectives.own import own_contract
        from burnish.training.judged import method_of

        _, values = method_of(project.recipe, own=parts.preference)
        kept.append(("own loss", parts.preference, own_contract(parts.preference, values)))
    kept += [("own reward", part, score_contract(part, examples)) for part in parts.rewards.values()]
    if parts.environment and project.recipe.rl:
        table = project.recipe.rl
        held = environment_contract(parts.environment, prompts or rows, table.turns, table.paid_by_environment)
        kept.append(("own environment", parts.environment, held))
    if parts.credit:
        kept.append(("own credit", parts.credit, credit_contract(parts.credit.name, parts.credit)))
    return [f"{what} {part.name} ({_short(part.source)}): {', '.join(held)}: kept" for what, part, held in kept]


def _short(source: str) -> str:
    """A part's source with the first digits of its digest."""
    words, _, digest = source.rpartition(" ")
    return f"{words} {digest[:12]}"
