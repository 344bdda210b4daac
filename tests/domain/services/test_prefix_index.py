"""Finding the longest cached prefix. Blocks are of four tokens here."""

import pytest
from counted_calls import calls_made
from indexing import ONE, OTHER_ROOT, ROOT, THREE, TWO, block, found, index_of, match

from semantic.domain.services import Match, PrefixIndex, prefix_index
from semantic.domain.value_objects import Reuse, common_tokens, pack_tokens

# -- the longest prefix --------------------------------------------------------------------------


def test_an_empty_index_matches_nothing() -> None:
    assert match(PrefixIndex(4), [1, 2, 3, 4, 5]) == Match((), 0)
    assert Match().used_of_last == 0


def test_whole_blocks_are_matched_in_order() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    assert match(index_of(first, second), [1, 2, 3, 4, 5, 6, 7, 8, 9]) == Match((first, second), 8)


def test_a_match_ends_inside_a_block_where_the_prompt_goes_another_way() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    result = match(index_of(first, second), [1, 2, 3, 4, 5, 6, 9, 9, 9])
    assert result == Match((first, second), 6)
    assert result.used_of_last == 2


def test_a_partial_block_is_matched_to_its_end() -> None:
    first = block([1, 2, 3, 4])
    tail = block([5, 6], after=first)
    assert match(index_of(first, tail), [1, 2, 3, 4, 5, 6, 7, 8, 9]) == Match((first, tail), 6)


def test_the_last_prompt_token_is_never_matched() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    index = index_of(first, second)
    assert found(index, [1, 2, 3, 4, 5, 6, 7, 8]) == [(1, 2, 3, 4), (5, 6, 7)]
    assert found(index, [1, 2, 3, 4, 5]) == [(1, 2, 3, 4)]
    assert found(index, [1, 2, 3, 4]) == [(1, 2, 3)]
    assert found(index, [1]) == []


@pytest.mark.parametrize("limit", [0, -1])
def test_nothing_is_matched_where_the_limit_leaves_no_token(limit: int) -> None:
    assert match(index_of(block([1, 2, 3, 4])), [1, 2], limit) == Match()


@pytest.mark.parametrize("reuse", [Reuse.ANYWHERE, Reuse.AT_STATES, Reuse.AT_CHUNKS])
def test_a_limit_beyond_the_prompt_is_the_prompt(reuse: Reuse) -> None:
    tail = block([1, 2], has_state=True)
    index = index_of(tail, reuse=reuse, chunk_tokens=2)
    assert match(index, [1, 2], limit=9) == Match((tail,), 2)


def test_the_block_that_agrees_for_longest_wins_whatever_its_neighbours_in_order() -> None:
    index = index_of(block([1, 2, 3, 9]), block([1, 2, 2, 9]), block([1, 2, 4, 9]), block([1, 3]), block([1]))
    assert found(index, [1, 2, 3, 8, 8]) == [(1, 2, 3)]
    assert found(index, [1, 2, 9, 9, 9]) == [(1, 2)]
    assert found(index, [1, 9, 9, 9, 9]) == [(1,)]
    assert found(index, [9, 9, 9, 9, 9]) == []


def test_tokens_are_compared_as_numbers_of_four_bytes() -> None:
    index = index_of(block([256, 1, 1, 1]), block([65_536, 2, 2, 2]))
    assert found(index, [512, 1, 1, 1, 1]) == []
    assert found(index, [65_536, 2, 1, 1, 1]) == [(65_536, 2)]


def test_another_root_sees_nothing_of_it() -> None:
    index = index_of(block([1, 2, 3, 4]))
    assert match(index, [1, 2, 3, 4, 5], root=OTHER_ROOT) == Match()


# -- which of several ----------------------------------------------------------------------------


def test_of_blocks_that_hold_equally_much_the_resident_one_is_taken() -> None:
    stored, resident = block([1, 2, 8]), block([1, 2, 9, 9], at=ONE)
    assert match(index_of(stored, resident), [1, 2, 3, 4, 5]).blocks == (resident,)
    assert match(index_of(resident, stored), [1, 2, 3, 4, 5]).blocks == (resident,)


def test_a_longer_match_beats_a_resident_one() -> None:
    stored, resident = block([1, 2, 3, 8]), block([1, 2, 9, 9], at=ONE)
    assert match(index_of(stored, resident), [1, 2, 3, 4, 5]) == Match((stored,), 3)


def test_of_two_in_the_same_place_the_one_that_needs_less_cutting_is_taken() -> None:
    short, long = block([1, 2, 8], at=ONE), block([1, 2, 9, 9], at=TWO)
    assert match(index_of(long, short), [1, 2, 3, 4, 5]).blocks == (short,)


# -- where a block is ----------------------------------------------------------------------------


