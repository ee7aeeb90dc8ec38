"""A card says what a version was made of and how it was judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from burnish import registry
from burnish.store import Work
from evaluation.samples import PROJECT, Desk


def test_a_card_says_what_it_was_made_of_and_how_it_was_judged(tmp_path: Path):
    desk = Desk(tmp_path)
    summed = {"by_source": {"simulated": 512}}
    votes = desk.store.once(Work("snapshot", "snapshot", 1, {}, (desk.sft,), 0, PROJECT), lambda: summed)
    body = desk.rl.body
    made = desk.store.once(
        Work("version", "rl", 1, {"voted": True}, (desk.sft, votes, desk.dataset), 0, PROJECT), lambda: body
    )
    before = registry.card(desk.store, made)
    assert before.startswith("# support@3\n") and "None yet." in before
    desk.passed(made)
    card = registry.card(desk.store, made)
    for said in (
        f"- id: {made.id}",
        "- base: tiny (000000000000)",
        f"- made from: support@1, {votes.id}, {desk.dataset.id}",
        "- data: 96 test rows",
        f"- votes: 512 simulated ({votes.id})",
        "- rank: 4 (auto: enough)",
        "- updates: 3",
        "- stopped: none",
        "- dev: kl 0.012, length 12.50",
        "gate: passed",
        "win rate against support@1: 0.75",
        "96 simulated votes of 2 raters",
        "Simulated raters: this shows that the machinery follows stated preferences",
    ):
        assert said in card


def test_the_base_has_a_card_too(tmp_path: Path):
    desk = Desk(tmp_path)
    card = registry.card(desk.store, desk.base)
    assert card.startswith("# support@0") and "made from" not in card


def test_what_was_before_training_stands_before_what_came_after(tmp_path: Path):
    desk = Desk(tmp_path)
    figures = {"after": {"loss": 1.0}, "before": {"loss": 2.0}, "updates": 3}
    body = {**desk.rl.body, "figures": figures}
    made = desk.store.once(Work("version", "rl", 1, {"told": True}, (desk.sft,), 0, PROJECT), lambda: body)
    assert [name for name, _ in registry.stage_figures(made)] == ["before", "after", "updates"]
    card = registry.card(desk.store, made)
    assert card.index("- before: loss 2.00") < card.index("- after: loss 1.00")


def test_registry_and_gates_do_without_torch():
    code = "import sys, burnish.registry, burnish.evaluation\nassert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
