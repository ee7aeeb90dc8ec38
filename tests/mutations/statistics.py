"""Bugs of figures and intervals: unpaired tests, ignored clusters, NaN, early stopping, peeking."""

from __future__ import annotations

from mutations.case import Mutation

RESAMPLING = "src/burnish/statistics/resampling.py"
PREFERENCES = "src/burnish/statistics/preferences.py"
SEQUENTIAL = "src/burnish/statistics/sequential.py"

MUTATIONS = [
    Mutation(
        name="statistics: equal scores are ranked by their place",
        file="src/burnish/statistics/detection.py",
        old="np.append(sorted_N[1:] != sorted_N[:-1], True)",
        new="np.ones(scores_N.size, dtype=bool)",
        tests="tests/statistics/test_detection.py::test_equal_scores_are_one_step_so_that_guessing_has_the_base_rate",
    ),
    Mutation(
        name="statistics: an unpaired test where pairs exist",
        file=RESAMPLING,
        old="return mean_interval(a_N - b_N, clusters,",
        new="return mean_interval(a_N - np.roll(b_N, 1), clusters,",
        tests="tests/statistics/test_resampling.py::test_pairs_are_compared_pair_by_pair",
    ),
    Mutation(
        name="statistics: answers are drawn instead of prompts",
        file=RESAMPLING,
        old="number.setdefault(cluster, len(number)) for cluster in clusters",
        new="number.setdefault((cluster, len(number)), len(number)) for cluster in clusters",
        tests="tests/statistics/test_resampling.py::test_clusters_are_drawn_whole",
    ),
    Mutation(
        name="statistics: NaN passes into a figure",
        file="src/burnish/statistics/checks.py",
        old="    if bad.size:",
        new="    if bad.size == array.size:",
        tests="tests/statistics/test_resampling.py::test_a_value_that_is_not_finite_is_refused",
    ),
    Mutation(
        name="statistics: one cluster gets an interval of no width",
        file=RESAMPLING,
        old="    if clusters < 2:\n        return Figure(value, None, None, clusters, level)",
        new="    if clusters < 2:\n        return Figure(value, value, value, clusters, level)",
        tests="tests/statistics/test_resampling.py::"
        "test_one_cluster_has_no_interval_and_equal_clusters_one_of_no_width",
    ),
    Mutation(
        name="statistics: pooled over runs, only prompts are drawn again",
        file=RESAMPLING,
        old="weights_RS = draw.multinomial(runs, np.full(runs, 1 / runs), size=resamples)",
        new="weights_RS = np.ones((resamples, runs))",
        tests="tests/statistics/test_resampling.py::test_pooled_over_runs_both_runs_and_prompts_are_drawn_again",
    ),
    Mutation(
        name="statistics: Bradley-Terry stops after two iterations",
        file=PREFERENCES,
        old="        if np.abs(gradient_K).max() < 1e-10 * games_KK.sum():",
        new="        if _ == 2:",
        tests="tests/statistics/test_preferences.py::test_lopsided_wins_still_reach_the_maximum",
    ),
    Mutation(
        name="statistics: a tie counts as a loss",
        file=PREFERENCES,
        old='"tie": 0.5,',
        new='"tie": 0.0,',
        tests="tests/statistics/test_preferences.py::test_win_rate_counts_a_tie_as_half",
    ),
    Mutation(
        name="statistics: a tie of one rater counts as disagreement",
        file=PREFERENCES,
        old='            if "tie" not in (first, second):',
        new="            if True:",
        tests="tests/statistics/test_preferences.py::test_agreement_counts_pairs_of_raters_by_hand",
    ),
    Mutation(
        name="statistics: daily peeks at a test made for one look",
        file=SEQUENTIAL,
        old="    return math.sqrt(spread * (math.log(spread / prior) + log_inverse)) / count",
        new="    return 1.96 * math.sqrt(VARIANCE / count)",
        tests="tests/statistics/test_sequential.py::test_thirty_daily_peeks_keep_false_alarms_under_alpha",
    ),
    Mutation(
        name="statistics: each use of one held-out set spends all of alpha",
        file=SEQUENTIAL,
        old="    return alpha / (use * (use + 1))",
        new="    return alpha",
        tests="tests/statistics/test_sequential.py::test_uses_of_one_set_spend_alpha_together",
    ),
    Mutation(
        name="statistics: calibration does not weigh its bins",
        file="src/burnish/statistics/calibration.py",
        old="    return sum(each.count * abs(each.predicted - each.observed) for each in found) / total",
        new="    return sum(abs(each.predicted - each.observed) for each in found) / len(found)",
        tests="tests/statistics/test_calibration.py::test_calibration_error_by_hand",
    ),
]
