"""Handing out, sharing and taking back blocks."""

import pytest
from counted_calls import calls_made

from semantic.domain.errors import (
    BlockCountError,
    BlockNotInUseError,
    BudgetTooSmallError,
    InvalidSpecError,
    PoolError,
    PoolExhaustedError,
    PoolIntegrityError,
    UnknownBlockError,
)
from semantic.domain.identifiers import BlockId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import LayerSpec, ModelCacheSpec

SPEC = ModelCacheSpec.uniform(num_layers=1, kv_heads=8, head_dim=256)  # 2,097,152 bytes per block


def counts(pool: BlockPool) -> tuple[int, int, int]:
    """Free, evictable, in use; and the books balance."""
    pool.check_integrity()
    return pool.num_free, pool.num_evictable, pool.num_in_use


def test_a_new_pool_is_all_free() -> None:
    pool = BlockPool(4)
    assert counts(pool) == (4, 0, 0)
    assert (pool.total_blocks, pool.num_available) == (4, 4)


def test_allocated_blocks_are_distinct_and_have_one_holder() -> None:
    pool = BlockPool(4)
    allocation = pool.allocate(3)
    assert len(set(allocation.block_ids)) == 3
    assert allocation.evicted == ()
    assert [pool.holders(block_id) for block_id in allocation.block_ids] == [1, 1, 1]
    assert counts(pool) == (1, 0, 3)


def test_allocating_none_gives_none() -> None:
    pool = BlockPool(1)
    assert pool.allocate(0).block_ids == ()
    pool.allocate(1)
    assert pool.allocate(0).block_ids == ()


def test_exhaustion_says_what_was_asked_and_what_is_there_and_takes_nothing() -> None:
    pool = BlockPool(4)
    pool.allocate(3)
    with pytest.raises(PoolExhaustedError, match="2 blocks were requested, 1 of 4 are available") as caught:
        pool.allocate(2)
    assert (caught.value.requested, caught.value.available, caught.value.total) == (2, 1, 4)
    assert counts(pool) == (1, 0, 3)


def test_a_negative_number_of_blocks_is_refused() -> None:
    with pytest.raises(BlockCountError, match="-1"):
        BlockPool(1).allocate(-1)


@pytest.mark.parametrize("total_blocks", [0, -1, 2**32])
def test_a_pool_of_no_blocks_is_refused(total_blocks: int) -> None:
    with pytest.raises(BlockCountError, match="total_blocks"):
        BlockPool(total_blocks)


# -- release, share ------------------------------------------------------------------------------


def test_a_released_block_is_free_and_the_last_released_is_reused_first() -> None:
    pool = BlockPool(8)
    first, second = pool.allocate(2).block_ids
    released = pool.release([first, second])
    assert (released.freed, released.evictable) == ((first, second), ())
    assert counts(pool) == (8, 0, 0)
    assert pool.allocate(2).block_ids == (second, first)


def test_a_shared_block_is_free_after_its_last_release_only() -> None:
    pool = BlockPool(1)
    (block,) = pool.allocate(1).block_ids
    pool.share([block])
    assert pool.holders(block) == 2
    assert pool.release([block]).freed == ()
    assert pool.release([block]).freed == (block,)
    assert pool.holders(block) == 0


def test_a_block_named_twice_is_shared_twice_and_released_twice() -> None:
    pool = BlockPool(1)
    (block,) = pool.allocate(1).block_ids
    pool.share([block, block])
    assert pool.holders(block) == 3
    assert pool.release([block, block, block]).freed == (block,)


def test_releasing_more_often_than_held_is_refused_and_releases_nothing() -> None:
    pool = BlockPool(2)
    one, other = pool.allocate(2).block_ids
    with pytest.raises(BlockNotInUseError, match="has 1 holders, 2 were to be released"):
        pool.release([other, one, one])
    assert counts(pool) == (0, 0, 2)
    pool.release([one])
    with pytest.raises(BlockNotInUseError):
        pool.release([other, one])
    assert counts(pool) == (1, 0, 1)


def test_a_free_block_cannot_be_shared_kept_or_forgotten() -> None:
    pool = BlockPool(2)
    held, freed = pool.allocate(2).block_ids
    pool.release([freed])
    for verb in (pool.share, pool.keep, pool.forget):
        with pytest.raises(BlockNotInUseError, match=f"block {freed} is free"):
            verb([held, freed])
    assert (pool.holders(held), counts(pool)) == (1, (1, 0, 1))
    assert pool.release([held]).freed == (held,)


