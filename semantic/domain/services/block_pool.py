"""Who holds which block.

Every block that was ever handed out is in exactly one place:

    free        on the stack ``_free``
    in use      in ``_holders``, with at least one holder
    evictable   in ``_evictable``: nobody holds it, its contents were worth keeping

What is in use and what is evictable weighs no more than the pool's capacity, less what is withheld for other things,
in units that are the pool's owner's: blocks, or bytes where blocks differ in size.

    allocate: free -> in use, then evictable -> in use       release: in use -> free, or evictable if kept
    touch:    the order of the evictable                     keep:    what release does
    share:    evictable -> in use                            forget:  evictable -> free
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from itertools import count

from attrs import frozen

from semantic.domain.errors import (
    BlockCountError,
    BlockNotInUseError,
    BudgetTooSmallError,
    InvalidSpecError,
    PoolExhaustedError,
    PoolIntegrityError,
    UnknownBlockError,
)
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects.cache_spec import ModelCacheSpec

_INDEX_BITS = 32  # a block id is serial << 32 | index, so that another pool's ids are seen to be foreign
_serials = count(1)


@frozen
class Allocation:
    """``block_ids`` are the caller's, one holder each. Those in ``evicted`` had contents, lost now."""

    block_ids: tuple[BlockId, ...]
    evicted: tuple[BlockId, ...]


@frozen
class Released:
    """Blocks that lost their last holder: ``freed`` have no contents any more, ``evictable`` still do."""

    freed: tuple[BlockId, ...]
    evictable: tuple[BlockId, ...]


