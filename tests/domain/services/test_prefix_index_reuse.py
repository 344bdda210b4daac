"""Where cached contexts may be taken up: nowhere, at kept states, at chunks. Blocks are of four tokens here."""

import pytest
from indexing import ONE, TWO, block, found, index_of, match

from semantic.domain.services import Match, PrefixIndex
from semantic.domain.value_objects import Reuse

# -- where reuse is allowed ----------------------------------------------------------------------


def test_never_matches_nothing() -> None:
    assert match(index_of(block([1, 2, 3, 4]), reuse=Reuse.NEVER), [1, 2, 3, 4, 5]) == Match()


def test_at_states_only_the_end_of_a_block_with_state_is_matched() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first, has_state=True)
    third = block([9, 9, 9, 9], after=second)
    index = index_of(first, second, third, reuse=Reuse.AT_STATES)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9]) == Match((first, second), 8)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8]) == Match()
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 9, 9]) == Match()


def test_at_states_a_partial_block_with_state_is_matched_beside_a_whole_one_without() -> None:
    tail, whole = block([1, 2, 3], has_state=True), block([1, 2, 3, 4])
    second = block([5, 6], after=whole)
    index = index_of(tail, whole, second, reuse=Reuse.AT_STATES)
    assert match(index, [1, 2, 3, 4, 5, 6, 7]) == Match((tail,), 3)


def test_at_states_partial_blocks_further_on_are_reached_through_whole_ones() -> None:
    early, whole = block([1], has_state=True), block([1, 2, 3, 4])
    late, later = block([5], after=whole, has_state=True), block([5, 6, 7], after=whole, has_state=True)
    index = index_of(early, whole, late, later, reuse=Reuse.AT_STATES)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8]) == Match((whole, later), 7)
    assert match(index, [1, 2, 3, 4, 5, 6, 7]) == Match((whole, late), 5)
    assert match(index, [1, 2, 3, 4, 5]) == Match((early,), 1)


def test_at_states_a_missing_block_ends_the_path() -> None:
    first = block([1, 2, 3, 4], at=ONE, has_state=True)
    second = block([5, 6, 7, 8], after=first, has_state=True)
    index = index_of(first, second, reuse=Reuse.AT_STATES)
    index.evict(ONE)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == Match()


def test_at_chunks_only_multiples_of_the_chunk_are_matched() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    third = block([9, 10, 11, 12], after=second)
    index = index_of(first, second, third, reuse=Reuse.AT_CHUNKS, chunk_tokens=8)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]) == Match((first, second), 8)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == Match((first, second), 8)
    assert match(index, [1, 2, 3, 4, 5, 6, 7, 8]) == Match()


def test_at_chunks_the_chunk_is_a_block_unless_it_is_named() -> None:
    first = block([1, 2, 3, 4])
    index = index_of(first, block([5, 6], after=first), reuse=Reuse.AT_CHUNKS)
    assert match(index, [1, 2, 3, 4, 5, 6, 7]) == Match((first,), 4)


@pytest.mark.parametrize(
    ("chunk_tokens", "used"), [(3, [(1, 2, 3, 4), (5, 6)]), (6, [(1, 2, 3, 4), (5, 6)]), (5, [(1, 2, 3, 4), (5,)])]
)
def test_at_chunks_a_chunk_that_is_no_whole_blocks_takes_the_head_of_the_last(
    chunk_tokens: int, used: list[tuple[int, ...]]
) -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    index = index_of(first, second, reuse=Reuse.AT_CHUNKS, chunk_tokens=chunk_tokens)
    assert found(index, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == used


# -- state ---------------------------------------------------------------------------------------


def test_a_copy_with_state_takes_the_place_of_those_without() -> None:
    index = PrefixIndex(4, Reuse.AT_STATES)
    first = index.add(block([1, 2, 3, 4], at=ONE, stored=True))
    assert index.add(block([1, 2, 3, 4], at=TWO, has_state=True)) is first
    assert (first.has_state, first.block_id, first.stored) == (True, TWO, False)
    assert (index.residents(ONE), index.residents(TWO)) == ((), (first,))


def test_state_noted_for_the_same_memory_leaves_the_block_there() -> None:
    index = PrefixIndex(4, Reuse.AT_STATES)
    first = index.add(block([1, 2, 3, 4], at=ONE))
    index.add(block([1, 2, 3, 4], at=ONE, has_state=True))
    assert (first.has_state, first.block_id, index.residents(ONE)) == (True, ONE, (first,))


def test_a_copy_without_state_is_not_taken_for_one_that_has_it() -> None:
    index = PrefixIndex(4, Reuse.AT_STATES)
    first = index.add(block([1, 2, 3, 4], has_state=True))
    assert index.add(block([1, 2, 3, 4], at=ONE)) is first
    assert (first.has_state, first.block_id, first.stored) == (True, None, True)
    assert index.residents(ONE) == ()
