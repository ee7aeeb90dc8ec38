"""What `burnish check` says before anything is spent."""

from __future__ import annotations

import importlib.util

from burnish.data import gather, read_files, report
from burnish.evaluation import check_rules
from burnish.pipeline.project import Project
from burnish.records import Split
from burnish.training.settings import SMALLEST_UPDATES, sft_settings

SMALLEST_GATE = 50  # clusters below which no gate can pass


def preflight(project: Project) -> list[str]:
    """The lines of the check: rows, audit, an example row, what the settings become, which gates can never pass.

    Without the training extra, or before the base is there, lengths are words instead of tokens.

    Raises:
        ConfigError: A gate names a metric that does not exist.
        DataError: A data file is wrong.
    """
    recipe = project.recipe
    check_rules(recipe.gate)
    trains = importlib.util.find_spec("torch") is not None
    renderer = project.renderer if trains else None
    examples = gather(recipe, read_files(recipe, project.folder), renderer)
    lines = report(examples)
    for name, audit in examples.audits.items():
        lines += [f"{name}: {line}" for line in audit.lines()]
    rows = len(examples.splits["train"])
    for setting, choice in sft_settings(recipe, rows).items():
        lines.append(f"sft.{setting} = {choice.value} ({choice.why})")
    gated: tuple[Split, ...] = ("dev", "test") if recipe.rl else ("test",)
    for split in gated:
        held_out = min(recipe.evaluate.items, len(examples.splits[split]))
        if held_out < SMALLEST_GATE:
            lines.append(
                f"the gate on the {split} split can never pass: {held_out} held-out prompts, and it needs "
                f"{SMALLEST_GATE}; add rows or name data.{split}"
            )
    if rows < SMALLEST_UPDATES:
        lines.append(f"{rows} training rows are few: prompt_only may do as well, and evaluation will say so")
    if not trains:
        lines.append("PyTorch is not installed: lengths are in words; the extra 'train' brings it")
    return lines