def test_a_block_added_again_is_the_one_that_is_there() -> None:
    index = PrefixIndex(4)
    first = index.add(block([1, 2, 3, 4], at=ONE))
    assert index.add(block([1, 2, 3, 4], stored=True)) is first
    assert (first.block_id, first.stored, len(index)) == (ONE, True, 1)
    assert index.get(first.hash) is first
    assert list(index) == [first]


def test_a_block_that_is_resident_stays_where_it_is() -> None:
    index = PrefixIndex(4)
    first = index.add(block([1, 2, 3, 4], at=ONE))
    index.add(block([1, 2, 3, 4], at=TWO))
    assert first.block_id == ONE
    assert index.residents(TWO) == ()


def test_a_stored_block_becomes_resident_when_the_same_one_is_added_from_memory() -> None:
    index = PrefixIndex(4)
    first = index.add(block([1, 2, 3, 4]))
    index.add(block([1, 2, 3, 4], at=ONE))
    assert (first.block_id, first.stored) == (ONE, True)
    assert index.residents(ONE) == (first,)


def test_an_evicted_block_is_gone_unless_it_is_stored() -> None:
    kept, lost = block([1, 2, 3, 4], at=ONE, stored=True), block([5, 6, 7, 8], at=TWO)
    index = index_of(kept, lost)
    index.evict(ONE)
    index.evict(TWO)
    index.evict(THREE)
    assert (kept.is_resident, lost.is_resident) == (False, False)
    assert list(index) == [kept]
    assert (index.residents(ONE), index.residents(TWO)) == ((), ())


def test_a_block_that_the_store_lost_is_gone_unless_it_is_resident() -> None:
    kept, lost = block([1, 2, 3, 4], at=ONE, stored=True), block([5, 6, 7, 8])
    index = index_of(kept, lost)
    index.unstore(kept)
    index.unstore(lost)
    assert list(index) == [kept]
    index.evict(ONE)
    assert list(index) == []


def test_shorter_versions_share_memory_and_go_with_it() -> None:
    short, long = block([1, 2], at=ONE), block([1, 2, 3, 4], at=ONE)
    index = index_of(short, long)
    assert index.residents(ONE) == (short, long)
    index.evict(ONE)
    assert list(index) == []


def test_removing_says_when_memory_holds_nothing_any_more() -> None:
    short, long, stored = block([1, 2], at=ONE), block([1, 2, 3, 4], at=ONE, stored=True), block([5])
    index = index_of(short, long, stored)
    assert index.remove(long) is False
    assert index.residents(ONE) == (short,)
    assert index.remove(short) is True
    assert index.remove(stored) is False
    assert index.remove(short) is False
    assert (len(index), index.residents(ONE)) == (0, ())


def test_a_block_made_resident_twice_is_there_once() -> None:
    first = block([1, 2, 3, 4], at=ONE)
    index = index_of(first)
    index.make_resident(first, ONE)
    index.add(first)
    assert index.residents(ONE) == (first,)
    assert index.remove(first) is True


def test_a_block_that_moved_is_not_lost_with_its_old_memory() -> None:
    first = block([1, 2, 3, 4], at=ONE)
    index = index_of(first)
    index.make_resident(first, TWO)
    index.evict(ONE)
    assert (first.block_id, index.residents(ONE), index.residents(TWO)) == (TWO, (), (first,))


def test_a_detached_block_is_in_no_memory_and_still_there() -> None:
    short, long = block([1, 2], at=ONE), block([1, 2, 3, 4], at=ONE, stored=True)
    index = index_of(short, long)
    assert index.detach(long) is False
    assert index.detach(long) is False
    assert index.detach(short) is True
    assert (list(index), index.residents(ONE)) == ([short, long], ())
    index.make_resident(long, TWO)
    assert index.residents(TWO) == (long,)


def test_a_block_taken_out_while_it_was_read_stays_out() -> None:
    first = block([1, 2, 3, 4])
    index = index_of(first)
    index.remove(first)
    index.make_resident(first, ONE)
    assert (len(index), first.block_id, index.residents(ONE)) == (0, None, ())


def test_a_block_taken_out_and_made_again_is_known_by_its_name() -> None:
    old = block([1, 2, 3, 4], stored=True)
    index = index_of(old)
    index.unstore(old)
    new = index.add(block([1, 2, 3, 4], at=ONE, stored=True))
    index.unstore(old)
    assert (new.stored, list(index)) == (False, [new])
    assert index.remove(old) is True
    assert (len(index), index.residents(ONE)) == (0, ())


def test_memory_that_holds_one_block_cannot_be_said_to_hold_another() -> None:
    index = index_of(block([1, 2, 3, 4], at=ONE))
    with pytest.raises(AssertionError, match="two different blocks"):
        index.add(block([1, 2, 9], at=ONE))


def test_an_index_that_was_emptied_keeps_nothing() -> None:
    first = block([1, 2, 3, 4], at=ONE)
    second = block([5, 6], after=first)
    index = index_of(first, second)
    index.remove(second)
    index.evict(ONE)
    assert (index._blocks, index._children, index._residents) == ({}, {}, {})


