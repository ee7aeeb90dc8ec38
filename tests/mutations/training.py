"""Bugs of the step loop, checkpoints and reinforcement learning that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

LOOP, ROLLOUTS, GRPO = (f"src/burnish/training/{name}" for name in ("loop.py", "rollouts.py", "credit/grpo.py"))
CHECKPOINT, TESTS = "src/burnish/training/checkpoint.py", "tests/training/"
SCHEDULE, OPTIMIZER = "src/burnish/training/schedule.py", "src/burnish/training/optimizer.py"
PROBE, SETTINGS = "src/burnish/training/probe.py", "src/burnish/training/settings.py"

MUTATIONS = [
    Mutation(
        "averaging per micro-batch",
        LOOP,
        "loss = loss + term.weight * result.total / counts[term.name]",
        "loss = loss + term.weight * result.total / max(result.units, 1.0)",
        TESTS + "test_loop.py::test_the_gradient_does_not_depend_on_the_cut",
    ),
    Mutation(
        "a declared count that nobody checks",
        LOOP,
        "if not math.isclose(used, counts[term.name], rel_tol=1e-5, abs_tol=1e-6):",
        "if False:",
        TESTS + "test_loop.py::test_a_count_that_differs_from_what_was_used_is_an_error",
    ),
    Mutation(
        "a non-finite loss takes a step",
        LOOP,
        "if not torch.isfinite(loss):",
        "if False:",
        TESTS + "test_loop.py::test_a_non_finite_loss_stops_before_the_step_and_names_the_rows",
    ),
    Mutation(
        "a window without a supervised token trains silently",
        LOOP,
        "if not any(counts[term.name] for term in self.terms if term.weight):",
        "if False:",
        TESTS + "test_loop.py::test_a_window_without_a_supervised_token_leaves_the_weights_alone",
    ),
    Mutation(
        "resume loses the optimizer",
        LOOP,
        "        self.optimizer.restore(found.optimizer)\n",
        "",
        TESTS + "test_loop.py::test_a_resumed_run_ends_bit_equal",
    ),
    Mutation(
        "resume repeats an update",
        LOOP,
        "        return found.step\n",
        "        return max(0, found.step - 1)\n",
        TESTS + "test_loop.py::test_a_resumed_run_ends_bit_equal",
    ),
    Mutation(
        "the old checkpoint is deleted before the new one is whole",
        CHECKPOINT,
        "    shutil.rmtree(fresh, ignore_errors=True)\n    try:",
        "    shutil.rmtree(fresh, ignore_errors=True)\n    shutil.rmtree(place, ignore_errors=True)\n    try:",
        TESTS + "test_checkpoint.py::test_a_full_disk_keeps_the_old_one",
    ),
    Mutation(
        "a changed checkpoint is loaded",
        CHECKPOINT,
        "        if _digest(place / name) != digest:",
        "        if False:",
        TESTS + "test_checkpoint.py::test_a_flipped_byte_is_seen",
    ),
    Mutation(
        "advantages are not centred",
        GRPO,
        "[[r - sum(rewards_G) / len(rewards_G) for r in rewards_G] for rewards_G in rewards_NG]",
        "[[r for r in rewards_G] for rewards_G in rewards_NG]",
        TESTS + "test_grpo.py::test_by_hand",
    ),
    Mutation(
        "noise among equal rewards becomes loud",
        GRPO,
        "if spread < SMALLEST_SPREAD else",
        "if spread == 0 else",
        TESTS + "test_grpo.py::test_equal_rewards_carry_nothing",
    ),
    Mutation(
        "every group's advantages are blown up to full size, whatever the scale",
        GRPO,
        'together if scale == "batch" else _deviation(group)',
        "_deviation(group)",
        TESTS + "test_grpo.py::test_over_the_batch_a_group_without_preference_weighs_little",
    ),
    Mutation(
        "the last checkpoint is kept instead of the best",
        ROLLOUTS,
        'if dev["dev_reward"] > self.state.get("best", {}).get("dev_reward", -math.inf):',
        "if True:",
        TESTS + "test_rollouts.py::test_the_best_policy_on_dev_is_remembered",
    ),
    Mutation(
        "a NaN budget passes",
        ROLLOUTS,
        "if not kl <= self.kl:",
        "if kl > self.kl:",
        TESTS + "test_rollouts.py::test_budgets_stop",
    ),
    Mutation(
        "a mismatch of sampler and trainer goes unseen",
        ROLLOUTS,
        "if tokens >= MISMATCH_TOKENS and not mean <= MISMATCH_LIMIT:",
        "if False:",
        TESTS + "test_rollouts.py::test_sampler_and_trainer_agree_and_a_difference_stops",
    ),
    Mutation(
        "a killed rollout is another one when replayed",
        ROLLOUTS,
        'seed = derive_seed(self.seed, "rollout", str(rollout))',
        'seed = derive_seed(self.seed, "rollout", str(id(self._groups)))',
        TESTS + "test_rollouts.py::test_a_rollout_is_replayed_whole",
    ),
    Mutation(
        "a reward that is not finite counts as a reward",
        ROLLOUTS,
        "if not all(map(math.isfinite, all_rewards)):",
        "if False:",
        TESTS + "test_rollouts.py::test_a_reward_that_is_not_finite_stops",
    ),
    Mutation(
        "a warm-up longer than the run never reaches its rate, and nothing says so",
        SCHEDULE,
        "if warmup and warmup >= updates:",
        "if False:",
        TESTS + "test_schedule.py::test_a_warm_up_longer_than_the_run_is_refused_with_both_numbers",
    ),
    Mutation(
        "a schedule that is named and not used",
        SCHEDULE,
        "return SHAPES[schedule](",
        'return SHAPES["linear"](',
        TESTS + "test_schedule.py::test_rates_by_hand",
    ),
    Mutation(
        "layer-wise rates are set and not used",
        OPTIMIZER,
        'group["lr"] = rate * group["factor"]',
        'group["lr"] = rate',
        TESTS + "test_optimizer.py::test_the_first_step_is_the_rate_times_the_factor",
    ),
    Mutation(
        "a frozen parameter trains",
        OPTIMIZER,
        "parameter.requires_grad_(names is None or name in names)",
        "parameter.requires_grad_(True)",
        TESTS + "test_loop.py::test_what_is_not_yet_unfrozen_stays_with_its_state",
    ),
    Mutation(
        "a resumed run looks for its learning rate again",
        PROBE,
        "    if path.exists():",
        "    if False:",
        TESTS + "test_probe.py::test_a_resumed_run_keeps_what_was_found",
    ),
    Mutation(
        "the probe of the learning rate trains the run's parameters",
        PROBE,
        "                    parameter.copy_(before[name])",
        "                    pass",
        TESTS + "test_probe.py::test_it_finds_a_rate_and_leaves_the_parameters_alone",
    ),
    Mutation(
        "a rate at which training is not finite is taken for one that was not tried",
        PROBE,
        "            after.append((rate, None))",
        "            after.append((rate, start - 9.0))",
        TESTS + "test_probe.py::test_it_finds_a_rate_and_leaves_the_parameters_alone",
    ),
    Mutation(
        "a short run pays for a probe",
        SETTINGS,
        "    if each < PROBE_LEAST:",
        "    if each < 0:",
        TESTS + "test_probe.py::test_short_runs_and_given_rates_have_none_and_say_why",
    ),
]
