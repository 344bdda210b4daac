"""Blocks between pool, memory and store. What is under way holds its block in the pool, so that nobody reuses it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from attrs import define, field

from semantic.application.ports.block_store import BlockToSave, StoredBlock
from semantic.application.ports.model import CacheMemory
from semantic.application.ports.telemetry import Telemetry
from semantic.application.store_tier import StoreTier, Write
from semantic.domain.entities import KVBlock
from semantic.domain.errors import PoolExhaustedError
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.services import BlockPool, PrefixIndex

Then = Callable[[bool], None]


@define(eq=False)
class _Load:
    block_id: BlockId
    waiting: list[Then] = field(factory=list)


class BlockTransfer:
    """Saves and loads blocks of one context. Without a tier nothing is saved, and nothing is there to load.

    ``block_bytes``: bytes of a block that weighs what the pool's blocks usually do.
    """

    def __init__(
        self,
        *,
        pool: BlockPool,
        index: PrefixIndex,
        memory: CacheMemory,
        tier: StoreTier | None,
        context: str,
        block_bytes: int,
        telemetry: Telemetry,
    ) -> None:
        self._block_bytes = block_bytes
        self._pool, self._index, self._memory = pool, index, memory
        self.tier = tier
        self._context, self._telemetry = context, telemetry
        self._rows: dict[BlockId, int] = {}
        self._saving: dict[BlockHash, Write] = {}
        self._superseded: dict[BlockHash, list[KVBlock]] = {}  # by what is being saved
        self._held_by_saves: Counter[BlockId] = Counter()
        self._loading: dict[KVBlock, _Load] = {}  # not by name: a block with state may take the place of one without
        if tier is not None:
            tier.on_evicted = self._note_evicted
        self._reading = 0
        self.evicted_blocks = self.loaded_blocks = self.lost_blocks = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything holds a block because it is on its way to the store or from it."""
        return bool(self._held_by_saves) or self._reading > 0

    def place_of(self, block: KVBlock) -> BlockId | None:
        """Where a block is, or is being loaded to."""
        load = self._loading.get(block)
        return load.block_id if load else block.block_id

    # -- memory ----------------------------------------------------------------------------------

    def rows_written(self, block_id: BlockId) -> int:
        """How many rows were written in place: more than are indexed if that failed, or if it is superseded."""
        return self._rows.get(block_id, 0)

    def note_rows(self, block_id: BlockId, rows: int) -> None:
        """Remember that so many rows were written, until the block is allocated again."""
        self._rows[block_id] = max(rows, self.rows_written(block_id))

    def has_room(self, num_blocks: int) -> bool:
        """Whether so many blocks can be allocated now."""
        return num_blocks <= self._pool.num_available

    def withhold(self, num_bytes: int) -> bool:
        """Keep so many bytes free of blocks from now on. False if what is held leaves less."""
        try:
            evicted = self._pool.withhold(self._units(num_bytes) if num_bytes else 0)
        except PoolExhaustedError:
            return False
        self._forget_contents(evicted)
        return True

    def weight(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """What a block with these tokens weighs once it is sealed."""
        return self._units(self._memory.sealed_bytes(start, num_tokens, with_state=with_state))

    def live_weight(self, num_tokens: int, num_blocks: int) -> int:
        """What each of a sequence's own ``num_blocks`` blocks weighs if it grows to so many tokens.

        Windows make a long sequence's blocks lighter than full ones: it never holds all of every layer at once.
        """
        if self._memory.seals_in_place or not self._block_bytes or not num_blocks:
            return self._pool.block_weight
        return self._units(self._memory.live_bytes(num_tokens), num_blocks)

    def room_needed(self, num_tokens: int, bytes_beside: int) -> int:
        """How many blocks of the usual weight make room for a sequence that grows to so many tokens, and more."""
        num_bytes = self._memory.live_bytes(num_tokens) + bytes_beside
        return -(-num_bytes // self._block_bytes) if self._block_bytes else 0

    def bytes_of(self, units: int) -> int:
        """Bytes that so many of the pool's units stand for."""
        return units * self._block_bytes // self._pool.block_weight

    def _units(self, nbytes: int, shares: int = 1) -> int:
        """So many bytes in the pool's units, in each of so many shares."""
        if not self._block_bytes:
            return 1
        return max(1, -(-nbytes * self._pool.block_weight // (self._block_bytes * shares)))

    def weight_of(self, block: KVBlock) -> int:
        """What a block weighs in memory."""
        return self.weight(block.start, block.num_tokens, with_state=block.has_state)

    def has_room_for(self, num_blocks: int, weight: int, sealed: Iterable[KVBlock]) -> bool:
        """Whether so many blocks of this weight and these sealed ones can be allocated now."""
        return num_blocks * weight + sum(map(self.weight_of, sealed)) <= self._pool.room(1)

    def allocate_for(self, block: KVBlock) -> BlockId | None:
        """A block to load or to seal this one into; None if there is no room for it."""
        weight = self.weight_of(block)
        return self.allocate(1, weight)[0] if self._pool.room(weight) else None

    def allocate(self, num_blocks: int, weight: int | None = None) -> list[BlockId]:
        """Blocks from the pool; what they held before is evicted."""
        allocation = self._pool.allocate(num_blocks, weight)
        self._forget_contents(allocation.evicted)
        for block_id in allocation.block_ids:
            self._rows.pop(block_id, None)
        return list(allocation.block_ids)

    def _forget_contents(self, evicted: Sequence[BlockId]) -> None:
        for block_id in evicted:
            self._index.evict(block_id)
        self._memory.discard(evicted)
        self.evicted_blocks += len(evicted)

    def hold(self, blocks: Iterable[KVBlock | None]) -> list[BlockId]:
        """Hold those of these blocks that are in memory, until they are released."""
        block_ids = [block.block_id for block in blocks if block is not None and block.block_id is not None]
        self._pool.share(block_ids)
        return block_ids

    def release(self, block_ids: list[BlockId]) -> None:
        """Drop a holder of each block, and the memory of those that nobody holds or keeps."""
        self._memory.discard(self._pool.release(block_ids).freed)

    def keep(self, block_id: BlockId) -> None:
        """Keep a block's contents when nobody holds it any more, until its memory is needed."""
        self._pool.keep([block_id])

    def touch(self, blocks: Iterable[KVBlock]) -> None:
        """Count blocks, in the order of their tokens, as used just now: the last one is evicted first."""
        self._pool.touch([block.block_id for block in blocks if block.block_id is not None][::-1])

    def drop(self, block: KVBlock) -> None:
        """Drop a block from memory; in the store it stays."""
        block_id = block.block_id
        if block_id is not None and self._index.detach(block):
            self._memory.discard(self._pool.forget([block_id]))

    def remove(self, block: KVBlock) -> None:
        """Erase a block from memory and store."""
        if self.forget(block) and self.tier is not None:
            self.tier.delete([block.hash])

    def supersede(self, shorter: KVBlock, longer: KVBlock) -> None:
        """Erase a block once a longer version is as safe as it is; until then it can be found."""
        if longer.stored or not self.is_persisted(shorter):
            self.remove(shorter)
            return
        saving = self._saving.get(longer.hash)
        if self.tier is not None and saving is not None:
            self.tier.delete([shorter.hash], unless_failed=saving)
            self._superseded.setdefault(longer.hash, []).append(shorter)
        if shorter.stored:  # while it is being saved, it can't be loaded yet
            self.drop(shorter)

    def forget(self, block: KVBlock) -> bool:
        """Take a block out of memory and index. Returns whether the store has it, or will, and has to be told."""
        is_persisted = self.is_persisted(block)
        self._saving.pop(block.hash, None)
        self._superseded.pop(block.hash, None)
        self.drop(block)
        self._index.remove(block)
        return is_persisted

    def stored_block(self, block: KVBlock) -> StoredBlock:
        """A block as the store knows it."""
        return StoredBlock(
            hash=block.hash,
            parent=block.parent,
            context=self._context,
            start=block.start,
            tokens=block.tokens,
            has_state=block.has_state,
        )

    # -- to the store ----------------------------------------------------------------------------

    def is_persisted(self, block: KVBlock) -> bool:
        """Whether the store has the block, or will."""
        return block.stored or block.hash in self._saving

    def note_use(self, blocks: Iterable[KVBlock]) -> None:
        """Tell the store which of its blocks were used."""
        if self.tier is not None:
            self.tier.touch(block.hash for block in blocks if block.stored)

    def save(self, block: KVBlock) -> None:
        """Have a resident block saved, unless it is or is about to be."""
        if self.tier is None or self.is_persisted(block):
            return
        block_id = block.block_id
        assert block_id is not None, "only what is resident can be saved"
        self._pool.share([block_id])
        self._held_by_saves[block_id] += 1
        tensors = self._memory.contents(block_id, block.num_tokens)

        def done(error: Exception | None) -> None:
            if self._saving.get(block.hash) is write:
                del self._saving[block.hash]
                block.stored = error is None
                for shorter in self._superseded.pop(block.hash, []):
                    if block.stored and self._index.get(shorter.hash) is shorter:
                        self.forget(shorter)  # the store has erased it by now
            self._held_by_saves[block_id] -= 1
            if not self._held_by_saves[block_id]:
                del self._held_by_saves[block_id]
            self.release([block_id])

        write = self._saving[block.hash] = self.tier.save(BlockToSave(self.stored_block(block), tensors), done)

    def _note_evicted(self, hashes: Iterable[BlockHash]) -> None:
        for block in map(self._index.get, hashes):
            if block is not None:
                self._index.unstore(block)

    def is_room_coming(self) -> bool:
        """Whether a save or a load is under way that alone holds its block: with its end the block can be evicted."""
        saves = any(self._pool.holders(block_id) == held for block_id, held in self._held_by_saves.items())
        return saves or any(self._pool.holders(load.block_id) == 1 for load in self._loading.values())

    # -- from the store --------------------------------------------------------------------------

    def load(self, block: KVBlock, block_id: BlockId, then: Then) -> None:
        """Load a block to where it will be resident. ``then`` is told whether it worked."""
        self._loading[block] = _Load(block_id, [then])

        def done(error: Exception | None) -> None:
            load = self._loading.pop(block)
            if error is None and self._index.get(block.hash) is block and not block.is_resident:
                self._index.make_resident(block, block_id)
                self._pool.keep([block_id])
            for waiting in load.waiting:
                waiting(error is None)

        self._start(block, block_id, done)

    def join(self, block: KVBlock, then: Then) -> None:
        """Be told as well when a load that is under way has ended."""
        self._loading[block].waiting.append(then)

    def load_apart(self, block: KVBlock, block_id: BlockId, then: Then) -> None:
        """Load a block's contents to be written on: the block itself does not become resident."""
        self._start(block, block_id, lambda error: then(error is None))

    def _start(self, block: KVBlock, block_id: BlockId, done: Callable[[Exception | None], None]) -> None:
        assert self.tier is not None, "without a store there is nothing to load"
        self._pool.share([block_id])
        self._reading += 1

        def ended(error: Exception | None) -> None:
            self._reading -= 1
            if error is None:
                self.loaded_blocks += 1
            else:
                self._give_up(block, error)
            done(error)
            self.release([block_id])

        self.tier.load(block.hash, self._memory.receive(block_id, block.num_tokens), ended)

    def _give_up(self, block: KVBlock, error: Exception) -> None:
        """A block that can't be loaded is a miss from now on; lost only if it was not erased on purpose meanwhile."""
        if self._index.get(block.hash) is not block:
            return
        self.lost_blocks += 1
        self._telemetry.warning(
            "cache.block.lost",
            block=block.hash.hex(),
            tokens=block.num_tokens,
            error=f"{type(error).__name__}: {error}",
        )
        self._index.unstore(block)
