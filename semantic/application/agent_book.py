"""What agents mean to the cache and the store. Only the engine's thread opens this book."""

from collections.abc import Container, Iterable, Sequence
from concurrent.futures import Future

from semantic.application.agent_travel import Lending, TakingIn, hold_or_read
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.contexts import Contexts, blocks_of
from semantic.domain.entities import KVBlock
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentRecord, Reuse, block_hash, pack_tokens
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES

AgentKey = tuple[str, str]
"""Namespace and name."""


def key_of(record: AgentRecord) -> AgentKey:
    """Who refers to the record's blocks."""
    return record.namespace, record.name


class AgentBook:
    """Keeps references, pins and the store's records in step with the agents."""

    def __init__(self, engine: BlockPoolBatchEngine) -> None:
        self._engine = engine
        self._cache, self._tier = engine.cache, engine.tier
        self._index, self._transfer = engine.cache.index, engine.cache.transfer
        self._references = engine.cache.references
        self._memory = engine.model.memory
        self._records: dict[AgentKey, AgentRecord] = {}
        self._elsewhere: dict[AgentKey, set[BlockHash]] = {}  # what was referred to in contexts that are not loaded
        self._under_way: dict[AgentKey, bytes] = {}  # the prompts of turns
        self._pinned: set[AgentKey] = set()

    def know(self, record: AgentRecord) -> None:
        """Take note of an agent that the store has."""
        key = key_of(record)
        self._records[key] = record
        self._elsewhere[key] = {name for name in self._references.of(key) if self._index.get(name) is None}

    def begin(self, record: AgentRecord, prompt: Sequence[int]) -> None:
        """A turn of an agent begins, and what it computes must not go with another one."""
        self._under_way[key_of(record)] = pack_tokens(prompt)

    def end(self, record: AgentRecord) -> None:
        """The agent's turn is over."""
        self._under_way.pop(key_of(record), None)

    def commit(self, record: AgentRecord) -> None:
        """An agent stands where ``record`` says: its blocks are referred to, and the store is told.

        What an agent has referred to before stays its own, so that forgetting it erases that too.
        """
        self._records[key_of(record)] = record
        self._refer(record, self._path(record))
        if key_of(record) in self._pinned:
            self.pin(record)

    def note(self, record: AgentRecord, token_ids: Sequence[int]) -> None:
        """A turn has ended without effect. What it left behind is the agent's too, so that forgetting erases it."""
        left_behind = self._index.path(self._root(record), pack_tokens(token_ids))
        known = self._references.of(key_of(record))
        if not known.issuperset(block.hash for block in left_behind):
            self._refer(record, [*self._path(record), *left_behind])

    def _refer(self, record: AgentRecord, blocks: Sequence[KVBlock]) -> None:
        key = key_of(record)
        elsewhere = self._elsewhere.get(key, set())
        earlier = [name for name in self._references.of(key) if name in elsewhere or self._index.get(name) is not None]
        names = dict.fromkeys([block.hash for block in blocks] + earlier)
        self._references.replace(key, names)
        if self._tier is not None:
            self._tier.save_agent(record, tuple(names))

    def pin(self, record: AgentRecord) -> None:
        """Keep an agent's blocks in memory until :meth:`unpin`, as they are and as they will be."""
        self._pinned.add(key_of(record))
        tokens = pack_tokens(record.token_ids)
        used = self._index.match(self._root(record), tokens, len(record.token_ids)).blocks
        self._cache.pin(key_of(record), dict.fromkeys([*self._path(record), *used]))

    def unpin(self, record: AgentRecord) -> None:
        """Let an agent's blocks be evicted again."""
        self._pinned.discard(key_of(record))
        self._cache.unpin(key_of(record))

    # -- forgetting ------------------------------------------------------------------------------

    def forget(self, record: AgentRecord) -> "Future[None] | None":
        """Erase an agent, and of its context whatever no other agent shares, from memory and store.

        The future, if there is a store, ends when the store has done so.
        """
        key = key_of(record)
        self.unpin(record)
        self._records.pop(key, None)
        names = self._references.of(key)
        elsewhere = [name for name in self._elsewhere.pop(key, ()) if not self._references.is_shared(name, key)]
        self._references.replace(key, ())
        others = self._contexts_in(record.namespace)
        doomed = self._doomed(record, names, others)
        for block in doomed:
            self._save_head(block, doomed, others)
            self._move_others_out(block, doomed)
        erased = [block.hash for block in doomed if self._transfer.forget(block)]
        for pinned in self._pinned:
            self.pin(self._records[pinned])
        if self._tier is None:
            return None
        return self._tier.forget_agent(record.namespace, record.name, [*erased, *elsewhere])

    def _contexts_in(self, namespace: str) -> Contexts:
        contexts = [pack_tokens(record.token_ids) for key, record in self._records.items() if key[0] == namespace]
        contexts += [prompt for key, prompt in self._under_way.items() if key[0] == namespace]
        return Contexts(self._engine.context.root(namespace), self._index.block_tokens, contexts)

    def _doomed(self, record: AgentRecord, names: Iterable[BlockHash], others: Contexts) -> dict[KVBlock, None]:
        """Blocks of an agent that is gone which are nobody else's, with all that contains or continues them."""
        context = blocks_of(self._root(record), self._index.block_tokens, pack_tokens(record.token_ids))
        referred = [block for block in map(self._index.get, names) if block is not None]
        doomed: dict[KVBlock, None] = {}

        def is_shared(block: KVBlock) -> bool:
            return self._references.is_shared(block.hash) or others.num_shared(block) == block.num_tokens

        for own in sorted([*referred, *context], key=lambda block: block.start):
            if own in doomed or is_shared(own):
                continue
            for version in [own, *self._index.longer_versions(own)]:
                found = [version, *self._index.descendants(version)]
                doomed.update(dict.fromkeys(one for one in found if one not in doomed and not is_shared(one)))
        return {block: None for block in doomed if self._index.get(block.hash) is block}

    def _save_head(self, block: KVBlock, doomed: Container[KVBlock], others: Contexts) -> None:
        """What others share of a block that is to go is copied, so that only the rest is lost."""
        num_tokens = others.num_shared(block)
        if not num_tokens or self._index.reuse is not Reuse.ANYWHERE or not self._memory.seals_in_place:
            return
        tokens = block.tokens[: num_tokens * TOKEN_BYTES]
        head = KVBlock(block_hash(block.parent, tokens), block.parent, block.start, tokens)
        if all(version in doomed for version in self._index.longer_versions(head)):
            self._copy_head(block, head)

    def _copy_head(self, block: KVBlock, head: KVBlock) -> None:
        source = hold_or_read(self._engine, block)
        if source is None:
            return
        if self._transfer.has_room(1):
            [head.block_id] = self._transfer.allocate(1)
            self._memory.copy(source, head.block_id, head.num_tokens)
            self._take(head)
        self._transfer.release([source])

    def _move_others_out(self, block: KVBlock, doomed: Container[KVBlock]) -> None:
        """Shorter versions that stay must not keep the memory in which a longer one lies."""
        if block.block_id is None:
            return
        source = block.block_id
        staying = [version for version in self._index.residents(source) if version not in doomed]
        if not staying:
            return
        self._engine.pool.share([source])
        if self._transfer.has_room(1):
            [target] = self._transfer.allocate(1)
            self._memory.copy(source, target, max(version.num_tokens for version in staying))
            self._transfer.keep(target)
            for version in staying:
                self._index.make_resident(version, target)
            self._transfer.release([target])
        else:
            for version in staying:
                self._transfer.drop(version)
                if not self._transfer.is_persisted(version):
                    self._transfer.remove(version)
        self._transfer.release([source])

    def _take(self, block: KVBlock) -> None:
        """Index a block in memory that was allocated for it, and save it."""
        block_id = block.block_id
        assert block_id is not None
        self._transfer.keep(block_id)
        self._transfer.save(self._index.add(block))
        self._transfer.release([block_id])

    # -- carrying to another machine -------------------------------------------------------------

    def lend(self, record: AgentRecord) -> Lending:
        """An agent's blocks, to be read by another thread until they are given back on this one."""
        return Lending(self._engine, record)

    def take_in(self, record: AgentRecord) -> TakingIn:
        """Begin to bring an agent's blocks from elsewhere."""
        return TakingIn(self._engine, record)

    # -- inside ----------------------------------------------------------------------------------

    def _path(self, record: AgentRecord) -> list[KVBlock]:
        return self._index.path(self._root(record), pack_tokens(record.token_ids))

    def _root(self, record: AgentRecord) -> BlockHash:
        return self._engine.context.root(record.namespace)
