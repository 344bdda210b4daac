"""A store in memory."""

from collections.abc import Iterable, Iterator, Sequence
from threading import RLock

import attrs
from attrs import field, frozen

from semantic.adapters.storage.eviction import Candidate, choose_victims
from semantic.application.ports.block_store import (
    BlockReport,
    BlockToSave,
    ContextStats,
    Place,
    StoredAgent,
    StoredBlock,
    StoreStats,
    TensorHeader,
    fill,
)
from semantic.domain.errors import BlockDamagedError, BlockMissingError, StoreError, StoreFullError
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentRecord


@frozen
class _Kept:
    """A block's arrays as bytes, one for each header."""

    block: StoredBlock
    headers: tuple[TensorHeader, ...]
    contents: tuple[bytes, ...]
    damaged: bool = field(default=False)

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.contents))


class MemoryStore:
    """Fulfils ``BlockStore`` with dictionaries: it copies the bytes, and is gone with the process.

    Bytes count without headers. ``full = True`` refuses every further save, of agents too; ``damage(block_hash)``
    makes a block be found damaged; ``saves`` counts the calls of ``save``::

        store = MemoryStore()
        store.save(blocks)
        store.damage(blocks[-1].block.hash)
        store.load(blocks[-1].block.hash, place)  # raises BlockDamagedError, and BlockMissingError ever after
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.full = False
        self.saves = 0
        self._blocks: dict[BlockHash, _Kept] = {}  # the least recently used first
        self._agents: dict[tuple[str, str], StoredAgent] = {}
        self._closed = False
        self._lock = RLock()

    def damage(self, block_hash: BlockHash) -> None:
        """As if a bit of this block had flipped on the disk."""
        self._blocks[block_hash] = attrs.evolve(self._blocks[block_hash], damaged=True)

    def blocks(self, context: str) -> list[StoredBlock]:
        """By where they start, so that parents come first."""
        with self._using():
            found = [kept.block for kept in self._blocks.values() if kept.block.context == context]
            return sorted(found, key=lambda block: block.start)

    def save(self, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        """Copy the blocks."""
        with self._using():
            self.saves += 1
            new = {block.block.hash: _copy(block) for block in blocks if block.block.hash not in self._blocks}
            self._refuse_if_full(bool(new))
            evicted = self._make_room(sum(kept.nbytes for kept in new.values()), blocks)
            self._blocks.update(new)
            return evicted

    def load(self, block_hash: BlockHash, place: Place) -> None:
        """Copy a block's arrays to where ``place`` says."""
        with self._using():
            kept = self._blocks.get(block_hash)
            if kept is None:
                raise BlockMissingError(f"block {block_hash.hex()} is not in the store")
            try:
                if kept.damaged:
                    raise BlockDamagedError(f"block {block_hash.hex()} is damaged")
                fill(place(kept.headers), b"".join(kept.contents))
            except BlockDamagedError:
                del self._blocks[block_hash]
                raise

    def delete(self, hashes: Iterable[BlockHash]) -> None:
        """Drop blocks."""
        with self._using():
            for block_hash in hashes:
                self._blocks.pop(block_hash, None)

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        """Move blocks to the end of the order of eviction."""
        with self._using():
            for block_hash in hashes:
                if block_hash in self._blocks:
                    self._blocks[block_hash] = self._blocks.pop(block_hash)

    def agents(self) -> list[StoredAgent]:
        """By namespace and name."""
        with self._using():
            return [self._agents[key] for key in sorted(self._agents)]

    def save_agent(self, record: AgentRecord, blocks: Sequence[BlockHash]) -> None:
        """Keep the record."""
        with self._using():
            self._refuse_if_full(True)
            self._agents[record.namespace, record.name] = StoredAgent(record, tuple(blocks))

    def forget_agent(self, namespace: str, name: str, erase: Iterable[BlockHash]) -> None:
        """Drop the record and the blocks."""
        with self._using():
            self._agents.pop((namespace, name), None)
            self.delete(erase)

    def stats(self) -> StoreStats:
        """Counts now."""
        with self._using():
            return StoreStats(
                blocks=len(self._blocks),
                bytes=self._num_bytes(),
                agents=len(self._agents),
                budget_bytes=self.budget_bytes,
            )

    def contexts(self) -> list[ContextStats]:
        """By the digests of the contexts."""
        with self._using():
            found = sorted({kept.block.context for kept in self._blocks.values()})
            return [self._context(context) for context in found]

    def verify(self) -> Iterator[BlockReport]:
        """Those that ``damage`` named are damaged."""
        with self._using():
            kept_blocks = list(self._blocks.items())
        for block_hash, kept in kept_blocks:
            damage = "it was damaged on purpose" if kept.damaged else ""
            yield BlockReport(hash=block_hash, path=f"memory:{block_hash.hex()}", nbytes=kept.nbytes, damage=damage)

    def check_integrity(self) -> None:
        """What is published is all there is."""
        with self._using():
            pass

    def clear(self) -> None:
        """Drop everything."""
        with self._using():
            self._blocks.clear()
            self._agents.clear()

    def close(self) -> None:
        """Refuse every further call, until :meth:`reopen`."""
        self._closed = True

    def reopen(self) -> None:
        """As another process finds what this one left."""
        self._closed = False

    def _using(self) -> RLock:
        if self._closed:
            raise StoreError("the store was closed")
        return self._lock

    def _context(self, context: str) -> ContextStats:
        sizes = [kept.nbytes for kept in self._blocks.values() if kept.block.context == context]
        return ContextStats(context=context, blocks=len(sizes), bytes=sum(sizes))

    def _refuse_if_full(self, wants_room: bool) -> None:
        if self.full and wants_room:
            raise StoreFullError("the store is full on purpose")

    def _num_bytes(self) -> int:
        return sum(kept.nbytes for kept in self._blocks.values())

    def _make_room(self, num_bytes: int, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        if self.budget_bytes is None:
            return ()
        referenced = {block_hash for agent in self._agents.values() for block_hash in agent.blocks}
        candidates = [
            Candidate(name, kept.block.parent, kept.nbytes, age, name in referenced)
            for age, (name, kept) in enumerate(self._blocks.items())
        ]
        excess = self._num_bytes() + num_bytes - self.budget_bytes
        keep = {name for block in blocks for name in (block.block.hash, block.block.parent)}
        victims = choose_victims(candidates, excess, keep)
        if sum(self._blocks[victim].nbytes for victim in victims) < excess:
            raise StoreFullError(f"{num_bytes:,} bytes do not fit the store's budget of {self.budget_bytes:,}")
        self.delete(victims)
        return victims


def _copy(block: BlockToSave) -> _Kept:
    headers = tuple(tensor.header for tensor in block.tensors)
    return _Kept(block.block, headers, tuple(b"".join(tensor.pieces) for tensor in block.tensors))
