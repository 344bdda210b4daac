"""numpy's attention on codes is mlx_lm's, whatever the bits, the groups and the heads."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.base import scaled_dot_product_attention
from mlx_lm.models.cache import QuantizedKVCache

from semantic.adapters.mlx.host_quantised_layer import HostQuantisedLayer
from semantic.adapters.mlx.team import Team

pytestmark = pytest.mark.mlx


def drawn(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("group", "dim"), [(64, 64), (32, 64), (32, 128)])
@pytest.mark.parametrize(("heads", "kv_heads"), [(9, 3), (4, 4), (8, 1)])
def test_rows_of_different_lengths_attend_as_mlx_lm_does(
    bits: int, group: int, dim: int, heads: int, kv_heads: int
) -> None:
    caches = [QuantizedKVCache(group, bits) for _ in range(3)]
    for seed, (cache, tokens) in enumerate(zip(caches, (1, 37, 300), strict=True)):
        cache.update_and_fetch(drawn(seed, 1, kv_heads, tokens, dim), drawn(9, 1, kv_heads, tokens, dim))
    stock: list[Any] = [QuantizedKVCache(group, bits) for _ in caches]
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