@pytest.mark.parametrize("verb", ["share", "release", "keep", "touch", "forget"])
def test_an_id_that_this_pool_never_handed_out_is_unknown_and_changes_nothing(verb: str) -> None:
    pool, other = BlockPool(2), BlockPool(2)
    (mine,), (foreign,) = pool.allocate(1).block_ids, other.allocate(1).block_ids
    for unknown in (foreign, BlockId(mine + 1), BlockId(mine - 1), BlockId(0), BlockId(-1)):
        with pytest.raises(UnknownBlockError, match=f"block {unknown} was never handed out by this pool"):
            getattr(pool, verb)([mine, unknown])
        with pytest.raises(UnknownBlockError):
            pool.holders(unknown)
    assert (pool.holders(mine), counts(pool)) == (1, (1, 0, 1))
    assert pool.release([mine]).freed == (mine,)


# -- keep, forget, evict -------------------------------------------------------------------------


def test_a_kept_block_becomes_evictable_with_its_last_release() -> None:
    pool = BlockPool(2)
    kept, plain = pool.allocate(2).block_ids
    pool.keep([kept])
    pool.keep([kept])
    released = pool.release([plain, kept])
    assert (released.freed, released.evictable) == ((plain,), (kept,))
    assert counts(pool) == (1, 1, 0)
    assert pool.num_available == 2


def test_free_blocks_go_before_evictable_ones_and_the_longest_released_is_evicted_first() -> None:
    pool = BlockPool(4)
    first, second, third, _ = pool.allocate(4).block_ids
    pool.keep([first, second])
    pool.release([third])
    pool.release([second])
    pool.release([first])
    allocation = pool.allocate(2)
    assert allocation.block_ids == (third, second)
    assert allocation.evicted == (second,)
    assert counts(pool) == (0, 1, 3)


def test_an_evicted_block_is_not_kept_for_its_new_holder() -> None:
    pool = BlockPool(1)
    (block,) = pool.allocate(1).block_ids
    pool.keep([block])
    pool.release([block])
    assert pool.allocate(1).evicted == (block,)
    assert pool.release([block]).freed == (block,)


def test_sharing_an_evictable_block_takes_it_into_use_again_and_it_stays_kept() -> None:
    pool = BlockPool(1)
    (block,) = pool.allocate(1).block_ids
    pool.keep([block])
    pool.release([block])
    pool.share([block])
    assert (pool.holders(block), counts(pool)) == (1, (0, 0, 1))
    assert pool.release([block]).evictable == (block,)


def test_a_block_used_again_is_evicted_after_those_released_before() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(2).block_ids
    pool.keep([first, second])
    pool.release([first, second])
    pool.share([first])
    pool.release([first])
    assert pool.allocate(1).evicted == (second,)


def test_a_touched_block_is_evicted_after_those_released_before_and_after_it() -> None:
    pool = BlockPool(3)
    first, second, third = pool.allocate(3).block_ids
    pool.keep([first, second, third])
    pool.release([first, second, third])
    pool.touch([first])
    assert counts(pool) == (0, 3, 0)
    assert pool.allocate(3).evicted == (second, third, first)


def test_of_blocks_touched_together_the_first_named_is_evicted_first() -> None:
    pool = BlockPool(3)
    first, second, third = pool.allocate(3).block_ids
    pool.keep([first, second, third])
    pool.release([first, second, third])
    pool.touch([third, first, third])
    assert pool.allocate(3).evicted == (second, first, third)


def test_touching_a_block_that_is_held_or_free_changes_nothing() -> None:
    pool = BlockPool(3)
    held, freed, evictable = pool.allocate(3).block_ids
    pool.keep([evictable])
    pool.release([evictable, freed])
    pool.touch([held, freed, evictable])
    assert (pool.holders(held), counts(pool)) == (1, (1, 1, 1))
    assert pool.release([held]).freed == (held,)
    assert pool.allocate(3).block_ids == (held, freed, evictable)


def test_exhaustion_evicts_nothing() -> None:
    pool = BlockPool(2)
    kept, _ = pool.allocate(2).block_ids
    pool.keep([kept])
    pool.release([kept])
    with pytest.raises(PoolExhaustedError):
        pool.allocate(2)
    assert counts(pool) == (0, 1, 1)


def test_forgetting_an_evictable_block_frees_it() -> None:
    pool = BlockPool(2)
    block, held = pool.allocate(2).block_ids
    pool.keep([block, held])
    pool.release([block])
    assert pool.forget([block, held, block]) == (block,)
    assert counts(pool) == (1, 0, 1)
    assert pool.release([held]).freed == (held,)


# -- budget, speed, integrity --------------------------------------------------------------------


