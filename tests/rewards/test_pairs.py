"""Votes as pairs, and pairs as chains: an answer that was compared twice is run once."""

from __future__ import annotations

import itertools

import pytest

from burnish.objectives import pack, reading
from burnish.rewards.pairs import LONGEST_CHAIN, Pair, Share, chains_of


def pair(a: int, b: int, preference: float, prompt: int = 1, **criteria: Share) -> Pair:
    return Pair(f"{a}-{b}", (prompt,), (a,), (b,), preference, 2, f"prompt {prompt}", criteria)


def sides(pairs: list[Pair]) -> list[list[tuple[int, int, float]]]:
    return [[(p.a_ids[0], p.b_ids[0], p.preference) for p in chain.pairs] for chain in chains_of(pairs)]


RANKED = [pair(11, 12, 1.0), pair(12, 13, 0.25), pair(13, 14, 0.5)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_answers_each_compared_with_the_next_are_one_chain_in_whatever_order_people_voted(order: tuple[int]) -> None:
    forth, back = (
        [(11, 12, 1.0), (12, 13, 0.25), (13, 14, 0.5)],
        [(14, 13, 0.5), (13, 12, 0.75), (12, 11, 0.0)],
    )
    assert sides([RANKED[n] for n in order]) in ([forth], [back])


def test_a_pair_is_turned_where_the_chain_reaches_its_second_answer_first() -> None:
    assert sides([pair(11, 12, 1.0), pair(13, 12, 1.0)]) == [[(11, 12, 1.0), (12, 13, 0.0)]]
    (chain,) = chains_of([pair(11, 12, 1.0), pair(13, 12, 1.0, tone=Share(0.75, 4))])
    assert chain.pairs[1].criteria == {"tone": Share(0.25, 4)} and chain.pairs[1].votes == 2


def test_pairs_that_share_no_answer_stay_apart_in_the_order_of_their_prompts() -> None:
    pairs = [pair(11, 12, 1.0), pair(11, 12, 0.0, prompt=2), pair(13, 14, 0.0)]
    assert sides(pairs) == [[(11, 12, 1.0)], [(13, 14, 0.0)], [(11, 12, 0.0)]]
    assert [chain.cluster for chain in chains_of(pairs)] == ["prompt 1", "prompt 1", "prompt 2"]


@pytest.mark.parametrize(
    "edges",
    [
        [(1, 2), (2, 3), (3, 1)],
        [(1, 2), (1, 3), (1, 4), (1, 5)],
        [(n, n + 1) for n in range(3 * LONGEST_CHAIN)],
        [(1, 2), (1, 2), (3, 4)],
    ],
    ids=["a ring", "a star", "longer than is run at once", "one pair asked twice"],
)
def test_every_pair_is_in_one_chain_and_keeps_its_votes(edges: list[tuple[int, int]]) -> None:
    pairs = [pair(a, b, n / 10) for n, (a, b) in enumerate(edges)]
    chains = chains_of(pairs)
    found = [p for chain in chains for p in chain.pairs]
    straight = sorted((p if (p.id == f"{p.a_ids[0]}-{p.b_ids[0]}") else p.turned() for p in found), key=repr)
    assert [(p.id, round(p.preference, 6)) for p in straight] == [
        (p.id, round(p.preference, 6)) for p in sorted(pairs, key=repr)
    ]
    for chain in chains:
        assert len(chain.pairs) <= LONGEST_CHAIN
        assert all(one.b_ids == two.a_ids for one, two in itertools.pairwise(chain.pairs))


def test_the_tree_of_a_chain_says_of_each_pair_what_was_voted() -> None:
    said = [pair(11, 12, 1.0, tone=Share(0.5, 1)), pair(12, 13, 0.25)]
    (chain,) = chains_of(said)
    tree = chain.tree(row=7)
    assert [answer.ids for answer in tree.answers] == [(11,), (12,), (13,)] and tree.answers[2].row == 7
    stream = pack([tree], 100)[0]
    overall, tone = reading.pairs(stream), reading.pairs(stream, ":tone")
    assert (overall.a_P.tolist(), overall.b_P.tolist()) == ([0, 1], [1, 2])
    assert (overall.preference_P.tolist(), overall.votes_P.tolist()) == ([1.0, 0.25], [2.0, 2.0])
    assert (tone.a_P.tolist(), tone.preference_P.tolist(), tone.votes_P.tolist()) == ([0], [0.5], [1.0])
    assert reading.count_compared([tree]) == 4.0 and reading.count_compared([tree], ":tone") == 1.0
