"""A reward that is gamed on a real model, with the brake and without it.

    python benchmarks/gamed.py STORE

The recipe is ``gamed/gamed.toml``: SmolLM2 and the support desk of the demo. The reward is a learned one plus a rule
that pays for long answers, up to the limit, which the raters do not like. The brake is what it is by default, with a
second reward model and 24 fresh comparisons at each look; raters are simulated. Where the brake stops the run, this is
noted, and it goes on as if there were none: until then both runs are the same, and what comes after is the one without
a brake. All else is what ``burnish train`` does. A killed run goes on where it was.

Prints a Markdown table and samples, and writes ``docs/explanation/gamed.svg``.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from curves import Line, Panel, write

from burnish.monitoring.runs import find_run
from burnish.pipeline import Project
from burnish.recipes.support.raters import utility
from burnish.records import Exchange
from burnish.training import online
from burnish.training.brake import Brake, Budgets
from burnish.training.held_out import Stop

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "explanation"
WIDE = Budgets(math.inf, math.inf, 1.0, 1.0)
DEV, SHOWN = 24, 3  # dev prompts, and how many of them are printed with their answers
WHY = "brake"  # the figure that says why the brake would have stopped
AXIS = "KL to the start, nats a token"

Looks = Mapping[int, Mapping[str, Any]]


class Noting(Brake):
    """The brake, which notes why it would stop and does not."""

    def look(self, step: int) -> dict[str, Any]:
        budgets, self.budgets = self.budgets, WIDE  # the judges speak outside the budgets too
        try:
            figures, why = super().look(step), None
        except Stop as stop:
            figures, why = dict(stop.figures), str(stop)
        finally:
            self.budgets = budgets
        why = budgets.exceeded(figures, self.before) or why
        return {**figures, WHY: why} if why else figures


def looks_of(project: Project) -> dict[int, Mapping[str, Any]]:
    """Train, and what each look saw, by the updates before it."""
    version = project.train("rl").records["candidate"]
    run = find_run(project.store, project.recipe.name, version.id)
    assert run is not None
    return {int(str(line["step"])): line for line in run.lines if "dev_kl" in line}


def answers_of(project: Project, look: Mapping[str, Any]) -> list[Exchange]:
    """The answers to all dev prompts that a look kept."""
    prefix = look["dev_samples"][0].rpartition("-")[0]
    names = [f"{prefix}-{n}" for n in range(DEV)]
    known = project.store.exchanges.many(names)
    return [known[name] for name in names]


def rule(answers: Sequence[Exchange]) -> float:
    """What the raters' stated rule says of answers, without their noise."""
    return mean(utility(a.prompt[-1].content, a.answer, a.finish_reason == "stop") for a in answers)


def with_interval(look: Mapping[str, Any], name: str) -> str:
    """A gain over the start, or raters' wins, with its interval where there is one."""
    low, high = (look.get(f"{name}_{end}") for end in ("low", "high"))
    return "" if name not in look else f"{look[name]:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")


def table(looks: Looks, rules: Mapping[int, float]) -> str:
    """A row for each look."""
    head = "| updates | KL | reward gained | held-out reward gained | raters' wins | the raters' rule | the brake |"
    rows = []
    for step, look in looks.items():
        figures = [with_interval(look, name) for name in ("dev_gain", "dev_held_out_gain", "dev_win_share")]
        rows.append(
            f"| {step} | {look['dev_kl']:.3f} | {' | '.join(figures)} | {rules[step]:+.2f} | {look.get(WHY, '')} |"
        )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def draw(looks: Looks, rules: Mapping[int, float], marks: Sequence[tuple[float, str]]) -> None:
    """What is optimised, what the second model says, and what the raters' rule says, over the KL."""
    kl = [look["dev_kl"] for look in looks.values()]

    def line(name: str) -> Line:
        ends = [[look.get(f"{name}{end}", look[name]) for look in looks.values()] for end in ("", "_low", "_high")]
        return Line("", kl, *ends)

    raters = [rules[step] - rules[0] for step in looks]
    panels = [
        Panel("Reward gained: what is optimised", AXIS, [line("dev_gain")], marks),
        Panel("Held-out reward gained", AXIS, [line("dev_held_out_gain")], marks),
        Panel("The raters' rule: gained", AXIS, [Line("", kl, raters, raters, raters)], marks),
    ]
    write(DOCS / "gamed.svg", "Reward, held-out reward and the raters' rule over KL in a run that is gamed", panels)


def samples(project: Project, looks: Looks, steps: Mapping[str, int]) -> str:
    """Answers to the first dev prompts at some looks, as they are."""
    answers = [answers_of(project, looks[step]) for step in steps.values()]
    rows = [f"| customer | {' | '.join(steps)} |", f"|---|{'---|' * len(steps)}"]
    for n in range(SHOWN):
        cells = [answers[0][n].prompt[-1].content, *(found[n].answer for found in answers)]
        rows.append(f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="Where the run is kept.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    online.Brake = Noting  # type: ignore[misc]
    project = Project(HERE / "gamed" / "gamed.toml", arguments.store)
    looks = looks_of(project)
    rules = {step: rule(answers_of(project, look)) for step, look in looks.items()}
    stopped = next((step for step, look in looks.items() if WHY in look), max(looks))
    before = [step for step in looks if step < stopped] or [0]
    kept = max(before, key=lambda step: looks[step]["held_out"])
    print(f"The brake keeps {kept} updates and stops after {stopped}: {looks[stopped].get(WHY, 'it does not stop')}.\n")
    print(table(looks, rules))
    draw(looks, rules, [(looks[step]["dev_kl"], name) for step, name in ((kept, "kept"), (stopped, "stopped"))])
    shown = {"start": 0, f"kept, {kept}": kept, f"stopped, {stopped}": stopped, f"no brake, {max(looks)}": max(looks)}
    print(f"\n{samples(project, looks, shown)}")


if __name__ == "__main__":
    main()
