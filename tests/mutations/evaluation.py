"""Bugs of evaluation and the gate, and the tests that must see them."""

from mutations.case import Mutation

GATES = "src/burnish/evaluation/gates.py"
METRICS = "src/burnish/evaluation/metrics.py"
STAGE = "src/burnish/evaluation/stage.py"
PREFERENCE = "src/burnish/evaluation/preference.py"
SEEN_BY = "tests/evaluation/test_{}.py::test_{}".format

MUTATIONS = [
    Mutation(
        name="what prompts share is run by the first row alone",
        file="src/burnish/objectives/stream.py",
        old="spans.append(Span(start, first + fed, root))",
        new="spans.append(Span(start, first + fed, None if number else root))",
        tests=SEEN_BY("stage", "a_shared_beginning_changes_no_logprob"),
    ),
    Mutation(
        name="the KL is that of the start's own answers",
        file="src/burnish/evaluation/stage.py",
        old="candidate.exchanges if candidate else []",
        new="exchanges if candidate else []",
        tests=SEEN_BY("stage", "kl_is_zero_for_the_samplers_own_model_and_not_for_another"),
    ),
    Mutation(
        name="a seed that found nothing is left out of the pool",
        file="src/burnish/pipeline/repeat.py",
        old="for _ in range(len(evaluations) - len(tested))]",
        new="for _ in range(0)]",
        tests="tests/pipeline/test_circle.py::test_seeds_are_pooled_and_one_without_an_update_counts_as_no_difference",
    ),
    Mutation(
        name="a gate passes on figures that are not finite",
        file=GATES,
        old="    if not all(map(math.isfinite, (figure.value, figure.low, figure.high, value))):",
        new="    if False:",
        tests=SEEN_BY("gates", "recheck_believes_the_figure_not_the_answer"),
    ),
    Mutation(
        name="a missing value is left out of a figure without a word",
        file=METRICS,
        old="for value, cluster in zip(values, clusters, strict=True) if value is not None]",
        new="for value, cluster in zip(values, clusters, strict=True) if value is not None and value == value]",
        tests=SEEN_BY("gates", "not_a_number_is_a_no"),
    ),
    Mutation(
        name="a gate passes on fewer than 50 clusters",
        file=GATES,
        old="LEAST_CLUSTERS = 50",
        new="LEAST_CLUSTERS = 5",
        tests=SEEN_BY("gates", "fewer_than_fifty_clusters_are_a_no_however_many_items"),
    ),
    Mutation(
        name="items of one person count as independent",
        file=METRICS,
        old="numbers, groups = [value for value, _ in kept], [cluster for _, cluster in kept]",
        new="numbers, groups = [value for value, _ in kept], list(range(len(kept)))",
        tests=SEEN_BY("gates", "fewer_than_fifty_clusters_are_a_no_however_many_items"),
    ),
    Mutation(
        name="a gate passes on an interval without width",
        file=GATES,
        old="    if not figure.high - figure.low > 1e-9 * max(1.0, abs(figure.value)):",
        new="    if figure.high < figure.low:",
        tests=SEEN_BY("gates", "an_interval_without_width_is_a_no"),
    ),
    Mutation(
        name="a gate passes on a metric that was not measured",
        file=GATES,
        old="        objection = error.what",
        new="        objection = None",
        tests=SEEN_BY("gates", "what_was_not_measured_is_a_no"),
    ),
    Mutation(
        name="the mean decides, not the end of the interval",
        file=GATES,
        old="    worst = -figure.high if lower else figure.low",
        new="    worst = -figure.value if lower else figure.value",
        tests=SEEN_BY("gates", "the_mean_alone_is_not_enough_the_interval_must_clear_the_bound"),
    ),
    Mutation(
        name="a higher loss is better",
        file=METRICS,
        old='of the written answer, in nats", "lower")',
        new='of the written answer, in nats", "higher")',
        tests=SEEN_BY("gates", "a_loss_is_better_when_it_is_lower"),
    ),
    Mutation(
        name="the gate's interval is looser than 95 % one-sided",
        file=GATES,
        old="_answer(rule, evaluation, judgement, alpha, work.seed)",
        new="_answer(rule, evaluation, judgement, 2 * alpha, work.seed)",
        tests=SEEN_BY("gates", "the_default_rules_pass_a_better_candidate"),
    ),
    Mutation(
        name="a held-out set decides any number of gates at full alpha",
        file=GATES,
        old="        use = len(before) + 1",
        new="        use = 1",
        tests=SEEN_BY("gates", "each_further_verdict_on_the_same_prompts_spends_less"),
    ),
    Mutation(
        name="one more row makes a held-out set fresh",
        file=GATES,
        old='        or not mine.isdisjoint(prompts[v.body["held_out"]["dataset"]])',
        new="        or False",
        tests=SEEN_BY("gates", "rows_added_to_a_held_out_set_make_no_fresh_set"),
    ),
    Mutation(
        name="votes against another reference decide",
        file=GATES,
        old="""    if (ids[found["candidate"]], ids[found["reference"]]) != wanted:""",
        new="""    if ids[found["candidate"]] != wanted[0]:""",
        tests=SEEN_BY("gates", "votes_against_another_reference_do_not_count"),
    ),
    Mutation(
        name="the test is unpaired where pairs exist",
        file=METRICS,
        old="    return paired_bootstrap(firsts, seconds, groups,",
        new="    return paired_bootstrap(firsts, seconds[::-1], groups,",
        tests=SEEN_BY("metrics", "the_difference_is_paired_by_item"),
    ),
    Mutation(
        name="a candidate that changed nothing is evaluated as if it had",
        file=STAGE,
        old='if sides[candidate] != sides[start] and not any(measured[candidate].numbers["changed"]):',
        new="if False:",
        tests=SEEN_BY("stage", "a_candidate_that_answers_like_its_start_is_an_error"),
    ),
    Mutation(
        name="KL has the wrong sign",
        file=STAGE,
        old="_mean(other.logprobs) - _mean(next(found))",
        new="_mean(next(found)) - _mean(other.logprobs)",
        tests=SEEN_BY("stage", "kl_is_zero_for_the_samplers_own_model_and_not_for_another"),
    ),
    Mutation(
        name="the loss skips the stop token",
        file="src/burnish/tasks/chat.py",
        old="(Answer(ids, [1.0] * len(ids), row=row.number),))",
        new="(Answer(ids, [1.0] * (len(ids) - 1) + [0.0], row=row.number),))",
        tests="tests/tasks/test_chat.py::test_every_id_of_the_answer_is_trained_the_stop_token_too",
    ),
    Mutation(
        name="other people's rows stay as examples in an erased store",
        file="src/burnish/evaluation/answers.py",
        old="            prompt = task.prompt_ids(row)",
        new="            prompt = task.prompt_ids(row, examples)",
        tests=SEEN_BY("stage", "examples_are_not_kept_with_other_peoples_prompts"),
    ),
    Mutation(
        name="the draws depend on what else is sampled",
        file="src/burnish/evaluation/answers.py",
        old="params, (row.number,))): (id, row)",
        new="params, (missing.index((id, row)),))): (id, row)",
        tests=SEEN_BY("stage", "what_a_crash_left_is_sampled_to_the_same_answers"),
    ),
    Mutation(
        name="real and simulated votes are pooled unasked",
        file=PREFERENCE,
        old='[["human"], ["simulated"]] if asked is None',
        new='[["human", "simulated"]] if asked is None',
        tests=SEEN_BY("preference", "people_and_simulated_raters_are_pooled_only_where_asked"),
    ),
    Mutation(
        name="equal answers count as wins",
        file=PREFERENCE,
        old="items.append(0.5 if pair.state",
        new="items.append(1.0 if pair.state",
        tests=SEEN_BY("preference", "the_win_rate_counts_ties_as_a_half"),
    ),
    Mutation(
        name="pairs without a vote are left out of the win rate",
        file=PREFERENCE,
        old="        if cast and not missing:",
        new="        if cast:",
        tests=SEEN_BY("preference", "a_pair_without_a_vote_is_not_guessed"),
    ),
]
