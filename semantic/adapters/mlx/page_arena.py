"""The host memory of a block pool: one slot for each block.

Per layer, keys and values are ``[kv_heads, slots * block_tokens, head_dim]``: blocks in neighbouring slots are one
piece of memory for attention. The arena is reserved as address space only; a slot costs memory once it is written,
and gives it back at once when it is freed.
"""

import contextlib
import heapq
import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from semantic.domain.errors import MemoryUnavailableError
from semantic.domain.value_objects import ModelCacheSpec

Array = npt.NDArray[np.float32]

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE of Linux 5.14; Python has no name for it
_ITEM = np.dtype(np.float32).itemsize


class PageArena:
    """Room for ``slots`` blocks of ``spec``. ``keys[layer]`` and ``values[layer]`` are views of one mapping.

    Raises :class:`MemoryUnavailableError` if the system refuses to reserve it.
    """

    def __init__(self, spec: ModelCacheSpec, slots: int) -> None:
        self._slots, self._block_tokens = slots, spec.block_tokens
        self.slot_bytes = spec.bytes_per_block
        self._memory = _reserve(slots * spec.bytes_per_block)
        self._pieces: list[tuple[int, int]] = []  # (offset of slot 0, bytes per slot), a piece for each head
        self._free: list[int] = []  # slots that were used before, a heap: low ones first keep tables in one piece
        self._untouched = 0  # slots from here on were never taken
        self.keys: list[Array] = []
        self.values: list[Array] = []
        offset = 0
        for layer in spec.layers:
            for views, dim in ((self.keys, layer.key_head_dim), (self.values, layer.value_head_dim)):
                shape = (layer.kv_heads, slots * spec.block_tokens, dim)
                views.append(np.ndarray(shape, np.float32, buffer=self._memory, offset=offset))
                piece = spec.block_tokens * dim * _ITEM
                self._pieces += [(offset + head * slots * piece, piece) for head in range(layer.kv_heads)]
                offset += layer.kv_heads * slots * piece
        assert offset == len(self._memory), (offset, len(self._memory))

    @property
    def nbytes(self) -> int:
        """Bytes of the slots in use; rows that were never written are not backed by memory yet."""
        return (self._untouched - len(self._free)) * self.slot_bytes

    def rows(self, slot: int, num_tokens: int) -> Iterator[Array]:
        """The first rows of a slot, layer by layer, keys before values: views of ``[kv_heads, tokens, head_dim]``."""
        start = slot * self._block_tokens
        for keys, values in zip(self.keys, self.values, strict=True):
            yield keys[:, start : start + num_tokens]
            yield values[:, start : start + num_tokens]

    def populate(self, slots: int) -> None:
        """Have the system find memory for the first ``slots`` slots now.

        First touches of fresh pages are most of what reading a block costs: 60 to 400 ms for 16 blocks of the default
        model on a virtual machine, against 20 for the reading itself.
        """
        with contextlib.suppress(OSError, ValueError):  # an old kernel
            for offset, size in self._pieces:
                stop = (offset + min(slots, self._slots) * size) // mmap.PAGESIZE * mmap.PAGESIZE
                start = offset // mmap.PAGESIZE * mmap.PAGESIZE
                self._memory.madvise(_POPULATE_WRITE, start, stop - start)

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
            for start, length in self._whole_pages(slot):
                self._memory.madvise(mmap.MADV_DONTNEED, start, length)

    def _whole_pages(self, slot: int) -> Iterator[tuple[int, int]]:
        """The memory pages that belong to this slot alone."""
        for offset, size in self._pieces:
            start = -(-(offset + slot * size) // mmap.PAGESIZE) * mmap.PAGESIZE
            stop = (offset + (slot + 1) * size) // mmap.PAGESIZE * mmap.PAGESIZE
            if stop > start:
                yield start, stop - start


def _reserve(size: int) -> mmap.mmap:
    """Private memory: of a shared mapping, MADV_DONTNEED would free the page table entries and keep the memory."""
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryUnavailableError(size) from error
