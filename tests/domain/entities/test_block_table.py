"""Where the tokens of one sequence lie."""

import pytest

from semantic.domain.entities import BlockTable
from semantic.domain.errors import InvalidSpecError, PositionNotMappedError
from semantic.domain.identifiers import BlockId

A, B, C = BlockId(70), BlockId(30), BlockId(50)


def test_a_new_table_holds_nothing() -> None:
    table = BlockTable(256)
    assert (len(table), table.capacity_tokens, table.block_ids) == (0, 0, ())


def test_positions_follow_the_order_of_the_blocks_not_of_their_ids() -> None:
    table = BlockTable(256)
    table.extend([A, B])
    table.extend([C])
    assert [table.locate(position) for position in (0, 255, 256, 767)] == [(A, 0), (A, 255), (B, 0), (C, 255)]
    assert table.locate(300).block_id == B
    assert table.locate(300).offset == 44
    assert table.capacity_tokens == 768


@pytest.mark.parametrize(("num_tokens", "needed"), [(0, 0), (1, 0), (512, 0), (513, 1), (1024, 2), (1025, 3)])
def test_blocks_needed_are_those_still_missing(num_tokens: int, needed: int) -> None:
    table = BlockTable(256)
    table.extend([A, B])
    assert table.blocks_needed(num_tokens) == needed


@pytest.mark.parametrize("position", [-1, 512])
def test_a_position_without_a_block_is_refused(position: int) -> None:
    table = BlockTable(256)
    table.extend([A, B])
    with pytest.raises(PositionNotMappedError, match=f"position {position} .* 512 tokens"):
        table.locate(position)


def test_clearing_returns_the_blocks_and_empties_the_table() -> None:
    table = BlockTable(256)
    table.extend([A, B])
    assert table.clear() == (A, B)
    assert table.clear() == ()
    assert table.capacity_tokens == 0


def test_a_block_holds_at_least_one_token() -> None:
    with pytest.raises(InvalidSpecError, match="block_tokens"):
        BlockTable(0)
