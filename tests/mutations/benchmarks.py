"""Bugs of what is measured that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

QA, TESTS = "benchmarks/qa/", "tests/pipeline/test_qa.py::"

MUTATIONS = [
    Mutation(
        "qa: a judge meets the questions that it judges",
        QA + "judges.py",
        "enumerate(questions) if fold_of(place) != fold]",
        "enumerate(questions)]",
        TESTS + "test_no_judge_meets_a_question_that_it_judges",
    ),
    Mutation(
        "qa: a held-out question is trained on",
        QA + "prepare.py",
        "        else:\n            train.append(row)",
        "        if True:\n            train.append(row)",
        TESTS + "test_held_out_questions_are_in_no_training_file",
    ),
    Mutation(
        "qa: the smallest lead forgets that judges err",
        QA + "report.py",
        " / (2 * accuracy - 1)",
        "",
        TESTS + "test_the_smallest_visible_lead_by_hand",
    ),
    Mutation(
        "qa: a mark stays where the written answer had it",
        QA + "prepare.py",
        'len(" ".join(f"{text[:at]}|".split())) - 1',
        "at",
        TESTS + "test_a_mark_moves_with_the_white_space_and_ends_where_the_answer_was_cut",
    ),
]
