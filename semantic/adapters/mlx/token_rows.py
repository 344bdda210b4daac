"""Caches of mlx_lm that keep rows for every token: which arrays they are, how sealed ones are named and put back.

Plain keys and values are one array each, ``[1, kv_heads, tokens, head_dim]``. Quantised ones are three: packed codes,
and a scale and a bias for every group.
"""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from semantic.adapters.mlx.mixed_cache import QUANTISED_KINDS
from semantic.domain.value_objects import KVPrecision, LayerSpec

QUANTISED_PARTS = ("codes", "scales", "biases")
_WORD_BITS = 32


def keeps_rows(cache: Any) -> bool:
    """Whether what the cache holds can be cut at any token."""
    return type(cache) in (KVCache, *QUANTISED_KINDS)


def rows_of(cache: Any) -> Iterator[tuple[str, mx.array]]:
    """The cache's arrays by name, room for growth included."""
    for side in ("keys", "values"):
        held = getattr(cache, side)
        if type(cache) is KVCache:
            yield side, held
        else:
            yield from ((f"{side}.{part}", array) for part, array in zip(QUANTISED_PARTS, held, strict=True))


def put_rows(cache: Any, rows: Callable[[str], mx.array], num_tokens: int) -> None:
    """Let an empty cache hold the ``num_tokens`` tokens whose arrays ``rows`` gives by name."""
    for side in ("keys", "values"):
        if type(cache) is KVCache:
            setattr(cache, side, rows(side))
        else:
            setattr(cache, side, tuple(rows(f"{side}.{part}") for part in QUANTISED_PARTS))
    cache.offset = num_tokens


def row_shapes(layer: LayerSpec, precision: KVPrecision) -> Iterator[tuple[str, str, int]]:
    """Name, dtype and width of the arrays that a full-attention layer keeps for each head and token."""
    scale = precision.scale_dtype or precision.dtype
    dims = layer.key_head_dim, layer.value_head_dim
    for side, dim, bits in zip(("keys", "values"), dims, precision.bits_of_sides, strict=True):
        if bits is None:
            yield side, precision.dtype, dim
            continue
        yield f"{side}.codes", "uint32", dim * bits // _WORD_BITS
        yield f"{side}.scales", scale, dim // precision.group_size
        yield f"{side}.biases", scale, dim // precision.group_size
