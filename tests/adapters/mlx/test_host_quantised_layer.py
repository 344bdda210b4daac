"""numpy's attention on codes is mlx_lm's, whatever the bits, the groups and the heads."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.base import scaled_dot_product_attention

from semantic.adapters.mlx.attention_seam import AttentionNotServedError
from semantic.adapters.mlx.host_quantised_layer import HostQuantisedLayer
from semantic.adapters.mlx.mixed_cache import make_quantised_cache
from semantic.adapters.mlx.team import Team

pytestmark = pytest.mark.mlx


def drawn(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


BITS = [(8, 8), (8, 4), (4, 4)]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("group", "dim"), [(64, 64), (32, 64), (32, 128)])
@pytest.mark.parametrize(("heads", "kv_heads"), [(9, 3), (4, 4), (8, 1)])
def test_rows_of_different_lengths_attend_as_mlx_lm_does(
    bits: tuple[int, int], group: int, dim: int, heads: int, kv_heads: int
) -> None:
    caches = [make_quantised_cache(group, *bits) for _ in range(3)]
    for seed, (cache, tokens) in enumerate(zip(caches, (1, 37, 300), strict=True)):
        cache.update_and_fetch(drawn(seed, 1, kv_heads, tokens, dim), drawn(9, 1, kv_heads, tokens, dim))
    stock: list[Any] = [make_quantised_cache(group, *bits) for _ in caches]
    for mine, theirs in zip(stock, caches, strict=True):
        mine.state = theirs.state
    new = drawn(4, 3, kv_heads, 1, dim), drawn(5, 3, kv_heads, 1, dim)
    queries = drawn(6, 3, heads, 1, dim)

    team = Team(2)
    layer = HostQuantisedLayer(caches, team)
    ours = layer.attend(queries, *layer.update_and_fetch(*new), scaled_dot_product_attention, scale=0.1, mask=None)
    team.close()

    for i, cache in enumerate(stock):
        fetched = cache.update_and_fetch(*(each[i : i + 1] for each in new))
        expected = scaled_dot_product_attention(queries[i : i + 1] + 0, *fetched, cache=cache, scale=0.1, mask=None)
        assert ours.shape[1:] == expected.shape[1:]
        assert float(mx.abs(ours[i : i + 1] - expected).max()) < 1e-5


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("past", "chunk"), [(0, 5), (37, 219), (256, 300), (300, 1)])
def test_a_chunk_of_one_sequence_attends_as_mlx_lm_does(bits: tuple[int, int], past: int, chunk: int) -> None:
    mine, stock = make_quantised_cache(32, *bits), make_quantised_cache(32, *bits)
    if past:
        held = drawn(1, 1, 3, past, 64), drawn(2, 1, 3, past, 64)
        mine.update_and_fetch(*held)
        stock.update_and_fetch(*held)
    new, queries = (drawn(3, 1, 3, chunk, 64), drawn(4, 1, 3, chunk, 64)), drawn(5, 1, 9, chunk, 64)
    team = Team(2)
    layer = HostQuantisedLayer([mine], team)
    mask = layer.make_mask(chunk)
    assert mask == ("causal" if chunk > 1 else None)
    ours = layer.attend(queries, *layer.update_and_fetch(*new), scaled_dot_product_attention, scale=0.1, mask=mask)
    layer.part()
    team.close()
    fetched = stock.update_and_fetch(*new)
    expected = scaled_dot_product_attention(queries + 0, *fetched, cache=stock, scale=0.1, mask=mask)
    assert float(mx.abs(ours - expected).max()) < 1e-5
    assert mine.offset == stock.offset == past + chunk


def test_masks_that_chunks_on_codes_do_not_honour_are_refused() -> None:
    layer = HostQuantisedLayer([make_quantised_cache(32, 8, 8)], Team(1))
    with pytest.raises(AttentionNotServedError, match="all that is before"):
        layer.make_mask(5, window_size=3)
    fetched = layer.update_and_fetch(drawn(0, 1, 1, 5, 32), drawn(1, 1, 1, 5, 32))
    with pytest.raises(AttentionNotServedError, match="without sinks"):
        layer.attend(drawn(2, 1, 1, 5, 32), *fetched, scaled_dot_product_attention, mask="causal", sinks=1, scale=1.0)
