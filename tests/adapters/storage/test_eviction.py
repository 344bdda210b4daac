"""Least recently used, the end of a chain first, what agents need last."""

from semantic.adapters.storage.eviction import Candidate, choose_victims
from semantic.domain.identifiers import BlockHash


def block(name: str, parent: str, last_used: int, *, referenced: bool = False) -> Candidate:
    return Candidate(BlockHash(name.encode()), BlockHash(parent.encode()), 10, last_used, referenced)


def victims(candidates: list[Candidate], num_bytes: int, *keep: str) -> list[str]:
    kept = [BlockHash(name.encode()) for name in keep]
    return [name.decode() for name in choose_victims(candidates, num_bytes, kept)]


CHAIN = [block("a", "-", 1), block("b", "a", 2), block("c", "b", 3)]
FORK = [*CHAIN, block("x", "a", 9)]


def test_nothing_goes_where_nothing_is_needed() -> None:
    assert victims(CHAIN, 0) == []


def test_as_many_go_as_it_takes() -> None:
    singles = [block(name, "-", age) for age, name in enumerate("abc")]
    assert victims(singles, 1) == ["a"]
    assert victims(singles, 10) == ["a"]
    assert victims(singles, 11) == ["a", "b"]


def test_a_chain_goes_from_its_end() -> None:
    assert victims(CHAIN, 30) == ["c", "b", "a"]


def test_a_block_waits_for_all_of_its_children() -> None:
    assert victims(FORK, 40) == ["c", "b", "x", "a"]


def test_a_parent_that_became_a_leaf_goes_by_its_own_age() -> None:
    assert victims([*CHAIN, block("y", "-", 2)], 40) == ["y", "c", "b", "a"]
    assert victims([*CHAIN, block("y", "-", 4)], 40) == ["c", "b", "a", "y"]


def test_what_agents_refer_to_goes_after_all_others() -> None:
    assert victims([block("a", "-", 1, referenced=True), block("b", "-", 5)], 20) == ["b", "a"]


def test_what_is_to_be_kept_stays_with_its_ancestors() -> None:
    assert victims(FORK, 40, "b") == ["c", "x"]
    assert victims(FORK, 40, "unknown") == ["c", "b", "x", "a"]
