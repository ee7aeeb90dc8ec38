"""Bugs of criteria: votes by one that count for another, heads that change places, weights that do nothing."""

from __future__ import annotations

from mutations.case import Mutation

VOTING, CHAIN = "src/burnish/feedback/voting.py", "src/burnish/store/chain.py"
PAIRS, FRONT = "src/burnish/rewards/pairs.py", "src/burnish/rewards/front.py"
CRITERIA = "src/burnish/rewards/criteria.py"
MODEL, STAGE, ONLINE = (
    "src/burnish/models/reward.py",
    "src/burnish/training/reward.py",
    "src/burnish/training/online.py",
)
FEEDBACK, LEARNED = "tests/feedback/test_criteria.py::", "tests/training/test_criteria.py::"
MODELS, FRONTS = "tests/models/test_reward.py::", "tests/rewards/test_front.py::"

MUTATIONS = [
    Mutation(
        "criteria: the side that was seen is kept as the answer that was meant",
        VOTING,
        'side_of = {"left": left, "right": "b" if left == "a" else "a", "tie": "tie"}\n    said = {name: side_of[side]',
        'side_of = {"left": left, "right": "b" if left == "a" else "a", "tie": "tie"}\n'
        '    said = {name: {"left": "a", "right": "b", "tie": "tie"}[side]',
        FEEDBACK + "test_a_choice_by_criterion_is_kept_as_the_answer_that_was_meant",
    ),
    Mutation(
        "criteria: the chain of votes does not hold them",
        CHAIN,
        "(value is not None or name not in LATER)",
        "name not in LATER",
        FEEDBACK + "test_the_chain_holds_what_was_said_by_criterion",
    ),
    Mutation(
        "criteria: votes of an earlier schema no longer verify",
        CHAIN,
        "(value is not None or name not in LATER)",
        "True",
        "tests/store/test_migrations.py::test_the_first_schema_becomes_the_present_one",
    ),
    Mutation(
        "criteria: a repeated vote may say otherwise by criterion",
        VOTING,
        '"choice", "criteria", "value"',
        '"choice", "value"',
        FEEDBACK + "test_the_same_event_again_says_the_same_by_criterion",
    ),
    Mutation(
        "criteria: votes by one criterion count for another",
        PAIRS,
        "won = [WON[vote.criteria[criterion]] for vote in votes if criterion in vote.criteria]",
        "won = [WON[choice] for vote in votes for choice in vote.criteria.values()]",
        LEARNED + "test_a_pair_has_the_shares_of_each_criterion_by_itself",
    ),
    Mutation(
        "criteria: a head learns from the choices of the better answer",
        "src/burnish/objectives/preference.py",
        "reading.given(scores_A), reading.pairs(stream, by)",
        "reading.given(scores_A), reading.pairs(stream)",
        "tests/objectives/test_preference.py::test_pairwise_term_of_a_criterion_reads_its_own_scores_and_votes_alone",
    ),
    Mutation(
        "criteria: heads change places on loading",
        MODEL,
        "torch.stack([heads[name] for name in names])",
        "torch.stack([heads[name] for name in sorted(names)])",
        MODELS + "test_heads_come_back_under_their_own_names",
    ),
    Mutation(
        "criteria: a lost head is not missed",
        MODEL,
        "if not names or sorted(heads) != sorted(names):",
        "names = [name for name in names if name in heads]\n        if not names:",
        MODELS + "test_a_lost_or_misnamed_head_is_an_error",
    ),
    Mutation(
        "criteria: only the overall head is checked when a reward model comes back",
        "src/burnish/models/artifacts.py",
        "scores: list[float] = found_AH.flatten().tolist()",
        "scores: list[float] = found_AH[:, 0].repeat_interleave(found_AH.shape[1]).tolist()",
        "tests/models/test_artifacts.py::test_every_head_of_a_reward_model_is_checked_when_it_comes_back",
    ),
    Mutation(
        "criteria: weights are ignored",
        MODEL,
        "        if weights:\n",
        "        if not weights:\n",
        LEARNED + "test_weights_change_which_answer_wins_and_the_reward_is_not_learned_again",
    ),
    Mutation(
        "criteria: other weights learn the reward again",
        STAGE,
        'exclude={"models", "criteria"}',
        'exclude={"models"}',
        LEARNED + "test_weights_change_which_answer_wins_and_the_reward_is_not_learned_again",
    ),
    Mutation(
        "criteria: a policy does not say how its reward was weighed",
        ONLINE,
        '**({"reward": {"criteria": recipe.weights}} if recipe.weights else {}),',
        "",
        LEARNED + "test_what_the_policy_is_made_from_does_hold_the_weights",
    ),
    Mutation(
        "criteria: nothing but ties is learned from",
        CRITERIA,
        "elif all(share.preference == 0.5 for share in said):",
        "elif not said:",
        LEARNED + "test_a_criterion_that_cannot_be_learned_is_named_and_never_weighed",
    ),
    Mutation(
        "criteria: a weight for a head that is not there pays nothing",
        CRITERIA,
        "if weight and name in left_out), None)",
        "if weight and name in ()), None)",
        LEARNED + "test_a_criterion_that_cannot_be_learned_is_named_and_never_weighed",
    ),
    Mutation(
        "criteria: the heads judge their own choice in the front",
        FRONT,
        'share = pair["shares"][name]\n',
        'share = float(pair["margins"][name] > 0)\n',
        FRONTS + "test_what_chosen_answers_won_by_hand",
    ),
    Mutation(
        "criteria: equal points of the front dominate each other",
        FRONT,
        "and any(other[name].value > share.value for",
        "and any(other[name].value >= share.value for",
        FRONTS + "test_equal_points_do_not_dominate_each_other",
    ),
    Mutation(
        "criteria: what was said of one pair is sent with the next",
        "src/burnish/web/static/compare.js",
        "  for (const group of criteria) choose(group, null);\n",
        "",
        "tests/web/test_criteria.py::test_criteria_are_chosen_by_keys_and_sent_with_the_vote",
    ),
    Mutation(
        "criteria: a win rate by a criterion is that of the better answer",
        "src/burnish/evaluation/preference.py",
        "[(vote, vote.criteria[name]) for vote in cast if name in vote.criteria]",
        "[(vote, vote.choice) for vote in cast if name in vote.criteria]",
        "tests/evaluation/test_preference.py::"
        "test_a_criterion_has_a_win_rate_of_its_own_over_the_pairs_that_were_judged_by_it",
    ),
]
