"""The host memory of a block pool: one slot for each block, all of the same size, side by side.

A slot holds, layer after layer, that layer's keys and then its values: ``[kv_heads, block_tokens, head_dim]`` each.
The arena is reserved as address space only: a slot costs memory once it is written, and gives it back at once when
it is freed.
"""

import heapq
import mmap

import numpy as np

from semantic.adapters.mlx.paged_attention import Array
from semantic.domain.value_objects import ModelCacheSpec

_ITEM = np.dtype(np.float32).itemsize


class PageArena:
    """``slots`` blocks of ``spec``. ``keys[layer]`` is ``[slots, kv_heads, block_tokens, head_dim]``, a view."""

    def __init__(self, spec: ModelCacheSpec, slots: int) -> None:
        self.slot_bytes = -(-spec.bytes_per_block // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, slots * self.slot_bytes)
        self._free: list[int] = []  # slots that were used before, a heap: low ones first keep tables in runs
        self._untouched = 0  # slots from here on were never taken
        self._slots = slots
        self.keys: list[Array] = []
        self.values: list[Array] = []
        offset = 0
        for layer in spec.layers:
            for views, dim in ((self.keys, layer.key_head_dim), (self.values, layer.value_head_dim)):
                shape = (slots, layer.kv_heads, spec.block_tokens, dim)
                views.append(self._view(shape, offset))
                offset += layer.kv_heads * spec.block_tokens * dim * _ITEM
        assert offset == spec.bytes_per_block, (offset, spec.bytes_per_block)

    @property
    def slots_in_use(self) -> int:
        """Slots taken and not given back."""
        return self._untouched - len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of the slots in use; rows that were never written are not backed by memory yet."""
        return self.slots_in_use * self.slot_bytes

    def take(self) -> int:
        """The lowest free slot. The block pool has as many blocks, so there always is one."""
        if self._free:
            return heapq.heappop(self._free)
        assert self._untouched < self._slots, f"{self._slots} slots are all taken"
        self._untouched += 1
        return self._untouched - 1

    def give_back(self, slot: int) -> None:
        """Free a slot and return its memory to the system."""
        heapq.heappush(self._free, slot)
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, slot * self.slot_bytes, self.slot_bytes)

    def _view(self, shape: tuple[int, int, int, int], offset: int) -> Array:
        _, _, tokens, dim = shape
        strides = (self.slot_bytes, tokens * dim * _ITEM, dim * _ITEM, _ITEM)
        return np.ndarray(shape, np.float32, buffer=self._memory, offset=offset, strides=strides)
