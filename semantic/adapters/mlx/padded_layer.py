"""Rows that share a forward and its attention: their caches side by side, filled up on the left and masked there.

For models that compute attention by themselves, or with masks made from what they fetched. Every step copies what the
caches hold; nothing is kept between steps, so that joining and leaving costs nothing.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache

from semantic.adapters.mlx.attention_seam import AttentionNotServedError


class PaddedLayer:
    """One layer of a decode step of several sequences, as one rectangular cache.

    ``mask_axes``: 4, or 5 for a model that has an axis more, for the query heads of a key head.
    """

    def __init__(self, caches: Sequence[Any], mask_axes: int = 4) -> None:
        if not all(type(cache) in (KVCache, RotatingKVCache) for cache in caches):
            raise AttentionNotServedError(f"a {type(caches[0]).__name__} can't be put beside others of its kind")
        self._caches, self._mask_axes = caches, mask_axes
        self.offset = mx.array([cache.offset for cache in caches])
        self._new: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append each row to its own cache, and return all of them side by side, ``[batch, kv_heads, n, dim]``."""
        pairs = [cache.update_and_fetch(keys[i : i + 1], values[i : i + 1]) for i, cache in enumerate(self._caches)]
        self.offset = self.offset + keys.shape[2]
        self._new = _side_by_side([pair[0] for pair in pairs]), _side_by_side([pair[1] for pair in pairs])
        return self._new

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """What was fetched last, for a layer that shares it."""
        if self._new is None:
            raise AttentionNotServedError("a layer shares keys that this step has not fetched")
        return self._new

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> mx.array | None:
        """Which of the keys each row's new token sees, ``[batch, 1, 1, keys]``; None where all rows see all."""
        if n != 1:
            raise AttentionNotServedError("padded caches decode one token per row")
        masks = [cache.make_mask(n, return_array=return_array, window_size=window_size) for cache in self._caches]
        lengths = [_length_after(cache) for cache in self._caches]
        if len(set(lengths)) == 1 and all(mask is None for mask in masks):
            return None
        seen = np.zeros((len(masks), max(lengths)), np.bool_)
        for row, mask, length in zip(seen, masks, lengths, strict=True):
            row[-length:] = True if mask is None else np.array(mask).reshape(-1)
        return mx.array(seen.reshape(len(masks), *[1] * (self._mask_axes - 2), max(lengths)))

    def part(self) -> None:
        """The rows' caches have grown already."""
        self.drop()

    def drop(self) -> None:
        """Forget what was fetched."""
        self._new = None


def _side_by_side(rows: Sequence[mx.array]) -> mx.array:
    longest = max(row.shape[2] for row in rows)
    return mx.concatenate([mx.pad(row, [(0, 0), (0, 0), (longest - row.shape[2], 0), (0, 0)]) for row in rows])


def _length_after(cache: Any) -> int:
    """How many keys the cache will return once it has taken another token."""
    after: int = cache.offset + 1
    return min(after, cache.max_size) if type(cache) is RotatingKVCache else after
