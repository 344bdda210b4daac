"""Contiguous caches: mlx_lm's own, one list per sequence. Blocks are accounting; MLX holds the memory."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, LayerCache
from semantic.domain.identifiers import BlockId


class ContiguousSequenceCache:
    """One sequence's ``layers``, as ``mlx_lm.models.cache.make_prompt_cache`` made them."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.num_tokens = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that the layers hold, room for growth included."""
        return sum(array.nbytes for _, array in self._arrays())

    def evaluate(self) -> None:
        """Compute what is still lazy, so that nothing hangs on the tokens that led here."""
        mx.eval([array for _, array in self._arrays()])

    def _arrays(self) -> list[tuple[str, mx.array]]:
        states = tree_flatten([layer.state for layer in self.layers])
        return [(name, state) for name, state in states if isinstance(state, mx.array)]


class ContiguousMemory:
    """The open caches of an engine. ``make_layers`` makes one sequence's layer caches."""

    layout = "contiguous"

    def __init__(self, make_layers: Callable[[], list[Any]]) -> None:
        self._make_layers = make_layers
        self._open: set[ContiguousSequenceCache] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of all open caches."""
        return sum(cache.nbytes for cache in self._open)

    def open(self) -> ContiguousSequenceCache:
        """A new, empty cache."""
        cache = ContiguousSequenceCache(self._make_layers())
        self._open.add(cache)
        return cache

    def attach(self, cache: ContiguousSequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Nothing to do: the layers grow by themselves; the pool keeps the books."""

    def close(self, cache: ContiguousSequenceCache) -> None:
        """Drop the cache's arrays."""
        self._open.discard(cache)
        cache.layers, cache.num_tokens = [], 0

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Nothing to do: memory went with the cache."""

    def clear(self) -> None:
        """Close every cache."""
        for cache in list(self._open):
            self.close(cache)

    def layer_caches(self, rows: Sequence[ContiguousSequenceCache], tokens: int) -> list[Any]:
        """One forward's view: a single row is mlx_lm's own caches, several are stacked layer by layer."""
        if len(rows) == 1:
            return rows[0].layers
        return [StackedLayer([row.layers[i] for row in rows]) for i in range(len(rows[0].layers))]

    def commit(self, rows: Sequence[ContiguousSequenceCache], tokens: int) -> None:
        """Record the tokens that a forward appended."""
        for row in rows:
            row.num_tokens += tokens


class StackedLayer(LayerCache):
    """One layer of a decode step of several sequences, each attending to its own mlx_lm cache."""

    def __init__(self, caches: Sequence[Any]) -> None:
        self._caches = caches
        self.offset = mx.array([cache.offset for cache in caches])
        self._new: tuple[mx.array, mx.array] | None = None
        self._fetched: list[tuple[Any, Any]] = []

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append each row to its own cache; what was fetched waits for :meth:`attend`."""
        self._new = keys, values
        self._fetched = [
            cache.update_and_fetch(keys[i : i + 1], values[i : i + 1]) for i, cache in enumerate(self._caches)
        ]
        return keys, values

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> None:
        """A single new token per row sees all that its cache returns."""
        if n != 1 or return_array or window_size is not None:
            raise AttentionNotServedError("stacked caches decode one token per row, without windows")

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """Call the model's own attention once for each row."""
        if self._new is None or keys is not self._new[0] or values is not self._new[1]:
            raise AttentionNotServedError("the model changes keys or values between cache and attention")
        if how.get("mask") is not None:
            raise AttentionNotServedError("stacked caches decode one token per row, without a mask")
        self._new = None
        outputs = [
            original(queries[i : i + 1], *fetched, cache=cache, **how)
            for i, (cache, fetched) in enumerate(zip(self._caches, self._fetched, strict=True))
        ]
        return mx.concatenate(outputs, axis=0)