def test_a_budget_buys_as_many_whole_blocks_as_fit() -> None:
    assert BlockPool.from_budget(3 * 2_097_152, SPEC).total_blocks == 3
    assert BlockPool.from_budget(3 * 2_097_152 - 1, SPEC).total_blocks == 2


def test_a_budget_below_one_block_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(BudgetTooSmallError, match=r"budget of 2,000,000 bytes .* takes 2,097,152") as caught:
        BlockPool.from_budget(2_000_000, SPEC)
    assert isinstance(caught.value, PoolError)
    assert (caught.value.budget_bytes, caught.value.bytes_per_block) == (2_000_000, 2_097_152)


def test_a_model_without_blocks_has_no_pool() -> None:
    with pytest.raises(InvalidSpecError, match="recurrent"):
        BlockPool.from_budget(10**9, ModelCacheSpec(layers=[LayerSpec.recurrent(5_000)]))


def test_a_block_of_a_hundred_thousand_costs_what_one_of_a_hundred_does() -> None:
    calls = []
    for total_blocks in (100, 100_000):
        pool = BlockPool(total_blocks)
        block_ids = pool.allocate(total_blocks).block_ids
        pool.keep(block_ids)
        pool.release(block_ids)
        calls.append(calls_made(lambda pool=pool: pool.allocate(1)))  # type: ignore[misc]
        pool.check_integrity()
        assert (pool.num_evictable, pool.num_in_use) == (total_blocks - 1, 1)
    assert calls[0] == calls[1]


def test_what_is_withheld_is_not_handed_out_and_evicts_what_was_kept_there() -> None:
    pool = BlockPool(4)
    kept = pool.allocate(3).block_ids
    pool.keep(kept)
    pool.release(kept)
    assert pool.withhold(2) == kept[:1]
    pool.check_integrity()
    assert (pool.num_free, pool.num_evictable, pool.num_available) == (0, 2, 2)
    with pytest.raises(PoolExhaustedError):
        pool.allocate(3)
    assert pool.withhold(0) == ()
    assert pool.num_available == 4


def test_what_is_in_use_cannot_be_withheld() -> None:
    pool = BlockPool(4)
    pool.allocate(3)
    with pytest.raises(PoolExhaustedError):
        pool.withhold(2)
    with pytest.raises(BlockCountError, match="the units to withhold must be 0 or more, got -1"):
        pool.withhold(-1)
    assert pool.num_available == 1


@pytest.mark.parametrize("structure", ["_free", "_holders", "_evictable", "_kept", "_num_handed_out"])
def test_a_corrupted_book_is_found(structure: str) -> None:
    pool = BlockPool(4)
    held, evictable, freed = pool.allocate(3).block_ids
    pool.keep([evictable])
    pool.release([evictable, freed])
    pool.check_integrity()
    match structure:
        case "_free":
            pool._free.append(freed)
        case "_holders":
            pool._holders[held] = 0
        case "_evictable":
            pool._evictable[held] = None
        case "_kept":
            pool._kept.add(evictable)
        case "_num_handed_out":
            pool._num_handed_out += 1
    with pytest.raises(PoolIntegrityError):
        pool.check_integrity()


# -- weights -----------------------------------------------------------------------------------------


def test_blocks_take_as_much_room_as_they_weigh() -> None:
    pool = BlockPool(3, block_weight=100)
    light = pool.allocate(4, weight=30).block_ids
    assert (pool.num_in_use, pool.num_available, pool.room(30)) == (4, 1, 6)
    with pytest.raises(PoolExhaustedError):
        pool.allocate(2)
    pool.release(light[:1])
    assert pool.num_available == 2
    pool.check_integrity()


def test_a_heavy_block_takes_the_place_of_as_many_light_ones_as_it_must() -> None:
    pool = BlockPool(1, block_weight=100)
    light = pool.allocate(3, weight=30).block_ids
    pool.keep(light)
    pool.release(light)
    assert pool.allocate(1, weight=50).evicted == light[:2]
    assert (pool.num_evictable, pool.weight_kept) == (1, 80)
    pool.check_integrity()


def test_a_budget_is_kept_to_the_byte_where_blocks_weigh_bytes() -> None:
    spec = ModelCacheSpec.uniform(num_layers=1, kv_heads=1, head_dim=8, group_size=8, block_tokens=4)
    pool = BlockPool.from_budget(2 * spec.bytes_per_block + 7, spec)
    assert pool.total_blocks == 2
    pool.allocate(2)
    assert (pool.room(7), pool.room(8)) == (1, 0)


def test_a_block_without_weight_is_refused() -> None:
    with pytest.raises(BlockCountError, match="weight 0"):
        BlockPool(1).allocate(1, weight=0)
