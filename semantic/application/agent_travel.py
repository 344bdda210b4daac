"""An agent's blocks on their way out to a file, and in from one. Only the engine's thread calls these."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from attrs import frozen

from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.ports.block_store import BlockToSave, StoredBlock, Tensor, fill, pieces_of
from semantic.domain.entities import KVBlock
from semantic.domain.errors import AgentFileError, BlockDamagedError, StoreError
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.value_objects import AgentRecord, Reuse, block_hash, pack_tokens
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES


@frozen
class Lent:
    """A block to be exported. ``tensors`` is None if it has to be read from the store."""

    block: StoredBlock
    tensors: Sequence[Tensor] | None


class Lending:
    """``blocks`` may be read by another thread until :meth:`give_back`."""

    def __init__(self, engine: BlockPoolBatchEngine, record: AgentRecord) -> None:
        self._engine = engine
        self._transfer, self._memory = engine.cache.transfer, engine.model.memory
        self._held: list[BlockId] = []
        self.blocks = list(self._lend(engine.context.root(record.namespace), pack_tokens(record.token_ids)))

    def give_back(self) -> None:
        """Hold the blocks no longer."""
        self._transfer.release(self._held[::-1])

    def _lend(self, root: BlockHash, tokens: bytes) -> Iterator[Lent]:
        index = self._engine.cache.index
        if index.reuse is not Reuse.ANYWHERE:
            yield from map(self._whole, index.path(root, tokens))
            return
        match = index.match(root, tokens, len(tokens) // TOKEN_BYTES)
        is_cut = bool(match.blocks) and match.used_of_last < match.blocks[-1].num_tokens
        yield from map(self._whole, match.blocks[:-1] if is_cut else match.blocks)
        if is_cut:
            yield from self._head(match.blocks[-1], match.used_of_last)

    def _whole(self, block: KVBlock) -> Lent:
        stored = self._transfer.stored_block(block)
        if block.block_id is None:
            return Lent(stored, None)
        self._hold(block.block_id)
        return Lent(stored, self._memory.contents(block.block_id, block.num_tokens))

    def _head(self, block: KVBlock, num_tokens: int) -> Iterator[Lent]:
        """What lies behind it in the block is not the agent's, and must not leave with it."""
        place = hold_or_read(self._engine, block)
        if place is not None:
            self._held.append(place)
            tokens = block.tokens[: num_tokens * TOKEN_BYTES]
            head = KVBlock(block_hash(block.parent, tokens), block.parent, block.start, tokens)
            yield Lent(self._transfer.stored_block(head), self._memory.contents(place, num_tokens))

    def _hold(self, block_id: BlockId) -> None:
        self._engine.pool.share([block_id])
        self._held.append(block_id)


class TakingIn:
    """Takes blocks one by one, parents first: into memory while there is room, else into the store.

    End it with :meth:`finish` once an agent refers to them, or with :meth:`undo`.
    """

    def __init__(self, engine: BlockPoolBatchEngine, record: AgentRecord) -> None:
        self._engine = engine
        self._index, self._transfer = engine.cache.index, engine.cache.transfer
        self._tokens = pack_tokens(record.token_ids)
        self._names = {0: engine.context.root(record.namespace)}  # of the whole blocks, by where they end
        self._taken: list[BlockHash] = []
        self._held: list[BlockId] = []  # until the end, or what comes later would evict what came first

    def take(self, imported: BlockToSave) -> "Future[None] | None":
        """Take a block. The future ends when it was written, if it went to the store; one without room is passed over.

        Raises :class:`~semantic.domain.errors.AgentFileError` for what is no block of this agent.
        """
        block = self._named(imported.block)
        present = self._index.get(block.hash)
        if present is not None and (present.has_state or not block.has_state):
            return None
        block_id = self._transfer.allocate_for(block)
        if block_id is not None:
            self._receive(block, block_id, imported)
        elif self._engine.tier is not None:
            return self._store(block, imported)
        return None

    def finish(self) -> None:
        """Hold the blocks no longer."""
        self._transfer.release(self._held[::-1])
        self._held = []

    def undo(self) -> None:
        """Leave nothing of what was taken."""
        for block in map(self._index.get, self._taken):
            if block is not None and not self._engine.cache.references.is_shared(block.hash):
                self._transfer.remove(block)
        self.finish()

    def _named(self, block: StoredBlock) -> KVBlock:
        start, size = block.start * TOKEN_BYTES, self._index.block_tokens * TOKEN_BYTES
        parent = self._names.get(block.start)
        is_ours = 0 < len(block.tokens) <= size and self._tokens[start : start + len(block.tokens)] == block.tokens
        if parent is None or not is_ours:
            raise AgentFileError("the file's blocks are not those of its agent's context; export it again")
        own = KVBlock(block_hash(parent, block.tokens), parent, block.start, block.tokens, block.has_state)
        if len(block.tokens) == size:
            self._names[own.end] = own.hash
        return own

    def _receive(self, block: KVBlock, block_id: BlockId, imported: BlockToSave) -> None:
        try:
            place = self._engine.model.memory.receive(block_id, block.num_tokens)
            fill(place([one.header for one in imported.tensors]), b"".join(pieces_of(imported.tensors)))
        except (BlockDamagedError, ValueError) as exc:
            self._transfer.release([block_id])
            raise AgentFileError(f"the file's blocks are not those that this model keeps: {exc}") from exc
        self._replace(block)
        block.block_id = block_id
        self._index.add(block)
        self._transfer.keep(block_id)
        self._transfer.save(block)
        self._held.append(block_id)

    def _store(self, block: KVBlock, imported: BlockToSave) -> "Future[None]":
        written: Future[None] = Future()

        def done(error: Exception | None) -> None:
            if error is None:
                self._replace(block)
                block.stored = True
                self._index.add(block)
            written.set_result(None)

        assert self._engine.tier is not None
        self._engine.tier.save(BlockToSave(self._transfer.stored_block(block), imported.tensors), done)
        return written

    def _replace(self, block: KVBlock) -> None:
        """Make way for a block that has the state which the present one lacks."""
        present = self._index.get(block.hash)
        if present is not None:
            self._transfer.remove(present)
        self._taken.append(block.hash)


def hold_or_read(engine: BlockPoolBatchEngine, block: KVBlock) -> BlockId | None:
    """Memory that holds a block for the moment, to be released; None where that can't be had."""
    transfer = engine.cache.transfer
    if block.block_id is not None:
        engine.pool.share([block.block_id])  # or making room might evict it
        return block.block_id
    block_id = transfer.allocate_for(block) if engine.tier is not None and block.stored else None
    if engine.tier is None or block_id is None:
        return None
    try:
        engine.tier.store.load(block.hash, engine.model.memory.receive(block_id, block.num_tokens))
    except StoreError:
        transfer.release([block_id])
        return None
    return block_id
