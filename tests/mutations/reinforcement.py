"""Bugs of reinforcement learning that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

CREDIT, TRAINING, OBJECTIVES = (f"src/burnish/{room}/" for room in ("training/credit", "training", "objectives"))
ALGORITHMS, GRADIENT, ROLLOUTS = (f"{TRAINING}{name}.py" for name in ("algorithms", "gradient", "rollouts"))
TESTS = "tests/training/"

MUTATIONS = [
    Mutation(
        "a reward of another version takes its hidden states from the start",
        TRAINING + "shared.py",
        "torch.equal(one, other)",
        "one.shape == other.shape",
        TESTS + "test_shared.py::test_what_differs_is_not_shared",
    ),
    Mutation(
        "layers in common are run for each of two models",
        TRAINING + "shared.py",
        "        self._known |= {key: hidden_TD[place] for key, place in places}\n",
        "",
        TESTS + "test_shared.py::test_one_forward_gives_what_two_give",
    ),
    Mutation(
        "hidden states of the last rollout are kept for good",
        ROLLOUTS,
        "            self.shared.forget()\n",
        "            pass\n",
        TESTS + "test_shared.py::test_a_rollout_forgets_the_last_one",
    ),
    Mutation(
        "what parts of a reward measure is lost where prompts are drawn again",
        TRAINING + "measured.py",
        "tokens, failed, why, more)",
        "tokens, failed, why)",
        TESTS + "test_rollouts.py::test_what_a_part_measures_is_a_mean_over_all_draws",
    ),
    Mutation(
        "leave-one-out that leaves none out",
        CREDIT + "rloo.py",
        "(sum(rewards_G) - r) / (len(rewards_G) - 1)",
        "sum(rewards_G) / len(rewards_G)",
        TESTS + "test_credit.py::test_leave_one_out_is_the_mean_of_the_others",
    ),
    Mutation(
        "advantages that forget what comes after",
        CREDIT + "gae.py",
        "discount * trace * following",
        "0.0 * following",
        TESTS + "test_credit.py::test_generalised_advantages_are_the_papers_sum",
    ),
    Mutation(
        "the value of the next token is that of this one",
        CREDIT + "gae.py",
        "        expected = values_L[t]\n",
        "        expected = values_L[max(0, t - 1)]\n",
        TESTS + "test_credit.py::test_generalised_advantages_by_hand",
    ),
    Mutation(
        "the KL in the reward pays for going away",
        CREDIT + "kl.py",
        "[-weight * (own - other)",
        "[weight * (own - other)",
        TESTS + "test_credit.py::test_in_the_reward_only_k1_has_the_gradient_of_the_kl",
    ),
    Mutation(
        "an estimator without the KL's gradient in the reward",
        "src/burnish/config/reinforcement.py",
        'if knobs.kl_in == "reward" and knobs.kl_estimator != "k1":',
        "if False:",
        "tests/test_config.py::test_a_key_that_the_algorithm_does_not_read_is_an_error_that_names_it",
    ),
    Mutation(
        "a key that the algorithm does not read is ignored",
        "src/burnish/config/reinforcement.py",
        "if key not in known and getattr(self, key) != default_of(self, key):",
        "if False:",
        "tests/test_config.py::test_a_key_that_the_algorithm_does_not_read_is_an_error_that_names_it",
    ),
    Mutation(
        "a constant divisor that is not used",
        GRADIENT,
        "(t.at(step), t.divided_by(trees))",
        "(t.at(step), t.count(trees))",
        TESTS + "test_loop.py::test_a_term_is_divided_by_its_divisor_and_weighed_by_its_schedule",
    ),
    Mutation(
        "a weight on a schedule stays where it began",
        GRADIENT,
        "(t.at(step), t.divided_by(trees))",
        "(t.at(0), t.divided_by(trees))",
        TESTS + "test_loop.py::test_a_term_is_divided_by_its_divisor_and_weighed_by_its_schedule",
    ),
    Mutation(
        "one ratio for an answer, without the mean",
        OBJECTIVES + "terms.py",
        "logp = old + reading.means(logp - old, weights, stream)[stream.answer_S]",
        "logp = old + reading.sums(logp - old, weights, stream)[stream.answer_S]",
        "tests/objectives/test_terms.py::test_policy_with_one_ratio_for_an_answer",
    ),
    Mutation(
        "CHORD's phi has a gradient",
        OBJECTIVES + "hybrid.py",
        "probability = logp.detach().exp()",
        "probability = logp.exp()",
        "tests/objectives/test_hybrid.py::test_chord_weighs_a_token_by_p_times_one_less_p",
    ),
    Mutation(
        "on- and off-policy tokens have two denominators",
        OBJECTIVES + "hybrid.py",
        "sum(t.divided_by(trees) for t in terms)",
        "max(t.divided_by(trees) for t in terms)",
        "tests/objectives/test_hybrid.py::test_sharing_on_and_off_policy_tokens_have_one_denominator",
    ),
    Mutation(
        "a value may run away from where it was",
        OBJECTIVES + "value.py",
        "torch.maximum(error, bounded)",
        "torch.minimum(error, bounded)",
        "tests/objectives/test_value.py::test_value",
    ),
    Mutation(
        "a replayed rollout adapts the weight of the KL twice",
        ROLLOUTS,
        'now = known["now"] if known["rollout"] == rollout else known["next"]',
        'now = known["next"]',
        TESTS + "test_rollouts.py::test_the_weight_of_the_kl_follows_its_target_and_a_replay_follows_it_too",
    ),
    Mutation(
        "a resumed run forgets its value head",
        TRAINING + "loop.py",
        "                parameter.copy_(found.tensors[name])\n",
        "                parameter.copy_(found.tensors[name] * (not name.startswith('value.')))\n",
        "tests/pipeline/test_algorithms.py::test_ppo_ends_with_the_same_bits_after_an_interruption",
    ),
    Mutation(
        "the value head is not trained, and not in the checkpoint",
        TRAINING + "online.py",
        "recipe.adapt, learner.parameters(), forward",
        "recipe.adapt, policy.parameters(), forward",
        "tests/pipeline/test_algorithms.py::test_ppo_ends_with_the_same_bits_after_an_interruption",
    ),
    Mutation(
        "a written answer is paid the KL of nobody",
        TRAINING + "plan.py",
        '    if "old_logp" not in answer.streams:\n        return [0.0]',
        "    if False:\n        return [0.0]",
        TESTS + "test_plan.py::test_luffy_pays_the_kl_and_the_length_of_drawn_answers_alone",
    ),
    Mutation(
        "CHORD leaves the policy's loss as it was",
        TRAINING + "plan.py",
        "schedule=lambda step: 1 - mu(step)",
        "schedule=lambda step: 1.0",
        TESTS + "test_plan.py::test_chord_shares_the_objective_by_its_schedule",
    ),
    Mutation(
        "groups that teach nothing are kept",
        ROLLOUTS,
        "if self.plan.filter(rewards_G)]",
        "]",
        TESTS + "test_rollouts.py::test_groups_that_teach_nothing_are_replaced",
    ),
    Mutation(
        "the minibatches of a pass leave groups out",
        ROLLOUTS,
        "for at in (place, place + 1))",
        "for at in (place, place + 0.5))",
        TESTS + "test_rollouts.py::test_a_rollout_is_cut_into_minibatches_and_passes",
    ),
]
