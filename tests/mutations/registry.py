"""Bugs of the promotion log, and the tests that must see them."""

from mutations.case import Mutation

FILE = "src/burnish/registry/promotions.py"
SEEN_BY = "tests/registry/test_promotions.py::test_{}".format

MUTATIONS = [
    Mutation(
        name="a version is promoted without a verdict",
        file=FILE,
        old="        if objection is not None or verdict is None:",
        new="        if objection is not None and verdict is not None:",
        tests=SEEN_BY("without_a_verdict_nothing_is_promoted"),
    ),
    Mutation(
        name="another version's verdict promotes",
        file=FILE,
        old='    if body.get("candidate") != version.id:',
        new="    if False:",
        tests=SEEN_BY("a_verdict_on_another_version_does_not_count"),
    ),
    Mutation(
        name="an older verdict overrules the newest",
        file=FILE,
        old="        .order_by(records.c.sequence.desc())",
        new="        .order_by(records.c.sequence)",
        tests=SEEN_BY("the_newest_verdict_counts"),
    ),
    Mutation(
        name="the verdict's own yes is believed",
        file=FILE,
        old="        wrong = recheck(rule)",
        new="        wrong = None",
        tests=SEEN_BY("a_verdict_that_says_yes_over_figures_that_say_no_is_not_believed"),
    ),
    Mutation(
        name="a verdict without rules promotes",
        file=FILE,
        old='    if not body.get("rules"):',
        new="    if False:",
        tests=SEEN_BY("a_verdict_without_figures_or_rules_is_not_believed"),
    ),
    Mutation(
        name="a record that was changed on the disk promotes",
        file=FILE,
        old="        if record_digest(record.kind, record.key, record.body) != record.digest:",
        new="        if False:",
        tests=SEEN_BY("a_record_that_was_changed_on_the_disk_is_not_believed"),
    ),
    Mutation(
        name="two rollbacks end where they began",
        file=FILE,
        old="            stack.pop()",
        new="            stack.append(line.version)",
        tests=SEEN_BY("a_rollback_goes_back_one_version_each_time"),
    ),
    Mutation(
        name="nobody can say what served at a given time",
        file=FILE,
        old="        query = query.where(promotions.c.created_at <= moment",
        new="        query = query.where(promotions.c.created_at < moment",
        tests=SEEN_BY("history_says_what_served_at_a_time"),
    ),
]
