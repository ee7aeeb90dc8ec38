"""Bugs of rewards that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

REWARDS, TESTS = "src/burnish/rewards/", "tests/rewards/"

MUTATIONS = [
    Mutation(
        "two reward models share a rater",
        REWARDS + "halves.py",
        "halves[2 if home is None or home != side_of[vote.rater] else home].append(vote)",
        "halves[2 if home is None else home].append(vote)",
        TESTS + "test_halves.py::test_no_rater_and_no_prompt_is_on_both_sides",
    ),
    Mutation(
        "a part of the reward without its weight",
        REWARDS + "scores.py",
        "sum(part.weight * found[part.name][n][g] for part in self.parts)",
        "sum(found[part.name][n][g] for part in self.parts)",
        TESTS + "test_scores.py::test_the_total_is_the_weighted_sum_and_each_part_is_told_apart",
    ),
]