class BlockPool:
    """Room for ``total_blocks`` blocks, handed out, shared and taken back by reference count.

    A block weighs ``block_weight`` units unless it is allocated with another weight; ``capacity`` is in units. Every
    verb is all or nothing: when it raises, the pool is unchanged. Costs are O(1) per block named, whatever the size of
    the pool. Not thread-safe: one thread owns it. Raises :class:`BlockCountError` unless ``total_blocks`` is positive.
    """

    def __init__(self, total_blocks: int, *, block_weight: int = 1, capacity: int | None = None) -> None:
        if not 0 < total_blocks < 2**_INDEX_BITS:
            raise BlockCountError(f"total_blocks must be from 1 to 2^{_INDEX_BITS} - 1, got {total_blocks!r}")
        self.total_blocks, self.block_weight = total_blocks, block_weight
        self.capacity = total_blocks * block_weight if capacity is None else capacity
        self._withheld = 0
        self._weights: dict[BlockId, int] = {}  # of what is in use or evictable
        self._weight_in_use = self._weight_evictable = 0
        self._first_id = next(_serials) << _INDEX_BITS
        self._num_handed_out = 0
        self._free: list[BlockId] = []
        self._holders: dict[BlockId, int] = {}
        self._kept: set[BlockId] = set()  # in use, and to become evictable with the last release
        self._evictable: OrderedDict[BlockId, None] = OrderedDict()  # least recently released first

    @classmethod
    def from_budget(cls, budget_bytes: int, spec: ModelCacheSpec, workspace_bytes: int = 0) -> "BlockPool":
        """A pool of what ``workspace_bytes`` leave of ``budget_bytes``; its blocks weigh ``spec.bytes_per_block``.

        State per sequence is not counted. Raises :class:`BudgetTooSmallError` if none fits,
        :class:`InvalidSpecError` if no layer of ``spec`` has blocks.
        """
        if spec.bytes_per_block == 0:
            raise InvalidSpecError(
                "layers has recurrent ones only: they take no blocks, so no budget sets their number"
            )
        weight, capacity = spec.bytes_per_block, budget_bytes - workspace_bytes
        if capacity < weight:
            raise BudgetTooSmallError(budget_bytes, weight, spec.block_tokens, workspace_bytes)
        return cls(capacity // weight, block_weight=weight, capacity=capacity)

    # -- counts ----------------------------------------------------------------------------------

    @property
    def num_free(self) -> int:
        """Blocks of the usual weight for which there is room that nothing is kept in."""
        return (self._available - self._weight_in_use - self._weight_evictable) // self.block_weight

    @property
    def num_evictable(self) -> int:
        """Blocks without holders whose contents are kept until their place is needed."""
        return len(self._evictable)

    @property
    def evictable(self) -> tuple[BlockId, ...]:
        """Those blocks, the next one to be evicted first."""
        return tuple(self._evictable)

    @property
    def num_in_use(self) -> int:
        """Blocks with at least one holder."""
        return len(self._holders)

    @property
    def num_available(self) -> int:
        """Blocks of the usual weight that :meth:`allocate` can hand out now: where nobody holds anything."""
        return self.room(self.block_weight)

    @property
    def weight_kept(self) -> int:
        """Units of all that is in use or evictable."""
        return self._weight_in_use + self._weight_evictable

    @property
    def weight_in_use(self) -> int:
        """Units of all that somebody holds."""
        return self._weight_in_use

    def room(self, weight: int) -> int:
        """How many blocks of this weight :meth:`allocate` can hand out now."""
        return (self._available - self._weight_in_use) // weight

    @property
    def _available(self) -> int:
        return self.capacity - self._withheld

    def holders(self, block_id: BlockId) -> int:
        """How many hold the block; 0 if it is free or evictable. Raises :class:`UnknownBlockError`."""
        self._check_known((block_id,))
        return self._holders.get(block_id, 0)

    # -- taking and giving back ------------------------------------------------------------------

    def allocate(self, num_blocks: int, weight: int | None = None) -> Allocation:
        """Hand out ``num_blocks`` blocks with one holder each.

        Room that is free goes first, then that of the evictable blocks that were released longest ago. Raises
        :class:`PoolExhaustedError` if there is less, :class:`BlockCountError` for a negative number.
        """
        weight = self.block_weight if weight is None else weight
        if num_blocks < 0 or weight < 1:
            raise BlockCountError(
                f"the number of blocks to allocate must be 0 or more, got {num_blocks!r} of weight {weight!r}"
            )
        if num_blocks > self.room(weight):
            raise PoolExhaustedError(num_blocks, self.room(weight), self.total_blocks)
        evicted = self._make_room(num_blocks * weight)
        reused = evicted[:num_blocks]
        self._free += evicted[num_blocks:]
        block_ids = [self._take_free() for _ in range(num_blocks - len(reused))] + reused
        self._holders.update(dict.fromkeys(block_ids, 1))
        self._weights.update(dict.fromkeys(block_ids, weight))
        self._weight_in_use += num_blocks * weight
        return Allocation(tuple(block_ids), tuple(evicted))

    def withhold(self, units: int) -> tuple[BlockId, ...]:
        """Keep so many units free of blocks from now on, not those of before; returns what was evicted for it.

        Raises :class:`PoolExhaustedError` if what is in use leaves less, :class:`BlockCountError` below 0.
        """
        if units < 0:
            raise BlockCountError(f"the units to withhold must be 0 or more, got {units!r}")
        if units > self.capacity - self._weight_in_use:
            raise PoolExhaustedError(-(-units // self.block_weight), self.room(self.block_weight), self.total_blocks)
        self._withheld = units
        evicted = self._make_room(0)
        self._free += evicted
        return tuple(evicted)

    def share(self, block_ids: Iterable[BlockId]) -> None:
        """Add one holder to each block. An evictable one is in use again, its contents still kept.

        Raises :class:`BlockNotInUseError` for a free block: its contents are gone.
        """
        block_ids = tuple(block_ids)
        self._check_not_free(block_ids)
        for block_id in block_ids:
            if block_id in self._evictable:
                del self._evictable[block_id]
                self._kept.add(block_id)
                self._weight_evictable -= self._weights[block_id]
                self._weight_in_use += self._weights[block_id]
            self._holders[block_id] = self._holders.get(block_id, 0) + 1

    def release(self, block_ids: Iterable[BlockId]) -> Released:
        """Drop one holder of each block; an id named twice drops two.

        Evictable blocks are evicted in the order of their release, so name a sequence's last block first: its
        prefix, which others may share, then goes last. Raises :class:`BlockNotInUseError` for more releases
        than holders.
        """
        block_ids = tuple(block_ids)
        self._check_known(block_ids)
        for block_id, releases in Counter(block_ids).items():
            holders = self._holders.get(block_id, 0)
            if releases > holders:
                raise BlockNotInUseError(f"block {block_id} has {holders} holders, {releases} were to be released")
        freed, evictable = [], []
        for block_id in block_ids:
            self._holders[block_id] -= 1
            if self._holders[block_id]:
                continue
            del self._holders[block_id]
            self._weight_in_use -= self._weights[block_id]
            if block_id in self._kept:
                self._kept.remove(block_id)
                self._evictable[block_id] = None
                self._weight_evictable += self._weights[block_id]
                evictable.append(block_id)
            else:
                del self._weights[block_id]
                self._free.append(block_id)
                freed.append(block_id)
        return Released(tuple(freed), tuple(evictable))

    # -- contents worth keeping ------------------------------------------------------------------

    def keep(self, block_ids: Iterable[BlockId]) -> None:
        """Let these blocks become evictable, not free, with their last release. Keeping twice is a no-op.

        Raises :class:`BlockNotInUseError` for a free block: its contents are gone.
        """
        block_ids = tuple(block_ids)
        self._check_not_free(block_ids)
        self._kept.update(block_id for block_id in block_ids if block_id in self._holders)

    def touch(self, block_ids: Iterable[BlockId]) -> None:
        """Count those of these blocks that are evictable as released just now, in this order; others are left."""
        block_ids = tuple(block_ids)
        self._check_known(block_ids)
        for block_id in block_ids:
            if block_id in self._evictable:
                self._evictable.move_to_end(block_id)

    def forget(self, block_ids: Iterable[BlockId]) -> tuple[BlockId, ...]:
        """Stop keeping these blocks' contents, and return those that are free now because nobody holds them.

        Forgetting twice is a no-op while the block is held. Raises :class:`BlockNotInUseError` for a free
        block.
        """
        block_ids = tuple(dict.fromkeys(block_ids))
        self._check_not_free(block_ids)
        self._kept.difference_update(block_ids)
        freed = tuple(block_id for block_id in block_ids if block_id in self._evictable)
        for block_id in freed:
            self._drop_evictable(block_id)
        self._free.extend(freed)
        return freed

    # -- checks ----------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Raise :class:`PoolIntegrityError` unless the books balance: nothing is kept beyond the capacity.

        Every block handed out must also be in exactly one place. O(blocks ever handed out): for tests, and
        for when the engine is idle.
        """
        free, in_use, evictable = set(self._free), set(self._holders), set(self._evictable)
        handed_out = range(self._first_id, self._first_id + self._num_handed_out)
        problems = [
            (len(free) != len(self._free), "a block is on the free stack twice"),
            (not free.isdisjoint(in_use), "a block is both free and in use"),
            (not free.isdisjoint(evictable), "a block is both free and evictable"),
            (not in_use.isdisjoint(evictable), "a block is both in use and evictable"),
            (free | in_use | evictable != set(handed_out), "the blocks are not those handed out"),
            (any(holders < 1 for holders in self._holders.values()), "a block in use has no holder"),
            (not self._kept <= in_use, "a block is marked as kept and is not in use"),
            (set(self._weights) != in_use | evictable, "the weights are not those of what is in use or evictable"),
            (self._weigh(in_use) != self._weight_in_use, "what is in use does not weigh what the books say"),
            (self._weigh(evictable) != self._weight_evictable, "what is evictable does not weigh what the books say"),
            (self.weight_kept > self._available, f"{self.weight_kept} units are kept in room for {self._available}"),
        ]
        found = [problem for is_there, problem in problems if is_there]
        if found:
            raise PoolIntegrityError("; ".join(found))

    def _make_room(self, units: int) -> list[BlockId]:
        """Evict until so many units are free; returns what was evicted."""
        evicted: list[BlockId] = []
        while self._available - self.weight_kept < units:
            block_id = next(iter(self._evictable))
            self._drop_evictable(block_id)
            evicted.append(block_id)
        return evicted

    def _drop_evictable(self, block_id: BlockId) -> None:
        del self._evictable[block_id]
        self._weight_evictable -= self._weights.pop(block_id)

    def _weigh(self, block_ids: set[BlockId]) -> int:
        return sum(self._weights.get(block_id, 0) for block_id in block_ids)

    def _take_free(self) -> BlockId:
        if self._free:
            return self._free.pop()
        self._num_handed_out += 1
        return BlockId(self._first_id + self._num_handed_out - 1)

    def _check_known(self, block_ids: tuple[BlockId, ...]) -> None:
        end = self._first_id + self._num_handed_out
        for block_id in block_ids:
            if not self._first_id <= block_id < end:
                raise UnknownBlockError(f"block {block_id} was never handed out by this pool")

    def _check_not_free(self, block_ids: tuple[BlockId, ...]) -> None:
        self._check_known(block_ids)
        for block_id in block_ids:
            if block_id not in self._holders and block_id not in self._evictable:
                raise BlockNotInUseError(f"block {block_id} is free: it was released, and its contents are gone")
