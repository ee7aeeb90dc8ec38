"""Bugs of feedback: lost and doubled votes, shared leases, votes tied to the wrong thing, sources mixed up."""

from __future__ import annotations

from mutations.case import Mutation

COMPARISONS = "src/burnish/feedback/comparisons.py"
VOTING = "src/burnish/feedback/voting.py"
VOTES = "src/burnish/feedback/votes.py"
RATERS = "src/burnish/feedback/raters.py"
SNAPSHOT = "src/burnish/feedback/snapshot.py"
SIMULATE = "src/burnish/feedback/simulate.py"

MUTATIONS = [
    Mutation(
        name="feedback: marks are kept one character further on",
        file="src/burnish/feedback/voting.py",
        old="return [[mark.start, mark.stop, mark.kind.strip()] for mark in marks]",
        new="return [[mark.start + 1, mark.stop + 1, mark.kind.strip()] for mark in marks]",
        tests="tests/feedback/test_marking.py::test_marks_are_kept_at_their_places_and_bound_to_the_answers_version",
    ),
    Mutation(
        name="feedback: a mark may lie outside its answer",
        file="src/burnish/feedback/voting.py",
        old='        require_inside(marks, said["answer"])',
        new="        pass",
        tests="tests/feedback/test_marking.py::test_marks_that_lie_nowhere_are_refused_and_nothing_is_kept",
    ),
    Mutation(
        name="feedback: the marks of a judging answer are learned from",
        file="src/burnish/feedback/marking.py",
        old='if item.purpose == "train"]',
        new="]",
        tests="tests/feedback/test_marking.py::"
        "test_the_least_marked_answers_of_training_pairs_come_first_and_nobody_meets_one_twice",
    ),
    Mutation(
        name="feedback: a vote is acknowledged and not committed",
        file=VOTING,
        old="        sequence = append(conn, tables.votes, row)\n    return Receipt(sequence, duplicate=False)",
        new="        sequence = append(conn, tables.votes, row)\n        conn.rollback()\n"
        "    return Receipt(sequence, duplicate=False)",
        tests="tests/feedback/test_crash.py::test_acknowledged_votes_survive_sigkill_and_none_is_doubled",
    ),
    Mutation(
        name="feedback: commits are not synchronous",
        file="src/burnish/store/database.py",
        old='"synchronous": 2,',
        new='"synchronous": 1,',
        tests="tests/feedback/test_voting.py::test_the_commit_that_acknowledges_is_synchronous",
    ),
    Mutation(
        name="feedback: events are told apart by content instead of by key",
        file=VOTING,
        old="    query = select(table).where(table.c.project == project, table.c.key == key)\n",
        new="    query = select(table).where(table.c.project == project)\n",
        tests="tests/feedback/test_voting.py::test_equal_content_with_another_key_is_another_event",
    ),
    Mutation(
        name="feedback: a key with other content is acknowledged",
        file=VOTING,
        old="    if any(known[name] != row.get(name) for name in CONTENT):",
        new="    if False:",
        tests="tests/feedback/test_voting.py::test_the_same_key_with_other_content_is_refused",
    ),
    Mutation(
        name="feedback: another correction under the same key is acknowledged",
        file=VOTING,
        old="        if kept is not None and kept != written:",
        new="        if kept is None:",
        tests="tests/feedback/test_voting.py::test_the_same_key_with_other_content_is_refused",
    ),
    Mutation(
        name="feedback: a lease is no obstacle, so two people get the same item",
        file=COMPARISONS,
        old="        given + held < item.c.votes_wanted,",
        new="        given < item.c.votes_wanted,",
        tests="tests/feedback/test_comparisons.py::test_threads_lease_distinct_items",
    ),
    Mutation(
        name="feedback: leases never expire",
        file=COMPARISONS,
        old="(leases.c.rater_id == rater) | (leases.c.expires_at <= time)",
        new="leases.c.rater_id == rater",
        tests="tests/feedback/test_comparisons.py::test_a_lease_expires_and_the_item_is_free_again",
    ),
    Mutation(
        name="feedback: a rater meets an item twice",
        file=COMPARISONS,
        old="        item.c.id.not_in(seen),\n",
        new="",
        tests="tests/feedback/test_comparisons.py::test_a_rater_meets_an_item_again_only_after_taking_the_vote_back",
    ),
    Mutation(
        name="feedback: the first answer always stands on the left",
        file=COMPARISONS,
        old='    return "a" if int(digest_of([comparison, rater])[:8], 16) % 2 == 0 else "b"',
        new='    return "a"',
        tests="tests/feedback/test_comparisons.py::test_an_offer_is_blind_and_its_sides_are_drawn_and_kept",
    ),
    Mutation(
        name="feedback: the side that was seen is taken for the answer",
        file=VOTING,
        old='{"left": left, "right": "b" if left == "a" else "a", "tie": "tie"}',
        new='{"left": "a", "right": "b", "tie": "tie"}',
        tests="tests/feedback/test_simulate.py::test_a_panel_votes_as_the_rule_says_and_is_marked_simulated",
    ),
    Mutation(
        name="feedback: equal answers are put before people",
        file=COMPARISONS,
        old="    if first.answer.strip() == second.answer.strip():",
        new="    if first.answer is second:",
        tests="tests/feedback/test_comparisons.py::test_pairs_that_ask_nothing_are_refused_and_nothing_is_added",
    ),
    Mutation(
        name="feedback: votes that were taken back still count",
        file=VOTES,
        old='row["undo_of"] is not None or row["sequence"] in taken_back',
        new='row["undo_of"] is not None',
        tests="tests/feedback/test_voting.py::test_undo_takes_back_ones_own_last_vote_once",
    ),
    Mutation(
        name="feedback: undo takes back somebody else's vote",
        file=VOTING,
        old="(table.c.project == project) & (table.c.rater_id == rater) & table.c.undo_of.is_(None)",
        new="(table.c.project == project) & table.c.undo_of.is_(None)",
        tests="tests/feedback/test_voting.py::test_undo_takes_back_ones_own_last_vote_once",
    ),
    Mutation(
        name="feedback: a rating of NaN or 0 is taken",
        file=VOTING,
        old="    if value is not None and (isinstance(value, bool) or value not in allowed):",
        new="    if value is not None and isinstance(value, bool):",
        tests="tests/feedback/test_voting.py::test_what_is_no_vote_is_refused",
    ),
    Mutation(
        name="feedback: a simulated rater's name can be taken over by a person",
        file=RATERS,
        old="    if found.source != source:",
        new="    if found.source != source and False:",
        tests="tests/feedback/test_voting.py::test_simulated_votes_never_count_as_human",
    ),
    Mutation(
        name="feedback: simulated votes are pooled with people's unasked",
        file=VOTES,
        old='        if sources is not None and row["source"] not in sources:',
        new="        if sources is not None and not sources:",
        tests="tests/feedback/test_snapshot.py::test_a_snapshot_takes_only_the_sources_it_names",
    ),
    Mutation(
        name="feedback: votes that decide a gate also train",
        file=VOTES,
        old='its_purpose = row["purpose"] or ("judge" if row["exchange"] in judging else "train")',
        new='its_purpose = row["purpose"] or "train"',
        tests="tests/feedback/test_voting.py::test_what_decides_a_gate_never_trains",
    ),
    Mutation(
        name="feedback: a snapshot moves on with the votes",
        file=SNAPSHOT,
        old="kept = votes(store, project, up_to=until, sources",
        new="kept = votes(store, project, sources",
        tests="tests/feedback/test_snapshot.py::test_a_snapshot_does_not_change_when_votes_come_in",
    ),
    Mutation(
        name="feedback: a turn that is called again takes a new snapshot",
        file=SNAPSHOT,
        old="    if turn is not None and (frozen",
        new="    if turn is None and (frozen",
        tests="tests/feedback/test_snapshot.py::test_a_turn_keeps_its_snapshot_however_many_votes_come_in",
    ),
    Mutation(
        name="feedback: the keys of simulated votes depend on the run",
        file=SIMULATE,
        old='key=f"simulated:{rater.name}:{item.id}"',
        new='key=f"simulated:{rater.name}:{added}"',
        tests="tests/feedback/test_simulate.py::test_a_killed_and_repeated_simulation_doubles_nothing",
    ),
    Mutation(
        name="feedback: a cut-off answer costs the raters nothing",
        file="src/burnish/recipes/support/raters.py",
        old='        "cut": 0.0 if finished and _COMPLETE.search(answer.strip()) else -1.0,',
        new='        "cut": 0.0 if _COMPLETE.search(answer.strip()) else -1.0,',
        tests="tests/recipes/test_support_raters.py::test_cut_off_by_the_model_or_in_the_text",
    ),
    Mutation(
        name="feedback: a judge without an answer votes for a tie",
        file="src/burnish/feedback/judging.py",
        old="        if value is not None:\n            choice = _seen(CHOICES[value],",
        new="        if True:\n            choice = _seen(CHOICES[0.5 if value is None else value],",
        tests="tests/feedback/test_judging.py::test_no_answer_is_no_vote_is_counted_and_is_asked_again",
    ),
    Mutation(
        name="feedback: a judge's vote names the side and not the answer",
        file="src/burnish/feedback/judging.py",
        old='"left" if choice == left else "right"',
        new='"left" if choice == "a" else "right"',
        tests="tests/feedback/test_judging.py::test_a_vote_says_which_answer_was_better_wherever_it_stood",
    ),
    Mutation(
        name="feedback: a judge's vote spares people the question",
        file="src/burnish/feedback/comparisons.py",
        old="table.c.source.in_(RATERS), ",
        new="",
        tests="tests/feedback/test_judging.py::test_people_are_asked_about_what_a_judge_has_judged",
    ),
    Mutation(
        name="feedback: a judge counts as a person",
        file="src/burnish/feedback/judging.py",
        old='ensure_rater(store, project, name, "judge")',
        new="ensure_rater(store, project, name)",
        tests="tests/feedback/test_judging.py::test_only_who_is_named_is_read",
    ),
]
