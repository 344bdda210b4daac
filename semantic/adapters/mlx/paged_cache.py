"""Paged caches: the pool's blocks are the physical memory.

A sequence is a table of slots in the arena; its last page is written where it stands. Position ``p`` lies in page
``p // block_tokens``, row ``p % block_tokens``; positions ``[0, num_tokens)`` are valid, what lies behind them was
never committed.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, LayerCache
from semantic.adapters.mlx.host_block import expect as expect_headers
from semantic.adapters.mlx.page_arena import Array, PageArena
from semantic.adapters.mlx.paged_attention import PagedAttention, Reach, reach
from semantic.application.ports.block_store import Place, Tensor, TensorHeader
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

    def next_spans(self, n: int) -> list[tuple[slice, slice]]:
        """Where the next ``n`` tokens go: ranges of the arena's tokens, each with which of the ``n`` go there."""
        spans, done = [], 0
        while done < n:
            page, row = divmod(self.num_tokens + done, self.block_tokens)
            take = min(n - done, self.block_tokens - row)
            start = self.table[page] * self.block_tokens + row
            spans.append((slice(start, start + take), slice(done, done + take)))
            done += take
        return spans


class PagedMemory:
    """The pages behind a block pool of ``num_blocks``."""

    layout = "paged"
    seals_in_place = True

    def __init__(self, spec: ModelCacheSpec, num_blocks: int, attention: PagedAttention) -> None:
        self.spec = spec
        self._attention = attention
        self._arena = PageArena(spec, num_blocks)
        self._slots: dict[BlockId, int] = {}
        self._names = [f"layers.{i}.{kind}" for i in range(spec.num_layers) for kind in ("keys", "values")]

    @property
    def nbytes(self) -> int:
        """Bytes of all pages, an upper bound: rows never written are not backed by memory yet."""
        return self._arena.nbytes

    def expect(self, num_blocks: int) -> None:
        """Have memory found for the pages that so many blocks will be read into."""
        if sys.platform == "linux":
            self._arena.populate(num_blocks)

    def open(self) -> PagedSequenceCache:
        """A new, empty page table."""
        return PagedSequenceCache(self._arena, self.spec.block_tokens)

    def attach(self, cache: PagedSequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Append the blocks' pages to the cache's table, taking a slot for those that have none yet."""
        cache.table.extend(self._slot(block_id) for block_id in block_ids)

    def resume(self, cache: PagedSequenceCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Attach the pages; the first ``num_tokens`` tokens are there already."""
        assert cache.num_tokens == 0, "only an empty cache can resume"
        assert num_tokens <= len(block_ids) * self.spec.block_tokens, (num_tokens, len(block_ids))
        self.attach(cache, block_ids)
        cache.num_tokens = num_tokens

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Copy the first rows of a page to another."""
        old, new = self._slots[source], self._slot(target)
        for there, here in zip(self._arena.rows(new, num_tokens), self._arena.rows(old, num_tokens), strict=True):
            np.copyto(there, here)

    def live_bytes(self, num_tokens: int) -> int:
        """Whole pages."""
        return self.spec.blocks_for_tokens(num_tokens) * self._arena.slot_bytes

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """A page, however full."""
        return self._arena.slot_bytes

    def seal(self, cache: PagedSequenceCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Nothing to do: the page is the block."""

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The page's first rows; a piece for each layer and head."""
        return self._tensors(self._slots[block_id], num_tokens)

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """The page's first rows, to be written."""
        tensors = self._tensors(self._slot(block_id), num_tokens)

        def place(headers: Sequence[TensorHeader]) -> list[Tensor]:
            expect_headers(headers, [tensor.header for tensor in tensors])
            return tensors

        return place

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
        """Free every page."""
        self.discard(list(self._slots))

    def _slot(self, block_id: BlockId) -> int:
        if block_id not in self._slots:
            self._slots[block_id] = self._arena.take()
        return self._slots[block_id]

    def _tensors(self, slot: int, num_tokens: int) -> list[Tensor]:
        rows = self._arena.rows(slot, num_tokens)
        return [
            Tensor(TensorHeader(name, "F32", array.shape), tuple(memoryview(head).cast("B") for head in array))
            for name, array in zip(self._names, rows, strict=True)
        ]

    def layer_caches(self, rows: Sequence[PagedSequenceCache], tokens: int) -> list[LayerCache]:
        """The caches as the model sees them in one forward of ``tokens`` new tokens per row."""
        forward = _Forward(rows, tokens, self._attention)
        return [
            PagedLayer(forward, keys, values) for keys, values in zip(self._arena.keys, self._arena.values, strict=True)
        ]

    def commit(self, rows: Sequence[PagedSequenceCache], tokens: int) -> None:
        """Make the tokens that a forward wrote part of the sequences."""
        for row in rows:
            row.num_tokens += tokens


class _Forward:
    """What all layers of one forward share: the rows, where they stand, and what a decode step of theirs sees."""

    def __init__(self, rows: Sequence[PagedSequenceCache], tokens: int, attention: PagedAttention) -> None:
        self.rows, self.attention, self._tokens = rows, attention, tokens
        lengths = [row.num_tokens for row in rows]
        self.offset = lengths[0] if len(lengths) == 1 else mx.array(lengths)

    @cached_property
    def seen(self) -> list[Reach]:
        """What each row's one new token attends to, itself included."""
        return [reach(row.table, row.num_tokens + 1, row.block_tokens) for row in self.rows]

    @cached_property
    def targets(self) -> list[list[tuple[slice, slice]]]:
        """Where each row's new tokens go."""
        return [row.next_spans(self._tokens) for row in self.rows]

    def write(self, arena: Array, new: Array) -> None:
        """Put the rows' new keys, or values, ``[batch, kv_heads, n, head_dim]`` behind their committed tokens."""
        for spans, tokens in zip(self.targets, new, strict=True):
            for there, here in spans:
                arena[:, there] = tokens[:, here]


class PagedLayer(LayerCache):
    """One layer of one forward: a row for each sequence, each attending to its own pages."""

    def __init__(self, forward: _Forward, keys: Array, values: Array) -> None:
        self._forward, self._keys, self._values = forward, keys, values
        self.offset = forward.offset
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
        self._forward.write(self._keys, np.array(keys, copy=False))
        self._forward.write(self._values, np.array(values, copy=False))
        new = np.array(queries, copy=False)
        output = np.empty((*new.shape[:3], self._values.shape[-1]), np.float32)
        self._attend_rows(new, how["scale"], output)
        return mx.array(output)

    def _attend_rows(self, queries: Array, scale: float, output: Array) -> None:
        forward, arena = self._forward, (self._keys, self._values)
        if queries.shape[2] == 1:
            forward.attention.decode(queries[:, :, 0], *arena, forward.seen, scale, output[:, :, 0])
            return
        for i, row in enumerate(forward.rows):
            forward.attention.prefill(queries[i], *arena, row.table, row.block_tokens, row.num_tokens, scale, output[i])