# -- families ------------------------------------------------------------------------------------


def test_orphans_are_not_found_until_their_parent_is_back() -> None:
    first = block([1, 2, 3, 4], at=ONE)
    second = block([5, 6, 7, 8], after=first)
    index = index_of(first, second)
    index.evict(ONE)
    assert (len(index), found(index, [1, 2, 3, 4, 5, 6, 7, 8, 9])) == (1, [])
    index.add(block([1, 2, 3, 4], at=TWO))
    assert found(index, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == [(1, 2, 3, 4), (5, 6, 7, 8)]


def test_a_partial_version_stands_in_for_a_whole_block_that_is_gone() -> None:
    tail, whole = block([1, 2, 3]), block([1, 2, 3, 4], at=ONE)
    second = block([5, 6, 7, 8], after=whole)
    index = index_of(tail, whole, second)
    index.evict(ONE)
    assert found(index, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == [(1, 2, 3)]


def test_descendants_are_all_that_continues_a_block_nearest_first() -> None:
    first = block([1, 2, 3, 4])
    second, other = block([5, 6, 7, 8], after=first), block([9], after=first)
    third, stranger = block([1], after=second), block([1, 2, 3])
    index = index_of(third, second, stranger, first, other)
    assert index.descendants(first) == [second, other, third]
    assert index.descendants(third) == []


def test_descendants_may_be_removed_while_they_are_gone_through() -> None:
    first = block([1, 2, 3, 4])
    second = block([5, 6, 7, 8], after=first)
    third = block([9], after=second)
    index = index_of(first, second, third)
    for each in index.descendants(first):
        index.remove(each)
    assert list(index) == [first]


def test_descendants_of_a_block_that_is_gone_are_found_by_its_name() -> None:
    first = block([1, 2, 3, 4], at=ONE)
    second = block([5], after=first)
    index = index_of(first, second)
    index.evict(ONE)
    assert index.descendants(first) == [second]


def test_a_path_holds_every_block_that_is_a_prefix_partial_ones_first() -> None:
    one, three, whole = block([1]), block([1, 2, 3]), block([1, 2, 3, 4])
    tail, longer, other = block([5, 6], after=whole), block([5, 6, 7], after=whole), block([1, 9])
    index = index_of(whole, longer, other, three, tail, one)
    assert index.path(ROOT, pack_tokens([1, 2, 3, 4, 5, 6])) == [one, three, whole, tail]
    assert index.path(ROOT, pack_tokens([1, 2, 3])) == [one, three]
    assert index.path(OTHER_ROOT, pack_tokens([1, 2, 3])) == []
    assert index.path(ROOT, b"") == []


def test_shorter_versions_are_those_that_a_block_begins_with() -> None:
    one, three, whole = block([1]), block([1, 2, 3]), block([1, 2, 3, 4])
    other, behind = block([1, 9]), block([1, 2], after=whole)
    index = index_of(behind, other, whole, three, one)
    assert index.shorter_versions(whole) == [one, three]
    assert index.shorter_versions(three) == [one]
    assert index.shorter_versions(one) == []


# -- speed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reuse", "num_tokens"), [(Reuse.ANYWHERE, 100_000), (Reuse.AT_STATES, 99_840), (Reuse.AT_CHUNKS, 99_840)]
)
def test_a_prompt_of_a_hundred_thousand_tokens_is_matched_in_a_few_calls_for_each_block(
    reuse: Reuse, num_tokens: int
) -> None:
    index = PrefixIndex(256, reuse)
    last = None
    for start in range(0, 100_096, 256):
        last = index.add(block(list(range(start, start + 256)), after=last, has_state=True))
    prompt, matched = pack_tokens(range(100_001)), []
    calls = calls_made(lambda: matched.append(index.match(ROOT, prompt, 100_000)))
    assert [match.num_tokens for match in matched] == [num_tokens]
    assert calls < 40 * 391


@pytest.mark.parametrize("reuse", [Reuse.ANYWHERE, Reuse.AT_STATES])
@pytest.mark.parametrize("num_common", [1, 60, 255])
def test_of_ten_thousand_contexts_that_begin_alike_a_match_compares_two_token_by_token(
    monkeypatch: pytest.MonkeyPatch, reuse: Reuse, num_common: int
) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> int:
        compared.append(a)
        return common_tokens(a, b)

    monkeypatch.setattr(prefix_index, "common_tokens", compare)
    index = PrefixIndex(256, reuse)
    head = list(range(num_common))
    for token_id in range(10_000):
        index.add(block([*head, *range(token_id, token_id + 256 - num_common)], has_state=True))
    prompt = [*head, *range(999_000, 999_300)]
    matched = index.match(ROOT, pack_tokens(prompt), len(prompt) - 1)
    assert matched.num_tokens == (num_common if reuse is Reuse.ANYWHERE else 0)
    assert len(compared) <= 2
