"""Controls of the demonstration: is it the votes that make the gain, and is reinforcement learning worth its cost?

    python benchmarks/controls.py RECIPE flipped    # votes that are coins: the gate must say no
    python benchmarks/controls.py RECIPE further    # as many further supervised updates instead of RL
    python benchmarks/controls.py RECIPE best       # the reward's favourite of four answers, no training
    ... --seed 3                                    # of a seed that `burnish repeat` has run

RECIPE has been run before. Each control reads the test prompts, as the last evaluation does, and chooses nothing by
them; "flipped" and "further" work in stores of their own under ``controls/`` of the recipe's store.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from burnish.evaluation.metrics import SCORE, shown
from burnish.models.artifacts import load_reward, load_version
from burnish.pipeline import Project
from burnish.pipeline.summary import summary
from burnish.progress import Plain
from burnish.recipes.support.raters import Rater, panel
from burnish.records import Figure, Record
from burnish.rewards.learned import score_answers
from burnish.sampling import Engine, Params
from burnish.statistics import mean_interval
from burnish.tasks import task_for

BEST_OF = 4
FURTHER = """
name = "{name}"
seed = {seed}
task = "chat"
base = "{base}"
[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
system = {system}
[sft]
epochs = 1
batch_size = 8
[evaluate]
max_new_tokens = {max_new_tokens}
prompt_only = false
[feedback]
simulate = "support-desk"
sources = ["simulated"]
"""


class Coins(Project):
    """The same project, where every training vote is a coin; the judges stay themselves."""

    def raters(self, purpose: Literal["train", "judge"]) -> tuple[Rater, ...]:
        return panel(self.recipe.seed, lapse=1.0)[0] if purpose == "train" else super().raters(purpose)


def flipped(project: Project) -> None:
    """The whole turn again, on votes that hold nothing."""
    control = Coins(project.path, project.store.path / "controls" / "flipped", project.progress)
    control.recipe = project.recipe
    print("\n".join(summary(control, control.run())))


def further(project: Project) -> None:
    """The supervised version trained on, for as many updates as RL kept; both on the test prompts."""
    updates = _last(project, "rl").body["figures"]["updates"]
    sft = _last(project, "sft")
    rows = project.store.datasets.rows(project.store.records(project.recipe.name, "dataset")[-1].id, "train")
    folder = project.store.path / "controls" / "further"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project.store.path, folder / ".burnish", ignore=shutil.ignore_patterns("controls", "repeat"))
    for name in ("dev.jsonl", "test.jsonl"):
        shutil.copy(project.folder / name, folder / name)
    chosen = [r for r in rows if r.answer is not None][: 8 * updates]
    lines = [
        json.dumps({"messages": [asdict(m) for m in r.prompt] + [{"role": "assistant", "content": r.answer}]})
        for r in chosen
    ]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = project.recipe
    text = FURTHER.format(
        name=recipe.name,
        seed=recipe.seed,
        base=sft.name,
        system=json.dumps(recipe.data.system),
        max_new_tokens=recipe.evaluate.max_new_tokens,
    )
    (folder / "further.toml").write_text(text, encoding="utf-8")
    control = Project(folder / "further.toml", progress=project.progress)
    evaluation = control.run().records["evaluation"]
    found = Figure(**evaluation.body["differences"]["base"][SCORE + "utility"])
    print(f"{updates} further supervised updates on {sft.name}: utility {shown(found)}")


def best(project: Project) -> None:
    """Of four answers of the supervised version the one with the highest reward, against their mean."""
    store, sft = project.store, _last(project, "sft")
    rows = store.datasets.rows(store.records(project.recipe.name, "dataset")[-1].id, "test")
    rows = rows[: project.recipe.evaluate.items]
    loaded = load_version(store, sft, project.cache)
    task = task_for(project.recipe, loaded.renderer)
    prompts = [task.prompt_ids(row) for row in rows]
    params = Params(1.0, 1.0, task.max_new_tokens, project.recipe.seed, loaded.renderer.stop_ids)
    samples = Engine(loaded.model, slots=128).sample(prompts, BEST_OF, params, progress=Plain())
    reward = load_reward(store, store.records(project.recipe.name, "reward")[-1], project.cache)
    rewards = score_answers(reward, prompts, [[s.ids for s in group] for group in samples])
    score = project.score
    assert score is not None
    gains = []
    for row, group, scored in zip(rows, samples, rewards, strict=True):
        said = [
            score(row.prompt[-1].content, loaded.renderer.text(s.ids), s.finish_reason == "stop")["utility"]
            for s in group
        ]
        gains.append(said[scored.index(max(scored))] - sum(said) / len(said))
    clusters = [str(row.prompt) for row in rows]
    found = mean_interval(gains, clusters, seed=project.recipe.seed)
    print(f"best of {BEST_OF} by the reward, over their mean: utility {shown(found)}")


def _last(project: Project, stage: str) -> Record:
    versions = project.store.records(project.recipe.name, "version")
    return next(version for version in reversed(versions) if version.body["stage"] == stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("control", choices=("flipped", "further", "best"))
    parser.add_argument("--seed", type=int, help="a seed that `burnish repeat` has run; default: the recipe's own run")
    arguments = parser.parse_args()
    project = Project(arguments.recipe)
    if arguments.seed is not None:
        project = project.with_seed(arguments.seed)
    {"flipped": flipped, "further": further, "best": best}[arguments.control](project)


if __name__ == "__main__":
    main()
