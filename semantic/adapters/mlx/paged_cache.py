"""Paged caches: the pool's blocks are the physical memory.

A sequence is a table of slots in the arena; its last page is written where it stands. Position ``p`` lies in page
``p // block_tokens``, row ``p % block_tokens``; positions ``[0, num_tokens)`` are valid, what lies behind them was
never committed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, LayerCache
from semantic.adapters.mlx.page_arena import PageArena
from semantic.adapters.mlx.paged_attention import Array, PagedAttention, reach
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec


class PagedSequenceCache:
    """One sequence's page table."""

    def __init__(self, arena: PageArena, block_tokens: int) -> None:
        self._arena = arena
        self.block_tokens = block_tokens
        self.table: list[int] = []
        self.num_tokens = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the attached pages, shared ones counted in full."""
        return len(self.table) * self._arena.slot_bytes

    def write(self, keys: Array, values: Array, new_keys: Array, new_values: Array) -> None:
        """Write ``[kv_heads, n, head_dim]`` into one layer's arena, behind the committed tokens."""
        n, done = new_keys.shape[1], 0
        while done < n:
            page, row = divmod(self.num_tokens + done, self.block_tokens)
            take = min(n - done, self.block_tokens - row)
            slot = self.table[page]
            keys[slot, :, row : row + take] = new_keys[:, done : done + take]
            values[slot, :, row : row + take] = new_values[:, done : done + take]
            done += take


class PagedMemory:
    """The pages behind a block pool of ``num_blocks``."""

    layout = "paged"

    def __init__(self, spec: ModelCacheSpec, num_blocks: int, attention: PagedAttention) -> None:
        self.spec = spec
        self._attention = attention
        self._arena = PageArena(spec, num_blocks)
        self._slots: dict[BlockId, int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all pages, an upper bound: rows never written are not backed by memory yet."""
        return self._arena.nbytes

    def open(self) -> PagedSequenceCache:
        """A new, empty page table."""
        return PagedSequenceCache(self._arena, self.spec.block_tokens)

    def attach(self, cache: PagedSequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Append the blocks' pages to the cache's table, taking a slot for those that have none yet."""
        for block_id in block_ids:
            if block_id not in self._slots:
                self._slots[block_id] = self._arena.take()
            cache.table.append(self._slots[block_id])

    def close(self, cache: PagedSequenceCache) -> None:
        """Empty the cache's table. Its pages stay until they are discarded."""
        cache.table.clear()
        cache.num_tokens = 0

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Free the pages of blocks that nobody holds."""
        for block_id in block_ids:
            if block_id in self._slots:
                self._arena.give_back(self._slots.pop(block_id))

    def clear(self) -> None:
        """Free every page and end the attention's threads."""
        self.discard(list(self._slots))
        self._attention.close()

    def layer_caches(self, rows: Sequence[PagedSequenceCache]) -> list[LayerCache]:
        """One forward's view of the caches, for the model to call."""
        return [
            PagedLayer(rows, keys, values, self._attention)
            for keys, values in zip(self._arena.keys, self._arena.values, strict=True)
        ]

    def commit(self, rows: Sequence[PagedSequenceCache], tokens: int) -> None:
        """Make the tokens that a forward wrote part of the sequences."""
        for row in rows:
            row.num_tokens += tokens


class PagedLayer(LayerCache):
    """One layer of one forward: a row for each sequence, each attending to its own pages."""

    def __init__(
        self, rows: Sequence[PagedSequenceCache], keys: Array, values: Array, attention: PagedAttention
    ) -> None:
        self._rows, self._keys, self._values, self._attention = rows, keys, values, attention
        lengths = [row.num_tokens for row in rows]
        self.offset = lengths[0] if len(lengths) == 1 else mx.array(lengths)
        self._new: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep the new tokens until :meth:`attend`, which evaluates them together with the queries."""
        self._new = keys, values
        return keys, values

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> str | None:
        """Causal order is all that pages know; it follows from the positions."""
        if return_array or window_size is not None:
            raise AttentionNotServedError("paged caches compute plain causal attention")
        return "causal" if n > 1 else None

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """Write the new tokens into the pages and attend to all of them, row by row."""
        if self._new is None or keys is not self._new[0] or values is not self._new[1]:
            raise AttentionNotServedError("the model changes keys or values between cache and attention")
        mask, n = how.get("mask"), queries.shape[2]
        if how.get("sinks") is not None or not (mask == "causal" if n > 1 else mask is None):
            raise AttentionNotServedError("paged caches compute plain causal attention, without sinks")
        self._new = None
        mx.eval(queries, keys, values)
        arrays = [np.array(x, copy=False) for x in (queries, keys, values)]
        outputs = [self._attend_row(row, *(x[i] for x in arrays), how["scale"]) for i, row in enumerate(self._rows)]
        return mx.array(np.stack(outputs))

    def _attend_row(self, row: PagedSequenceCache, queries: Array, keys: Array, values: Array, scale: float) -> Array:
        row.write(self._keys, self._values, keys, values)
        if queries.shape[1] > 1:
            return self._attention.prefill(queries, self._keys, self._values, row.table, row.num_tokens, scale)
        seen = reach(row.table, row.num_tokens + 1, row.block_tokens)
        return self._attention.decode(queries[:, 0], self._keys, self._values, seen, scale)[:, None]
