"""What agents mean to the cache and the store. Only the engine's thread opens this book."""

from collections.abc import Callable, Sequence

from attrs import frozen

from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.ports.block_store import BlockToSave, StoredBlock, Tensor
from semantic.domain.entities import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.value_objects import AgentRecord, Reuse, block_hash, common_tokens, pack_tokens
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES

AgentKey = tuple[str, str]
"""Namespace and name."""


def key_of(record: AgentRecord) -> AgentKey:
    """Who refers to the record's blocks."""
    return record.namespace, record.name


@frozen
class Lent:
    """A block to be exported. ``tensors`` is None if it has to be read from the store."""

    block: StoredBlock
    tensors: Sequence[Tensor] | None


class AgentBook:
    """Keeps references, pins and the store's records in step with the agents."""

    def __init__(self, engine: BlockPoolBatchEngine) -> None:
        self._engine = engine
        self._cache, self._tier = engine.cache, engine.tier
        self._index, self._transfer = engine.cache.index, engine.cache.transfer
        self._references = engine.cache.references
        self._records: dict[AgentKey, AgentRecord] = {}
        self._pinned: set[AgentKey] = set()

    def know(self, record: AgentRecord) -> None:
        """Take note of an agent that the store has."""
        self._records[key_of(record)] = record

    def commit(self, record: AgentRecord) -> None:
        """An agent stands where ``record`` says: its blocks are referred to, and the store is told.

        What an agent has referred to before stays its own, so that forgetting it erases that too.
        """
        key = key_of(record)
        self._records[key] = record
        earlier = [name for name in self._references.of(key) if self._index.get(name) is not None]
        blocks = dict.fromkeys([block.hash for block in self._path(record)] + earlier)
        self._references.replace(key, blocks)
        if key in self._pinned:
            self.pin(record)
        if self._tier is not None:
            self._tier.save_agent(record, tuple(blocks))

    def pin(self, record: AgentRecord) -> None:
        """Keep an agent's blocks in memory until :meth:`unpin`, as they are and as they will be."""
        self._pinned.add(key_of(record))
        self._cache.pin(key_of(record), self._path(record))

    def unpin(self, record: AgentRecord) -> None:
        """Let an agent's blocks be evicted again."""
        self._pinned.discard(key_of(record))
        self._cache.unpin(key_of(record))

    # -- forgetting ------------------------------------------------------------------------------

    def forget(self, record: AgentRecord) -> None:
        """Erase an agent, and of its context whatever no other agent refers to, from memory and store."""
        key = key_of(record)
        self.unpin(record)
        self._records.pop(key, None)
        own = [block for block in map(self._index.get, self._references.of(key)) if block is not None]
        self._references.replace(key, ())
        doomed = {
            other.hash: other
            for block in own
            for version in [block, *self._index.longer_versions(block)]
            for other in [version, *self._index.descendants(version)]
            if not self._references.is_shared(other.hash)
        }
        self._save_heads(record, list(doomed.values()))
        erased = [block.hash for block in doomed.values() if self._transfer.forget(block)]
        if self._tier is not None:
            self._tier.forget_agent(record.namespace, record.name, erased)

    def _save_heads(self, record: AgentRecord, doomed: list[KVBlock]) -> None:
        """What others share of a block that is to go is copied, so that only the rest is lost."""
        if self._index.reuse is not Reuse.ANYWHERE or not self._engine.model.memory.seals_in_place:
            return
        others = [pack_tokens(other.token_ids) for key, other in self._records.items() if key[0] == record.namespace]
        tokens = pack_tokens(record.token_ids)
        shared = max((common_tokens(tokens, other) for other in others), default=0)
        for block in doomed:
            own = tokens[block.start * TOKEN_BYTES : block.end * TOKEN_BYTES]
            if block.start < shared < block.end and block.tokens == own and block.block_id is not None:
                self._copy_head(block, shared - block.start)

    def _copy_head(self, block: KVBlock, num_tokens: int) -> None:
        tokens = block.tokens[: num_tokens * TOKEN_BYTES]
        assert block.block_id is not None
        if self._index.get(block_hash(block.parent, tokens)) is not None or not self._transfer.has_room(1):
            return
        self._engine.pool.share([block.block_id])  # or making room might evict it
        if self._transfer.has_room(1):
            [copy] = self._transfer.allocate(1)
            self._engine.model.memory.copy(block.block_id, copy, num_tokens)
            self._take(KVBlock(block_hash(block.parent, tokens), block.parent, block.start, tokens, False, copy))
        self._transfer.release([block.block_id])

    def _take(self, block: KVBlock) -> None:
        """Index a block in memory that was allocated for it, and save it."""
        assert block.block_id is not None
        block = self._index.add(block)
        self._transfer.keep(block.block_id)  # type: ignore[arg-type]
        self._transfer.save(block)
        self._transfer.release([block.block_id])  # type: ignore[list-item]

    # -- carrying to another machine -------------------------------------------------------------

    def lend(self, record: AgentRecord) -> tuple[list[Lent], Callable[[], None]]:
        """An agent's blocks, to be read by another thread until the returned function is called on this one."""
        lent: list[Lent] = []
        held: list[BlockId] = []
        for block in self._path(record):
            stored = self._transfer.stored_block(block)
            if block.block_id is not None:
                self._engine.pool.share([block.block_id])
                held.append(block.block_id)
                tensors = self._engine.model.memory.contents(block.block_id, block.num_tokens)
                lent.append(Lent(stored, tensors))
            elif block.stored:
                lent.append(Lent(stored, None))
        return lent, lambda: self._transfer.release(held[::-1])

    def take_in(self, parent: BlockHash, imported: BlockToSave) -> BlockHash:
        """Put a block from elsewhere behind ``parent``: into memory while there is room, else into the store."""
        block, memory = imported.block, self._engine.model.memory
        own = KVBlock(block_hash(parent, block.tokens), parent, block.start, block.tokens, block.has_state)
        if self._index.get(own.hash) is not None:
            return own.hash
        if self._transfer.has_room(1):
            [own.block_id] = self._transfer.allocate(1)
            tensors = memory.receive(own.block_id, own.num_tokens)([tensor.header for tensor in imported.tensors])
            for there, here in zip(tensors, imported.tensors, strict=True):
                _copy(b"".join(here.pieces), there.pieces)
            self._take(own)
        elif self._tier is not None:
            to_save = BlockToSave(self._transfer.stored_block(own), imported.tensors)
            self._tier.save(to_save, lambda error: self._note_stored(own, error))
        return own.hash

    def _note_stored(self, block: KVBlock, error: Exception | None) -> None:
        if error is None:
            block.stored = True
            self._index.add(block)

    # -- inside ----------------------------------------------------------------------------------

    def _path(self, record: AgentRecord) -> list[KVBlock]:
        return self._index.path(self._engine.context.root(record.namespace), pack_tokens(record.token_ids))


def _copy(source: bytes, pieces: Sequence[memoryview]) -> None:
    start = 0
    for piece in pieces:
        piece[:] = source[start : start + piece.nbytes]
        start += piece.nbytes
