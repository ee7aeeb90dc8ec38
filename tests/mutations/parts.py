"""Bugs of own parts that a test must see: code from where it must not come, and a contract that passes everything."""

from __future__ import annotations

from mutations.case import Mutation

FINDER, LOAD, CONTRACT = (f"src/burnish/parts/{name}.py" for name in ("finder", "load", "contract"))
TERMS, OWN = (f"src/burnish/objectives/{name}.py" for name in ("contract", "own"))
BROKEN = "tests/objectives/test_contract.py::test_a_broken_loss_is_told_which_contract"
TESTS = "tests/parts/"
SCORES, CREDITS = (f"{TESTS}test_contract.py::test_a_{what}_that_breaks_it" for what in ("score", "credit"))

MUTATIONS = [
    Mutation(
        "a link leads a part out of the recipe's folder",
        FINDER,
        "if path.is_file() and path.resolve().is_relative_to(folder):",
        "if path.is_file():",
        TESTS + "test_load.py::test_what_is_no_part",
    ),
    Mutation(
        "a part comes from a module of no package",
        LOAD,
        "        if distribution is None:\n            raise _nowhere(name, top, folder)\n",
        "        distribution = distribution or 'burnish'\n",
        TESTS + "test_load.py::test_what_is_no_part",
    ),
    Mutation(
        "the standard library is called as a part",
        LOAD,
        "    if top in RESERVED:",
        "    if False:",
        TESTS + "test_load.py::test_what_is_no_part",
    ),
    Mutation(
        "a file of the recipe's folder stands in for the standard library",
        FINDER,
        "return top not in RESERVED and in_folder",
        "return in_folder",
        TESTS + "test_load.py::test_a_file_that_is_named_like_the_standard_library_does_not_stand_in_for_it",
    ),
    Mutation(
        "a helper's change leaves the hash alone",
        LOAD,
        "{', '.join(names)} {_digest(read.values())}",
        "{', '.join(names)} {_digest([list(read.values())[0]])}",
        TESTS + "test_load.py::test_a_change_of_any_file_that_was_read_is_another_source",
    ),
    Mutation(
        "what is hashed is not what runs",
        FINDER,
        "    def get_code(self, fullname: str) -> CodeType:\n        data = self.get_data(self.path)",
        "    def get_code(self, fullname: str) -> CodeType:\n        data = self.get_data(self.path)\n"
        "        self.read[Path(self.path)] = hashlib.sha256(data).hexdigest()\n"
        "        return super().get_code(fullname)",
        TESTS + "test_load.py::test_stale_bytecode_is_not_run",
    ),
    Mutation(
        "what one project loads can be imported by all",
        FINDER,
        "    finally:\n        taken()\n",
        "    finally:\n",
        TESTS + "test_load.py::test_from_beside_the_recipe",
    ),
    Mutation(
        "a loaded module of that name stands in for the part",
        FINDER,
        "    before = taken()\n",
        "    before: dict[str, ModuleType] = {}\n",
        TESTS + "test_load.py::test_a_module_of_that_name_that_is_loaded_already_stays",
    ),
    Mutation(
        "a reward that raises counts as 0",
        LOAD,
        'raise _users_mistake(error, self.name, f"raised',
        'return 0.0\n            raise _users_mistake(error, self.name, f"raised',
        SCORES,
    ),
    Mutation(
        "a number that is none passes",
        CONTRACT,
        "if isinstance(value, numbers.Real) and math.isfinite(value):",
        "if isinstance(value, numbers.Real):",
        SCORES,
    ),
    Mutation(
        "a random reward passes its contract",
        CONTRACT,
        "        if a != b:\n",
        "        if False:\n",
        SCORES,
    ),
    Mutation(
        "a credit whose order matters passes its contract",
        CONTRACT,
        "        if not all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)",
        "        if False and not all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)",
        CREDITS,
    ),
    Mutation(
        "a credit with the wrong sign passes its contract",
        CONTRACT,
        "if better >= r and b < a - CLOSE:",
        "if False:",
        CREDITS,
    ),
    Mutation(
        "a credit of another shape passes its contract",
        CONTRACT,
        "    if shapes[0] != shapes[1]:",
        "    if False:",
        CREDITS,
    ),
    Mutation(
        "a credit that is not finite passes its contract",
        CONTRACT,
        "    if not all(math.isfinite(a) for group in values for a in group):",
        "    if False:",
        CREDITS,
    ),
    Mutation(
        "a credit that remembers passes its contract",
        CONTRACT,
        "    if _advantages(name, credit, ROLLOUT) != found:",
        "    if False:",
        CREDITS,
    ),
    Mutation(
        "a changed part does not run its stage again",
        LOAD,
        '    return {"parts": found} if found else {}',
        '    return {"parts": sorted(found)} if found else {}',
        TESTS + "test_load.py::test_the_parts_of_a_recipe",
    ),
    Mutation(
        "a loss without its true gradient passes its contract",
        TERMS,
        "if not math.isclose(wanted, said, rel_tol=close, abs_tol=close):",
        "if False:",
        BROKEN,
    ),
    Mutation(
        "fp32 stands in for fp64, and its bound for the tight one",
        TERMS,
        "    return len(totals) > 2\n",
        "    return True\n",
        "tests/objectives/test_contract.py::test_a_good_loss_keeps_every_contract",
    ),
    Mutation(
        "a loss that averages passes its contract",
        TERMS,
        "same = math.isclose(cut.total, whole.total, rel_tol=1e-4, abs_tol=1e-5)",
        "same, cut = True, whole",
        BROKEN,
    ),
    Mutation(
        "a loss that reads tokens without weight passes its contract",
        TERMS,
        "found = Trial(term, trees, masked=True).run(at)",
        "found = wanted",
        "tests/objectives/test_contract.py::test_the_mask_is_tried_where_nothing_else_would_see_it",
    ),
    Mutation(
        "a mask by multiplication passes its contract",
        TERMS,
        "at[: len(hidden)][torch.tensor(hidden)] = math.nan",
        "at[: len(hidden)][torch.tensor(hidden)] = -7.0",
        BROKEN,
    ),
    Mutation(
        "a random loss passes its contract",
        TERMS,
        "if first.total != again.total or not torch.equal(first.gradient, again.gradient):",
        "if False:",
        BROKEN,
    ),
    Mutation(
        "a loss that is not finite at the first update passes its contract",
        TERMS,
        'for place, at in (("", somewhere), (" where the policy is the reference", start)):',
        'for place, at in (("", somewhere),):',
        BROKEN,
    ),
    Mutation(
        "a count that is not what was used passes its contract",
        TERMS,
        "if not math.isclose(found.units, count, rel_tol=1e-5, abs_tol=1e-6):",
        "if False:",
        "tests/objectives/test_contract.py::test_a_count_that_is_not_what_was_used_is_told",
    ),
    Mutation(
        "an own loss of another shape is spread over the pairs",
        OWN,
        "if not isinstance(found, Tensor) or tuple(found.shape) != (wanted,):",
        "if not isinstance(found, Tensor):",
        "tests/objectives/test_own.py::test_a_loss_that_breaks_a_contract",
    ),
    Mutation(
        "an own loss of a lost pair is that of a won one",
        OWN,
        "(logps.swapped(), votes_P * (1 - share_P))",
        "(logps, votes_P * (1 - share_P))",
        "tests/objectives/test_own.py::test_what_the_function_sees",
    ),
    Mutation(
        "an own loss counts tokens without weight",
        OWN,
        "sides(torch.ones_like(weights_S))",
        "sides(torch.ones_like(weights_S) * 2)",
        "tests/objectives/test_own.py::test_what_the_function_sees",
    ),
    Mutation(
        "an own loss of tokens ignores their weights",
        OWN,
        "return TermResult((weights * losses).sum(), {}, float(weights.sum()))",
        "return TermResult(losses.sum(), {}, float(weights.sum()))",
        "tests/objectives/test_own.py::test_a_loss_of_tokens_by_hand",
    ),
    Mutation(
        "sft minimises the likelihood beside an own loss",
        "src/burnish/training/teaching.py",
        "likelihood_term(0.0))",
        "likelihood_term(1.0))",
        "tests/pipeline/test_parts.py::test_an_own_loss_of_tokens_is_what_sft_minimises",
    ),
    Mutation(
        "a loss that breaks its contract trains",
        "src/burnish/training/preference.py",
        "            own_contract(own, values)\n",
        "            pass\n",
        "tests/pipeline/test_parts.py::test_an_own_loss_trains_and_a_change_of_it_trains_again",
    ),
]
