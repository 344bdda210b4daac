"""The host memory of a pool: slots, their views, and memory that really goes back."""

import mmap

import numpy as np
import pytest

from semantic.adapters.mlx.page_arena import PageArena
from semantic.domain.errors import MemoryUnavailableError
from semantic.domain.value_objects import LayerSpec, ModelCacheSpec

SPEC = ModelCacheSpec.uniform(num_layers=2, kv_heads=3, head_dim=64, value_head_dim=32, dtype="float32")
"""One block: 2 layers, 3 heads, 256 tokens, 64 + 32 numbers of 4 bytes: 589,824 bytes."""


def written(arena: PageArena, slot: int, value: float) -> None:
    tokens = slice(slot * 256, (slot + 1) * 256)
    for array in (*arena.keys, *arena.values):
        array[:, tokens] = value


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def test_every_layer_has_a_view_of_keys_and_one_of_values() -> None:
    arena = PageArena(SPEC, slots=5)
    assert [array.shape for array in arena.keys] == [(3, 5 * 256, 64)] * 2
    assert [array.shape for array in arena.values] == [(3, 5 * 256, 32)] * 2


def test_views_do_not_overlap() -> None:
    arena = PageArena(SPEC, slots=3)
    arrays = [*arena.keys, *arena.values]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [np.unique(array).tolist() for array in arrays] == [[0.0], [1.0], [2.0], [3.0]]


def test_layers_of_different_shapes_have_their_own() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.full(1, 8, 4), LayerSpec.full(2, 16)], block_tokens=8)
    spec = ModelCacheSpec(layers=spec.layers, block_tokens=8, precision=SPEC.precision)
    arena = PageArena(spec, slots=2)
    assert [array.shape for array in (*arena.keys, *arena.values)] == [(1, 16, 8), (2, 16, 16), (1, 16, 4), (2, 16, 16)]


def test_the_lowest_free_slot_is_taken_first() -> None:
    arena = PageArena(SPEC, slots=4)
    assert [arena.take() for _ in range(3)] == [0, 1, 2]
    arena.give_back(1)
    arena.give_back(0)
    assert [arena.take() for _ in range(3)] == [0, 1, 3]


def test_bytes_count_the_slots_that_are_taken() -> None:
    arena = PageArena(SPEC, slots=4)
    assert (arena.slot_bytes, arena.nbytes) == (589_824, 0)
    slots = [arena.take() for _ in range(3)]
    assert arena.nbytes == 3 * 589_824
    arena.give_back(slots[0])
    assert arena.nbytes == 2 * 589_824


def test_a_slot_that_is_given_back_is_empty_and_its_neighbours_are_not_touched() -> None:
    arena = PageArena(SPEC, slots=3)
    for slot in (arena.take(), arena.take(), arena.take()):
        written(arena, slot, slot + 1.0)
    arena.give_back(1)
    for array in (*arena.keys, *arena.values):
        means = array.reshape(3, 3, 256, -1).mean(axis=(0, 2, 3))
        assert means.tolist() == [1.0, 0.0, 3.0]


def test_a_large_arena_costs_nothing_until_it_is_written_and_nothing_after_it_was_given_back() -> None:
    before = resident_bytes()
    arena = PageArena(SPEC, slots=2_000)  # 1.2 GB of address space
    assert resident_bytes() - before < 10_000_000
    slots = [arena.take() for _ in range(100)]
    for slot in slots:
        written(arena, slot, 1.0)
    assert resident_bytes() - before > 50_000_000
    for slot in slots:
        arena.give_back(slot)
    assert resident_bytes() - before < 10_000_000


def test_small_blocks_that_share_a_memory_page_keep_their_neighbours_contents() -> None:
    spec = ModelCacheSpec.uniform(num_layers=1, kv_heads=2, head_dim=8, block_tokens=16, dtype="float32", group_size=8)
    arena = PageArena(spec, slots=8)
    for _ in range(8):
        arena.take()
    arena.keys[0][:] = 5.0
    arena.give_back(3)
    kept = np.delete(arena.keys[0].reshape(2, 8, 16, 8), 3, axis=1)
    assert kept.min() == 5.0


def test_taking_more_slots_than_there_are_is_our_own_mistake() -> None:
    arena = PageArena(SPEC, slots=1)
    arena.take()
    with pytest.raises(AssertionError, match="1 slots are all taken"):
        arena.take()


def test_memory_that_the_system_refuses_is_a_named_error() -> None:
    with pytest.raises(MemoryUnavailableError, match="589,824,000,000,000,000 bytes"):
        PageArena(SPEC, slots=10**12)
