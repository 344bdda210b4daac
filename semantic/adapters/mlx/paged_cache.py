"""Paged caches: the pool's blocks are the physical memory.

A sequence is a table of slots in the arena; its last page is written where it stands. Position ``p`` lies in page
``p // block_tokens``, row ``p % block_tokens``; positions ``[0, num_tokens)`` are valid, what lies behind them was
never committed.
"""

import sys
from collections.abc import Iterable, Sequence

import numpy as np

from semantic.adapters.mlx.attention_seam import LayerCache
from semantic.adapters.mlx.host_block import expect as expect_headers
from semantic.adapters.mlx.page_arena import PageArena
from semantic.adapters.mlx.paged_attention import PagedAttention
from semantic.adapters.mlx.paged_forward import FlatForward, Forward, PagedLayer
from semantic.application.ports.block_store import Place, Tensor, TensorHeader, pieces_of
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

    def can_trim(self, cache: PagedSequenceCache, num_tokens: int) -> bool:
        """Whether so many tokens more could be cut off again."""
        return True

    def trim(self, cache: PagedSequenceCache, num_tokens: int) -> None:
        """The rows behind are written again; nobody reads them."""
        assert num_tokens <= cache.num_tokens, (num_tokens, cache.num_tokens)
        cache.num_tokens = num_tokens

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The page's first rows; a piece for each layer and head."""
        return self._tensors(self._slots[block_id], num_tokens)

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """The page's first rows, to be written."""
        tensors = self._tensors(self._slot(block_id), num_tokens)

        def place(headers: Sequence[TensorHeader]) -> list[memoryview]:
            expect_headers(headers, [tensor.header for tensor in tensors])
            return pieces_of(tensors)

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
        return self._layers(Forward(rows, [tokens] * len(rows), self._attention))

    def flat_layer_caches(self, rows: Sequence[PagedSequenceCache], tokens: Sequence[int]) -> list[LayerCache]:
        """The same for ``tokens`` of each row, which the model is given behind each other: ``[sum(tokens), 1]``."""
        return self._layers(FlatForward(rows, tokens, self._attention))

    def commit(self, rows: Sequence[PagedSequenceCache], tokens: int) -> None:
        """Make the tokens that a forward wrote part of the sequences."""
        for row in rows:
            row.num_tokens += tokens

    def _layers(self, forward: Forward) -> list[LayerCache]:
        return [
            PagedLayer(forward, keys, values) for keys, values in zip(self._arena.keys, self._arena.values, strict=True)
        ]
