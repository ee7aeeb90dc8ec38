"""A reward of several parts and several models, by the turn that trains them."""

from __future__ import annotations

from pathlib import Path

from burnish.pipeline import Project
from pipeline.conftest import make_project
from pipeline.test_parts import Heard

PARTS = """
[[rl.rewards]]
kind = "learned"
uncertainty_penalty = 0.5
normalise = "running"

[[rl.rewards]]
kind = "length"
longest = 8
weight = 0.5
"""


def test_two_reward_models_and_a_rule_pay_together(tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = make_project(tmp_path, tiny_model_folder)
    text = recipe.read_text().replace("[reward]\n", "[reward]\nmodels = 2\n").replace("updates = 4", "updates = 2")
    recipe.write_text(text.replace("epochs = 2", "epochs = 1") + PARTS)
    heard = Heard()
    project = Project(recipe, progress=heard)
    made = project.train().records
    assert set(made["candidate"].parents) > {made["reward"].id, made["reward-2"].id}
    assert not any("runs again" in line for line in heard.lines)  # the second is no repetition of the first
    figures = project.store.metrics(made["candidate"])[0]
    assert figures["reward/learned/uncertainty"] > 0.0
    assert {"reward/learned", "reward/length", "dev_reward/learned", "dev_reward/length"} <= set(figures)
