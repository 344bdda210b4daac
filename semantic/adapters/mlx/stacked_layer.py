"""Rows that share a forward and attend apart: each to its own mlx_lm cache, through its own mask."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, LayerCache, handed_out


class RowMasks:
    """Each row's mask, in a form that models can only hand on: what changes it is refused."""

    def __init__(self, masks: Sequence[mx.array | str | None]) -> None:
        self.masks = masks


class StackedLayer(LayerCache):
    """One layer of a decode step of several sequences, each attending to its own mlx_lm cache.

    What the model fetches are the new tokens alone. So all attention has to come through the seam, where every row
    sees its whole cache; a model that looks at what it fetched in any other way is not served.
    """

    def __init__(self, caches: Sequence[Any]) -> None:
        self._caches = caches
        self.offset = mx.array([cache.offset for cache in caches])
        self._new: tuple[mx.array, mx.array] | None = None
        self._fetched: list[tuple[Any, Any]] = []
        self._attended = True

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append each row to its own cache; what was fetched waits for :meth:`attend`."""
        self.drop()
        self._new, self._attended = (keys, values), False
        self._fetched = [
            cache.update_and_fetch(keys[i : i + 1], values[i : i + 1]) for i, cache in enumerate(self._caches)
        ]
        self.offset = self.offset + keys.shape[2]
        handed_out.add(keys, self)
        return keys, values

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """What was fetched last, for a layer that shares it."""
        if self._new is None:
            raise AttentionNotServedError("a layer shares keys that this step has not fetched")
        return self._new

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> RowMasks | None:
        """Each row's own mask for its one new token; None where every row sees all that its cache returns."""
        if n != 1:
            raise AttentionNotServedError("stacked caches decode one token per row")
        masks = [cache.make_mask(n, return_array=return_array, window_size=window_size) for cache in self._caches]
        return None if all(mask is None for mask in masks) else RowMasks(masks)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """Call the model's own attention once for each row."""
        self._require_own(keys, values)
        mask = how.pop("mask", None)
        if not (mask is None or isinstance(mask, RowMasks)):
            raise AttentionNotServedError("the model makes masks of its own for what it fetched")
        self._attended = True
        return self._attend_rows(queries, mask, original, how)

    def _require_own(self, keys: mx.array, values: mx.array) -> None:
        if self._new is None or keys is not self._new[0] or values is not self._new[1]:
            raise AttentionNotServedError("the model changes keys or values between cache and attention")

    def _attend_rows(
        self, queries: mx.array, mask: RowMasks | None, original: Attention, how: dict[str, Any]
    ) -> mx.array:
        outputs = [
            original(queries[i : i + 1], *fetched, cache=cache, mask=mask and mask.masks[i], **how)
            for i, (cache, fetched) in enumerate(zip(self._caches, self._fetched, strict=True))
        ]
        return mx.concatenate(outputs, axis=0)

    def part(self) -> None:
        """The rows' caches have grown already; see that all of them were attended to."""
        self.drop()
        if not self._attended:
            raise AttentionNotServedError("the model uses what a cache returns without attending to it")

    def drop(self) -> None:
        """Forget what was fetched."""
        if self._new is not None:
            handed_out.discard(self._new[0])
        self._new, self._fetched = None, []
