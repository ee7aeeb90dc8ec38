"""Bugs of rewards that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

REWARDS, TESTS = "src/burnish/rewards/", "tests/rewards/"

MUTATIONS = [
    Mutation(
        "marks of votes lie on ids made anew, not on those that were sampled",
        REWARDS + "spans.py",
        "places, cluster = renderer.places(said.answer_ids), cluster_of(said.prompt_ids)",
        "places, cluster = [(0, len(said.answer))] * len(said.answer_ids), cluster_of(said.prompt_ids)",
        TESTS + "test_spans.py::test_marks_of_votes_lie_on_the_sampled_ids",
    ),
    Mutation(
        "a segment is paid at the token after its last one",
        REWARDS + "spans.py",
        "        tokens_L[token] += ",
        "        tokens_L[min(token + 1, length - 1)] += ",
        TESTS + "test_spans.py::test_what_each_token_is_paid",
    ),
    Mutation(
        "a right segment is fined, a wrong one paid",
        REWARDS + "spans.py",
        "(1 - 2 * chance)",
        "(2 * chance - 1)",
        TESTS + "test_spans.py::test_a_part_pays_tokens_and_an_answer_their_sum",
    ),
    Mutation(
        "a type is read from another type's head",
        REWARDS + "spans.py",
        "wrong_at[token][column])",
        "wrong_at[token][-1 - column])",
        TESTS + "test_spans.py::test_each_answer_gets_what_was_read_at_its_own_ends_in_one_forward",
    ),
    Mutation(
        "single tokens are paid without the part's weight",
        REWARDS + "scores.py",
        "sum(weight * tokens[n][g][t] for weight, tokens in dense)",
        "sum(tokens[n][g][t] for weight, tokens in dense)",
        TESTS + "test_spans.py::test_tokens_are_weighed_and_added_and_the_rest_is_the_other_parts",
    ),
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
        "        return self.weight * value",
        "        return value",
        TESTS + "test_scores.py::test_the_total_is_the_weighted_sum_and_each_part_is_told_apart",
    ),
    Mutation(
        "an answer without a reward counts as 0",
        REWARDS + "scores.py",
        "if all(found.values[n][g] is not None for found in paid.values())]",
        "]",
        TESTS + "test_scores.py::test_a_failed_answer_is_left_out_and_counted_never_paid_zero",
    ),
    Mutation(
        "a score of 0.0 taken for missing",
        REWARDS + "scores.py",
        "if all(found.values[n][g] is not None for found in paid.values())]",
        "if all(found.values[n][g] for found in paid.values())]",
        TESTS + "test_scores.py::test_a_failed_answer_is_left_out_and_counted_never_paid_zero",
    ),
    Mutation(
        "a reward function that raises counts as 0",
        REWARDS + "own.py",
        "                values[-1].append(None)",
        "                values[-1].append(0.0)",
        TESTS + "test_build.py::test_a_reward_that_raises_stops_the_run_or_is_counted",
    ),
    Mutation(
        "a replayed rollout counts twice in the running scale",
        REWARDS + "scores.py",
        "known[str(rollout)] = list(here)",
        "known[str(len(known))] = list(here)",
        TESTS + "test_scores.py::test_a_rollout_that_is_replayed_does_not_count_twice",
    ),
    Mutation(
        "every look has a scale of its own",
        REWARDS + "scores.py",
        'Moments(*known.setdefault("start", list(here)))',
        "here",
        TESTS + "test_scores.py::test_looks_stay_on_the_scale_of_the_first",
    ),
    Mutation(
        "a judge that fails counts as a tie",
        REWARDS + "judge.py",
        "values.append(None if first is None or second is None else _score(first, second))",
        "values.append(_score(first or '', second or ''))",
        TESTS + "test_judge.py::test_what_stays_broken_is_no_reward_and_says_why",
    ),
    Mutation(
        "a judge is asked in one order",
        REWARDS + "judge.py",
        "asks = [[self._ask(row, a, b), self._ask(row, b, a)] for row, a, b in cases]",
        "asks = [[self._ask(row, a, b), self._ask(row, a, b)] for row, a, b in cases]",
        TESTS + "test_judge.py::test_a_preference_is_one_in_both_orders",
    ),
    Mutation(
        "a judge's key is shown",
        REWARDS + "judge.py",
        "key: str | None = field(default=None, repr=False)",
        "key: str | None = None",
        TESTS + "test_judge.py::test_what_is_asked",
    ),
    Mutation(
        "what reward models disagree by is added",
        REWARDS + "learned.py",
        "mean - self.penalty * spread",
        "mean + self.penalty * spread",
        TESTS + "test_learned.py::test_the_penalty_takes_off_what_the_models_disagree_by",
    ),
    Mutation(
        "a reward model that watches learned from the other's votes",
        "src/burnish/training/reward.py",
        'votes = halves.first if half == "first" else halves.second',
        "votes = halves.first + halves.second",
        "tests/training/test_reward_models.py::test_each_half_learns_from_raters_and_prompts_of_its_own",
    ),
    Mutation(
        "a reward model of another tokenizer",
        "src/burnish/models/artifacts.py",
        'if learned_on.body["tokenizer"] != tokenizer:',
        "if False:",
        "tests/training/test_reward_models.py::test_a_reward_model_of_another_tokenizer_is_refused",
    ),
    Mutation(
        "a mark reaches the token beside it",
        "src/burnish/data/marks.py",
        "if start < mark.stop and mark.start < stop",
        "if start <= mark.stop and mark.start <= stop",
        "tests/data/test_marks.py::test_a_token_is_marked_where_it_shares_a_character",
    ),
]
