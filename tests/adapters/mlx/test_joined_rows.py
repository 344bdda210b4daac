"""Several sequences' caches in one decode step: joined, attended to apart or side by side, and taken apart again."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, KVCache, RotatingKVCache

from semantic.adapters.mlx.attention_seam import AttentionNotServedError, handed_out
from semantic.adapters.mlx.joined_rows import JoinedRows, JoinedState, state_shapes
from semantic.adapters.mlx.padded_layer import PaddedLayer
from semantic.adapters.mlx.stacked_layer import RowMasks, StackedLayer

pytestmark = pytest.mark.mlx


def keys(tokens: int, rows: int = 1, value: float = 1.0) -> mx.array:
    return mx.full((rows, 2, tokens, 4), value)


def filled(tokens: int, window: int | None = None) -> Any:
    cache = KVCache() if window is None else RotatingKVCache(window)
    cache.update_and_fetch(keys(tokens), keys(tokens))
    return cache


def state(*arrays: mx.array | None) -> ArraysCache:
    made = ArraysCache(len(arrays))
    made.cache = list(arrays)
    return made


# -- states --------------------------------------------------------------------------------------------


def test_states_are_one_upon_the_other_and_each_sequence_gets_its_own_back() -> None:
    rows = [state(mx.full((1, 3), number)) for number in (1.0, 2.0)]
    joined = JoinedState(rows)
    assert joined[0].tolist() == [[1.0] * 3, [2.0] * 3]
    joined[0] = joined[0] * 10
    joined.part()
    assert [row[0].tolist() for row in rows] == [[[10.0] * 3], [[20.0] * 3]]


def test_a_state_that_is_not_there_yet_is_not_a_state_of_zeros() -> None:
    assert state_shapes([state(None)]) != state_shapes([state(mx.zeros((1, 3)))])
    assert state_shapes([state(None), filled(2)]) == state_shapes([state(None)])
    with pytest.raises(AttentionNotServedError, match="differ in shape"):
        JoinedState([state(None), state(mx.zeros((1, 3)))])
    assert JoinedState([state(None), state(None)])[0] is None


def test_a_layer_with_several_caches_is_joined_one_by_one() -> None:
    rows = [[CacheList(state(mx.ones((1, 3))), filled(tokens)), None] for tokens in (2, 5)]
    joined = JoinedRows(rows, StackedLayer)
    assert isinstance(joined.layers[0][0], JoinedState)
    assert joined.layers[0][1].offset.tolist() == [2, 5]
    assert joined.layers[1] is None


# -- rows that attend apart ----------------------------------------------------------------------------


def attention(queries: mx.array, fetched: mx.array, values: mx.array, *, cache: Any, **how: Any) -> mx.array:
    return mx.full((1, 1), fetched.shape[2])


def test_each_row_attends_to_its_own_cache_and_its_own_mask() -> None:
    layer = StackedLayer([filled(3, window=8), filled(12, window=16)])
    masks = layer.make_mask(1, window_size=8)
    assert isinstance(masks, RowMasks)
    assert masks.masks[0] is None
    assert masks.masks[1].sum().item() == 8  # type: ignore[union-attr]
    fetched = layer.update_and_fetch(keys(1, rows=2), keys(1, rows=2))
    seen = layer.attend(mx.zeros((2, 2, 1, 4)), *fetched, attention, mask=masks, scale=1.0)
    assert seen.tolist() == [[4.0], [13.0]]
    assert layer.offset.tolist() == [4, 13]
    layer.part()


def test_keys_are_found_again_by_whoever_passes_them_on_until_the_step_ends() -> None:
    layer = StackedLayer([filled(3), filled(5)])
    fetched, _ = layer.update_and_fetch(keys(1, rows=2), keys(1, rows=2))
    assert handed_out.owner(fetched) is layer
    assert layer.keys_and_values()[0] is fetched
    assert handed_out.owner(keys(1)) is None
    layer.drop()
    assert handed_out.owner(fetched) is None


def test_what_was_fetched_and_not_attended_to_is_noticed_when_the_step_ends() -> None:
    layer = StackedLayer([filled(3), filled(5)])
    layer.update_and_fetch(keys(1, rows=2), keys(1, rows=2))
    with pytest.raises(AttentionNotServedError, match="without attending to it"):
        layer.part()


def test_masks_and_keys_that_a_model_has_changed_are_refused() -> None:
    layer = StackedLayer([filled(3), filled(5)])
    fetched = layer.update_and_fetch(keys(1, rows=2), keys(1, rows=2))
    with pytest.raises(AttentionNotServedError, match="masks of its own"):
        layer.attend(mx.zeros((2, 2, 1, 4)), *fetched, attention, mask=mx.ones((1, 1)), scale=1.0)
    with pytest.raises(AttentionNotServedError, match="changes keys or values"):
        layer.attend(mx.zeros((2, 2, 1, 4)), fetched[0] * 2, fetched[1], attention, mask=None, scale=1.0)
    with pytest.raises(AttentionNotServedError, match="one token per row"):
        layer.make_mask(2)


# -- rows side by side ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "shape"), [(4, (2, 1, 1, 6)), (5, (2, 1, 1, 1, 6))])
def test_shorter_rows_are_filled_up_on_the_left_and_masked_there(axes: int, shape: tuple[int, ...]) -> None:
    layer = PaddedLayer([filled(2), filled(5)], mask_axes=axes)
    mask = layer.make_mask(1)
    assert mask is not None
    assert mask.shape == shape
    np.testing.assert_array_equal(np.array(mask).reshape(2, 6), [[0, 0, 0, 1, 1, 1], [1] * 6])
    fetched, _ = layer.update_and_fetch(keys(1, rows=2), keys(1, rows=2))
    assert fetched.shape == (2, 2, 6, 4)
    np.testing.assert_array_equal(np.array(fetched[:, 0, :, 0]), [[0, 0, 0, 1, 1, 1], [1] * 6])


def test_rows_of_one_length_that_see_everything_need_no_mask() -> None:
    assert PaddedLayer([filled(4), filled(4)]).make_mask(1) is None


def test_a_row_beyond_its_window_sees_its_window() -> None:
    mask = PaddedLayer([filled(2, window=4), filled(9, window=4)]).make_mask(1)
    assert mask is not None
    np.testing.assert_array_equal(np.array(mask).reshape(2, 4), [[0, 1, 1, 1], [1, 1, 1, 1]])


def test_caches_that_hold_something_else_than_rows_are_not_put_side_by_side() -> None:
    with pytest.raises(AttentionNotServedError, match="ChunkedKVCache"):
        PaddedLayer([ChunkedKVCache(8), ChunkedKVCache(8)])
