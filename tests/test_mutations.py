"""Every mutation can be put in, and names a test that exists: `make mutants` is long, and what it needs moves daily."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mutations.run import all_mutations

ROOT = Path(__file__).parents[1]
MUTATIONS = all_mutations()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m.name for m in MUTATIONS])
def test_it_can_be_put_in_and_its_test_exists(mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    file, _, test = mutation.tests.partition("::")
    written = (ROOT / file).read_text()
    name = test.split("[")[0].split("::")[-1]
    assert not name or re.search(rf"def {re.escape(name)}\b", written)


def test_no_two_share_a_name() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert sorted(set(names)) == sorted(names)
