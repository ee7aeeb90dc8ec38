"""Bugs of the check before a run, and of the search for settings, that a test must see."""

from __future__ import annotations

from mutations.case import Mutation

PREFLIGHT, CLEAN = "src/burnish/pipeline/preflight.py", "src/burnish/data/clean.py"
POSSIBLE, REFUSALS = "src/burnish/evaluation/possible.py", "src/burnish/pipeline/refusals.py"
TUNE, TESTS = "src/burnish/pipeline/tune.py", "tests/pipeline/"

MUTATIONS = [
    Mutation(
        "whether a gain holds over seeds is asked of the loss where the recipe has a metric of its own",
        "src/burnish/pipeline/repeat.py",
        "next((metric for metric in telling if metric in measured), None)",
        "next((metric for metric in reversed(telling) if metric in measured), None)",
        TESTS + "test_circle.py::test_the_gain_is_that_of_the_most_telling_metric",
    ),
    Mutation(
        "slower layers run without a word",
        REFUSALS,
        "(adapting.fallback(recipe, module), kernel.absence())",
        "(kernel.absence(),)",
        TESTS + "test_preflight.py::test_layers_that_run_slowly_are_named_once_before_anything_is_spent",
    ),
    Mutation(
        "a judge of the reward is looked for when reinforcement learning begins",
        "src/burnish/pipeline/judging.py",
        'any(part.kind == "judge" for part in recipe.rl.paid)',
        "False",
        TESTS + "test_rewards.py::test_nothing_is_spent_before_it_is_known_where_a_server_is",
    ),
    Mutation(
        "a server that draws is looked for when reinforcement learning begins",
        REFUSALS,
        "        Served.of_host(project.folder)\n",
        "        pass\n",
        TESTS + "test_rewards.py::test_nothing_is_spent_before_it_is_known_where_a_server_is",
    ),
    Mutation(
        "layers that a dense reward cannot have are found when it begins",
        "src/burnish/training/adapting.py",
        'in (("reward", recipe.reward), ("spans", recipe.spans)):',
        'in (("reward", recipe.reward),):',
        TESTS + "test_spans.py::test_a_recipe_that_cannot_mean_anything",
    ),
    Mutation(
        "the least memory is that of float32",
        "src/burnish/pipeline/price.py",
        "BYTES[host.dtype()]",
        "4",
        TESTS + "test_price.py::test_the_least_memory_is_that_of_the_dtype",
    ),
    Mutation(
        "a run trains before it says what cannot work",
        "src/burnish/pipeline/turn.py",
        "    require_possible(project, {name: store.datasets.rows(dataset.id, name) for name in learned})\n",
        "",
        TESTS + "test_preflight.py::test_a_run_refuses_before_it_spends_what_the_check_refuses",
    ),
    Mutation(
        "the check does not look at the base's layers",
        REFUSALS,
        "    adapting.require_adaptable(recipe, project.resolved_base, module, files)\n",
        "",
        TESTS + "test_preflight.py::test_what_does_not_fit_the_layers_is_refused_without_an_update",
    ),
    Mutation(
        "the check shows the prompt as trained and the answer as not",
        PREFLIGHT,
        "pieces += [(renderer.marked(ids), trained) for ids, trained in runs]",
        "pieces += [(renderer.marked(ids), not trained) for ids, trained in runs]",
        TESTS + "test_preflight.py::test_the_audit_shows_what_is_trained_of_an_example",
    ),
    Mutation(
        "a stop token that is not trained goes unsaid",
        PREFLIGHT,
        "[row.number for row in answered if not row.stop]",
        "[row.number for row in answered if not row.trained]",
        TESTS + "test_preflight.py::test_a_stop_token_that_is_not_trained_is_named",
    ),
    Mutation(
        "duplicates across splits go unsaid",
        PREFLIGHT,
        'across = [d for d in examples.dropped if "nearly repeats" in d.reason]',
        "across = []",
        TESTS + "test_preflight.py::test_rows_read_and_left_out_with_their_numbers",
    ),
    Mutation(
        "the template's round trip is not looked at",
        PREFLIGHT,
        "same = sum(row.odd is None for row in answered)",
        "same = len(answered)",
        TESTS + "test_preflight.py::test_the_template_that_renders_otherwise_is_told",
    ),
    Mutation(
        "only equal prompts can contradict each other",
        CLEAN,
        "return len(first & second) > NEAR * max(len(first), len(second))",
        "return first == second",
        "tests/data/test_clean.py::test_contradictions_are_near_prompts_with_answers_that_share_little",
    ),
    Mutation(
        "text of a row steers the terminal of who checks it",
        PREFLIGHT,
        'return "".join(c if c.isprintable() or c == "\\n" else f"\\\\x{ord(c):02x}" for c in text)',
        "return text",
        TESTS + "test_preflight.py::test_text_of_a_row_does_not_steer_the_terminal",
    ),
    Mutation(
        "a gate on too few prompts is thought possible",
        POSSIBLE,
        "    if clusters < LEAST_CLUSTERS:",
        "    if False:",
        "tests/evaluation/test_possible.py::test_never",
    ),
    Mutation(
        "tune chooses settings on the test split",
        TUNE,
        'for row in store.datasets.rows(dataset.id, "dev") if',
        'for row in store.datasets.rows(dataset.id, "test") if',
        TESTS + "test_tune.py::test_the_test_split_is_sealed",
    ),
    Mutation(
        "a sealed split is read all the same",
        "src/burnish/store/datasets.py",
        "        if split in self._sealed:",
        "        if False:",
        TESTS + "test_tune.py::test_the_test_split_is_sealed",
    ),
    Mutation(
        "every trial of a search goes to its end",
        TUNE,
        "return loss <= reached[max(0, len(reached) // FACTOR - 1)]",
        "return True",
        TESTS + "test_tune.py::test_one_third_goes_on",
    ),
    Mutation(
        "a search forgets what it found before it was interrupted",
        TUNE,
        "self.trials = [Trial.from_json(line) for line in RunLog.read(self.log.path.parent)]",
        "self.trials = []",
        TESTS + "test_tune.py::test_it_goes_on_after_an_interruption",
    ),
    Mutation(
        "a search takes longer than its budget",
        TUNE,
        "            if time.monotonic() >= until:",
        "            if False:",
        TESTS + "test_tune.py::test_the_budget_holds_over_calls",
    ),
    Mutation(
        "a loss that is not finite wins a search",
        TUNE,
        "        if not math.isfinite(loss):",
        "        if False:",
        TESTS + "test_tune.py::test_a_trial_that_is_not_finite_is_out",
    ),
]
