"""The prefix cache: sequences take what is cached of their prompts when they are admitted, and leave theirs behind."""

from collections.abc import Callable, Hashable, Iterable

from attrs import define

from semantic.application.block_transfer import BlockTransfer
from semantic.application.lease import Lease, Part, Take
from semantic.application.ports.model import CacheMemory
from semantic.application.sealing import Sealing
from semantic.domain.entities import KVBlock, Sequence
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.services import BlockPool, Match, PrefixIndex
from semantic.domain.services.references import References
from semantic.domain.value_objects import pack_tokens

Settled = Callable[[bool], None]


@define
class PrefixCacheStats:
    """Prompt tokens that were looked up, and of them those found in memory and in the store."""

    looked_up_tokens: int = 0
    memory_tokens: int = 0
    store_tokens: int = 0


class PrefixCache:
    """Not thread-safe: the engine's thread owns it.

    In a block that is sealed in place, rows that were filled never change. At most one sequence writes behind them
    (``_written``), and only if it continues just where they end; any other takes a copy.
    """

    def __init__(
        self,
        *,
        pool: BlockPool,
        index: PrefixIndex,
        memory: CacheMemory,
        transfer: BlockTransfer,
        references: References,
        chunk_tokens: int,
    ) -> None:
        self._pool, self.index, self._memory = pool, index, memory
        self.transfer, self.references = transfer, references
        self._in_place = memory.seals_in_place
        self._written: set[BlockId] = set()
        self._pinned: dict[Hashable, list[BlockId]] = {}
        self.sealing = Sealing(
            index=index, memory=memory, transfer=transfer, references=references, chunk_tokens=chunk_tokens
        )
        self.stats = PrefixCacheStats()

    def lease(self, root: BlockHash, prompt_token_ids: Iterable[int], owner: object = None) -> Lease:
        """Begin a sequence's dealings with the cache; nothing is held yet."""
        return Lease(root, self._memory.open(), pack_tokens(prompt_token_ids), owner)

    def match(self, lease: Lease, limit: int) -> Match:
        """The longest cached prefix of the lease's prompt, of at most ``limit`` tokens."""
        return self.index.match(lease.root, lease.tokens, limit)

    # -- taking ----------------------------------------------------------------------------------

    def acquire(self, sequence: Sequence, lease: Lease, num_tokens: int, settled: Settled) -> bool:
        """Give a waiting sequence blocks for ``num_tokens``, as much as possible of them cached. False without room.

        ``settled`` is told when all is loaded, at once where nothing has to be; with False if something could not be
        loaded: then nothing is held any more and the sequence has to be acquired again.
        """
        match = self.match(lease, sequence.num_prefill_tokens)
        for parts, num_cached in self._plans(match):
            if self._admit(sequence, lease, num_tokens, parts):
                lease.num_tokens = num_cached
                self._load(sequence, lease, settled)
                return True
        return False

    def grow(self, sequence: Sequence, lease: Lease) -> bool:
        """Give a running sequence one block more. False if there is no room now."""
        if not self.transfer.has_room(1):
            return False
        block_ids = self.transfer.allocate(1)
        sequence.grow(block_ids)
        self._memory.attach(lease.cache, block_ids)
        if self._in_place:
            lease.written += block_ids
            self._written.update(block_ids)
        return True

    def prefetch(self, lease: Lease, limit: int) -> None:
        """Load what is cached of a prompt that has to wait, as far as there is room that nobody holds."""
        match = self.match(lease, limit)
        self.transfer.touch(match.blocks)
        for block in match.blocks:
            if not block.stored or self.transfer.place_of(block) is not None:
                continue
            block_id = self.transfer.allocate_for(block)
            if block_id is not None:
                self.transfer.load(block, block_id, lambda ok: None)
                self.transfer.release([block_id])  # the load holds it

    # -- pinning ---------------------------------------------------------------------------------

    def pin(self, owner: Hashable, blocks: Iterable[KVBlock]) -> None:
        """Hold those of these blocks that are in memory, instead of what was pinned for ``owner`` before."""
        pinned = [block.block_id for block in blocks if block.block_id is not None]
        self._pool.share(pinned)
        self.unpin(owner)
        self._pinned[owner] = pinned

    def unpin(self, owner: Hashable) -> None:
        """Hold nothing more for ``owner``."""
        self.transfer.release(self._pinned.pop(owner, [])[::-1])

    @property
    def has_pins(self) -> bool:
        """Whether anything is held for an owner."""
        return any(self._pinned.values())

    def unpin_all(self) -> bool:
        """Give up every pin, and return whether there was one: a request could not run otherwise."""
        owners = list(self._pinned)
        for owner in owners:
            self.unpin(owner)
        return bool(owners)

    # -- how to take it --------------------------------------------------------------------------

    def _plans(self, match: Match) -> Iterable[tuple[list[Part], int]]:
        """What to take, best first; where there is no room to hold so many blocks, less of them."""
        parts = self._parts(match)
        if parts:
            yield parts, match.num_tokens
        if self._in_place and len(parts) > 1 and parts[-1].take is Take.COPY:
            yield parts[:-1], parts[-1].block.start
        yield [], 0

    def _parts(self, match: Match) -> list[Part]:
        parts = [Part(block, self._how_to_read(block)) for block in match.blocks]
        if not parts or not self._in_place:
            return parts
        last, used = match.blocks[-1], match.used_of_last
        is_whole = used == last.num_tokens == self.index.block_tokens
        return parts if is_whole else [*parts[:-1], Part(last, self._how_to_write_on(last, used))]

    def _how_to_read(self, block: KVBlock) -> Take:
        return Take.LOAD if self.transfer.place_of(block) is None else Take.SHARE

    def _how_to_write_on(self, block: KVBlock, used: int) -> Take:
        if self.transfer.place_of(block) is None:
            return Take.LOAD if used == block.num_tokens else Take.LOAD_APART
        if block.block_id is None or block.block_id in self._written:
            return Take.COPY
        indexed = max(version.num_tokens for version in self.index.residents(block.block_id))
        rows = max(indexed, self.transfer.rows_written(block.block_id))
        return Take.SHARE if used == rows else Take.COPY

    def _admit(self, sequence: Sequence, lease: Lease, num_tokens: int, parts: list[Part]) -> bool:
        """Hold what the parts name and allocate the rest, or hold nothing."""
        there = [self._place(part.block) for part in parts if part.take in (Take.SHARE, Take.COPY)]
        needed = sequence.block_table.blocks_needed(num_tokens)
        needed -= sum(part.take is Take.SHARE for part in parts) if self._in_place else 0
        apart = [] if self._in_place else [part.block for part in parts if part.take is Take.LOAD]
        weight = self.transfer.live_weight(num_tokens, needed)
        self._pool.share(there)
        if not self.transfer.has_room_for(needed, weight, apart):
            self.transfer.release(there[::-1])
            return False
        fresh = self.transfer.allocate(needed, weight)
        lease.parts, lease.placed = parts, [self._take(part, fresh, lease) for part in parts]
        if self._in_place:
            sequence.admit([*lease.placed, *fresh])
            whole = sum(part.block.num_tokens == self.index.block_tokens for part in parts if part.take in _READ)
            lease.written = list(sequence.block_table.block_ids[whole:])
            self._written.update(lease.written)
        else:
            lease.held += lease.placed
            sequence.admit(fresh)
        return True

    def _take(self, part: Part, fresh: list[BlockId], lease: Lease) -> BlockId:
        """The block that the part's contents will be in."""
        if part.take is Take.SHARE:
            return self._place(part.block)
        if part.take is Take.COPY:
            lease.held.append(self._place(part.block))
        if self._in_place:
            return fresh.pop(0)
        block_id = self.transfer.allocate_for(part.block)
        assert block_id is not None, "there was room a moment ago"
        return block_id

    def _place(self, block: KVBlock) -> BlockId:
        place = self.transfer.place_of(block)
        assert place is not None, "the block is nowhere"
        return place

    def _count(self, sequence: Sequence, lease: Lease) -> None:
        self.transfer.note_use([part.block for part in lease.parts])
        if sequence.num_preemptions:  # what it takes up again was no prompt that was looked up
            return
        from_store = [part for part in lease.parts if part.take in (Take.LOAD, Take.LOAD_APART)]
        in_store = sum(min(part.block.end, lease.num_tokens) - part.block.start for part in from_store)
        self.stats.looked_up_tokens += sequence.num_prompt_tokens
        self.stats.store_tokens += in_store
        self.stats.memory_tokens += lease.num_tokens - in_store

    # -- loading ---------------------------------------------------------------------------------

    def _load(self, sequence: Sequence, lease: Lease, settled: Settled) -> None:
        def loaded(ok: bool) -> None:
            lease.loading -= 1
            lease.failed |= not ok
            if not lease.loading and not lease.is_over:
                self._settle(sequence, lease, settled)

        lease.loading = 1  # this method's own, so that nothing settles before all loads were started
        for part, block_id in zip(lease.parts, lease.placed, strict=True):
            if part.take is Take.LOAD:
                lease.loading += 1
                self.transfer.load(part.block, block_id, loaded)
            elif part.take is Take.LOAD_APART:
                lease.loading += 1
                self.transfer.load_apart(part.block, block_id, loaded)
            elif not part.block.is_resident:
                lease.loading += 1
                self.transfer.join(part.block, loaded)
        loaded(True)

    def _settle(self, sequence: Sequence, lease: Lease, settled: Settled) -> None:
        if lease.failed:
            lease.failed = False
            self._give_back(sequence, lease)
            settled(False)
            return
        self._resume(sequence, lease)
        self._drop_held(lease)
        self._count(sequence, lease)
        whole = lease.num_tokens // self.index.block_tokens
        lease.hashes = [part.block.hash for part in lease.parts[:whole]]
        sequence.begin(lease.num_tokens)
        settled(True)

    def _resume(self, sequence: Sequence, lease: Lease) -> None:
        table = sequence.block_table.block_ids
        if lease.parts and lease.parts[-1].take is Take.COPY:
            used = lease.num_tokens - lease.parts[-1].block.start
            self._memory.copy(lease.held[-1], lease.placed[-1], used)
        if not self._in_place:
            self._memory.attach(lease.cache, table)
        if lease.placed:
            self._memory.resume(lease.cache, lease.placed, lease.num_tokens)
        if self._in_place:
            self._memory.attach(lease.cache, table[len(lease.placed) :])

    # -- leaving ---------------------------------------------------------------------------------

    def finish(self, sequence: Sequence, lease: Lease, *, keep: bool) -> None:
        """End a sequence's dealings: leave its context behind if it may be kept, and give its blocks back."""
        lease.is_over = True
        if not self._in_place:  # what is sealed needs the room that the live cache's blocks account for
            self.transfer.release(list(reversed(sequence.block_table.clear())))
        if keep and sequence.num_computed_tokens:
            if lease.cache.num_tokens > sequence.num_computed_tokens:  # a draft went on beyond a stop
                self._memory.trim(lease.cache, sequence.num_computed_tokens)
            self.sealing.ended(sequence, lease)
        self._memory.close(lease.cache)
        self._note_filled(sequence, lease, is_certain=keep)
        self._give_back(sequence, lease)

    def _note_filled(self, sequence: Sequence, lease: Lease, *, is_certain: bool) -> None:
        """Remember how far the blocks were written that only this sequence wrote on; a failed forward doesn't tell."""
        size = self.index.block_tokens
        for i, block_id in enumerate(lease.written, len(sequence.block_table) - len(lease.written)):
            rows = min(size, sequence.num_computed_tokens - i * size) if is_certain else size
            self.transfer.note_rows(block_id, rows)

    def _give_back(self, sequence: Sequence, lease: Lease) -> None:
        self._written.difference_update(lease.written)
        self.transfer.release(list(reversed(sequence.block_table.clear())))
        self._drop_held(lease)
        lease.parts, lease.placed, lease.written, lease.num_tokens = [], [], [], 0

    def _drop_held(self, lease: Lease) -> None:
        held, lease.held = lease.held, []
        self.transfer.release(held[::-1])


_READ = (Take.SHARE, Take.LOAD)
