"""The store: blocks of keys and values, and agents, kept beyond the process."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from attrs import frozen

from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects.agent_record import AgentRecord

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""safetensors' names of element types, and the bytes of one element."""


@frozen(cache_hash=True)
class TensorHeader:
    """One named array without its bytes. ``dtype`` is one of :data:`ITEM_BYTES`."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


@frozen
class Tensor:
    """One named array. ``pieces`` are contiguous views of single bytes which, joined, are the array in C order."""

    header: TensorHeader
    pieces: tuple[memoryview, ...]

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


@frozen(kw_only=True)
class StoredBlock:
    """What is known of a block without its arrays.

    ``context`` is the digest of the :class:`~semantic.domain.value_objects.CacheContext` it was computed in;
    ``tokens`` are packed, and lie at positions from ``start`` on.
    """

    hash: BlockHash
    parent: BlockHash
    context: str
    start: int
    tokens: bytes
    has_state: bool = False


@frozen
class BlockToSave:
    """A block with its arrays, whose memory must stay as it is until it is saved."""

    block: StoredBlock
    tensors: Sequence[Tensor]


Place = Callable[[Sequence[TensorHeader]], Sequence[memoryview]]
"""Given what a file holds, where it shall go: writable memory which, joined, takes the arrays one behind the other.

Raises :class:`~semantic.domain.errors.BlockDamagedError` if these are not the arrays of such a block.
"""


class Scratch:
    """A :data:`Place` in fresh memory. Afterwards ``tensors`` are what was read."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def __call__(self, headers: Sequence[TensorHeader]) -> list[memoryview]:
        self.tensors = [Tensor(header, (memoryview(bytearray(header.nbytes)),)) for header in headers]
        return pieces_of(self.tensors)


def pieces_of(tensors: Iterable[Tensor]) -> list[memoryview]:
    """The pieces of all of them, in order."""
    return [piece for tensor in tensors for piece in tensor.pieces]


def fill(memory: Iterable[memoryview], content: bytes) -> None:
    """Copy ``content`` into pieces of memory, one behind the other. Raises ``ValueError`` unless it fills them."""
    start = 0
    for piece in memory:
        piece[:] = content[start : start + piece.nbytes]
        start += piece.nbytes
    if start != len(content):
        raise ValueError(f"{len(content)} bytes where {start} were expected")


@frozen
class StoredAgent:
    """An agent with the blocks that its context refers to."""

    record: AgentRecord
    blocks: tuple[BlockHash, ...]


@frozen(kw_only=True)
class StoreStats:
    """``bytes`` on disk of all published blocks, of whatever model; ``budget_bytes`` is None without a limit."""

    blocks: int
    bytes: int
    agents: int
    budget_bytes: int | None


@frozen(kw_only=True)
class ContextStats:
    """``blocks`` and their ``bytes`` on disk, of one context."""

    context: str
    blocks: int
    bytes: int


@frozen(kw_only=True)
class BlockReport:
    """What reading one published block showed. ``damage`` is empty if it is as it was written."""

    hash: BlockHash
    path: str
    nbytes: int
    damage: str = ""


class BlockStore(Protocol):
    """Blocks by the name of their contents, agents by namespace and name. Every verb may be called from any thread.

    Raises :class:`~semantic.domain.errors.StoreError` where the disk refuses, its subclass ``StoreFullError`` where
    there is no room, ``StoreForkedError`` in a process that was forked after the store was opened.
    """

    def blocks(self, context: str) -> Iterable[StoredBlock]:
        """All published blocks of a context, a parent before its children."""

    def save(self, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        """Write blocks, make them durable, then publish them. Returns the blocks evicted to make room.

        A hash that is published already is left as it is. If it raises, no block of this call is served later
        unless it is whole.
        """

    def load(self, block_hash: BlockHash, place: Place) -> None:
        """Read a block's arrays into the memory that ``place`` gives, and verify them.

        Raises ``BlockMissingError`` if it is not published, ``BlockDamagedError`` if its bytes are not those that
        were written (it is then no longer published). The memory's contents are undefined after an error.
        """

    def delete(self, hashes: Iterable[BlockHash]) -> None:
        """Unpublish blocks and erase their files. Unknown ones are ignored."""

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        """Note that these blocks were used just now: the least recently used are evicted first."""

    def agents(self) -> list[StoredAgent]:
        """Every agent at its last committed turn, of whatever model."""

    def save_agent(self, record: AgentRecord, blocks: Sequence[BlockHash]) -> None:
        """Commit a turn in one transaction: the record replaces the one of its name, ``blocks`` its references.

        References to blocks that are not published are kept: they may be published later, or never.
        """

    def forget_agent(self, namespace: str, name: str, erase: Iterable[BlockHash]) -> None:
        """Erase an agent's record and references, and the blocks ``erase``, leaving no trace in the files.

        Forgetting an unknown agent erases the blocks all the same.
        """

    def stats(self) -> StoreStats:
        """Counts now."""

    def contexts(self) -> list[ContextStats]:
        """Counts now, for each context that has blocks, by its digest."""

    def verify(self) -> Iterator[BlockReport]:
        """Read every published block, of whatever context, and report each. Changes nothing."""

    def check_integrity(self) -> None:
        """Raise ``StoreIntegrityError`` unless there is just what is published: no more, and no less.

        Reads names, not contents, so that it may be called often. Changes nothing.
        """

    def clear(self) -> None:
        """Erase every block and every agent."""

    def close(self) -> None:
        """Give the folder free for another process. Closing twice is a no-op."""
