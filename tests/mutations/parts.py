"""Bugs of own parts that a test must see: code from where it must not come, and a contract that passes everything."""

from __future__ import annotations

from mutations.case import Mutation

FINDER, LOAD, CONTRACT = (f"src/burnish/parts/{name}.py" for name in ("finder", "load", "contract"))
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
]
