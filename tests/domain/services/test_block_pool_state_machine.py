"""`BlockPool` beside a model too simple to be wrong: one record per block, copied before every step."""

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from semantic.domain.errors import BlockNotInUseError, PoolError, PoolExhaustedError, UnknownBlockError
from semantic.domain.identifiers import BlockId
from semantic.domain.services import Allocation, BlockPool, Released

PICKS = st.lists(st.integers(0, 7), max_size=4)


class NaivePool:
    """Per block: its holders and whether its contents are kept. Lists are in the order of reuse."""

    def __init__(self, total_blocks: int) -> None:
        self.total_blocks = total_blocks
        self.withheld = 0
        self.holders: dict[BlockId, int] = {}
        self.kept: set[BlockId] = set()
        self.free: list[BlockId] = []
        self.evictable: list[BlockId] = []

    def adopt(self, allocation: Allocation, num_blocks: int) -> None:
        """Check an allocation against the order of reuse. Ids of fresh blocks are the pool's choice."""
        evicted = self.evictable[: self.excess(num_blocks)]
        free = self.free[::-1][: num_blocks - len(evicted)]
        num_fresh = num_blocks - len(evicted) - len(free)
        fresh = list(allocation.block_ids[len(free) : len(free) + num_fresh])
        assert allocation == Allocation(tuple(free + fresh + evicted), tuple(evicted))
        assert len(set(fresh)) == num_fresh
        assert not set(fresh) & set(self.holders)
        for block_id in allocation.block_ids:
            self.holders[block_id] = 1
            self.kept.discard(block_id)
        self.free = [block_id for block_id in self.free if block_id not in free]
        self.evictable = [block_id for block_id in self.evictable if block_id not in evicted]

    def excess(self, num_blocks: int) -> int:
        """How many have to be evicted before so many can be handed out."""
        kept = sum(holders > 0 for holders in self.holders.values()) + len(self.evictable)
        return max(0, kept + num_blocks + self.withheld - self.total_blocks)

    def share(self, block_ids: list[BlockId]) -> None:
        for block_id in block_ids:
            self.check_not_free(block_id)
            self.holders[block_id] += 1
            self.evictable = [other for other in self.evictable if other != block_id]

    def release(self, block_ids: list[BlockId]) -> Released:
        freed: list[BlockId] = []
        evictable: list[BlockId] = []
        for block_id in block_ids:
            if self.holders[block_id] == 0:
                raise BlockNotInUseError("nobody holds it")
            self.holders[block_id] -= 1
            if self.holders[block_id] == 0:
                (evictable if block_id in self.kept else freed).append(block_id)
        self.free += freed
        self.evictable += evictable
        return Released(tuple(freed), tuple(evictable))

    def keep(self, block_ids: list[BlockId]) -> None:
        for block_id in block_ids:
            self.check_not_free(block_id)
            self.kept.add(block_id)

    def touch(self, block_ids: list[BlockId]) -> None:
        for block_id in block_ids:
            if block_id in self.evictable:
                self.evictable.remove(block_id)
                self.evictable.append(block_id)

    def forget(self, block_ids: list[BlockId]) -> tuple[BlockId, ...]:
        freed = []
        for block_id in dict.fromkeys(block_ids):
            self.check_not_free(block_id)
            self.kept.discard(block_id)
            if block_id in self.evictable:
                self.evictable.remove(block_id)
                freed.append(block_id)
        self.free += freed
        return tuple(freed)

    def check_not_free(self, block_id: BlockId) -> None:
        if block_id in self.free:
            raise BlockNotInUseError("free")


class BlockPoolMachine(RuleBasedStateMachine):
    """Every verb gives what the model gives, raises when it raises, and then leaves everything as it was."""

    @initialize(total_blocks=st.integers(1, 6))
    def open(self, total_blocks: int) -> None:
        self.pool, self.model = BlockPool(total_blocks), NaivePool(total_blocks)
        (self.foreign,) = BlockPool(1).allocate(1).block_ids

    @rule(num_blocks=st.integers(0, 5))
    def allocate(self, num_blocks: int) -> None:
        available = self.model.total_blocks - self.model.withheld - len(self.in_use())
        if num_blocks > available:
            with pytest.raises(PoolExhaustedError) as caught:
                self.pool.allocate(num_blocks)
            assert (caught.value.requested, caught.value.available) == (num_blocks, available)
        else:
            self.model.adopt(self.pool.allocate(num_blocks), num_blocks)

    @rule(units=st.integers(0, 4))
    def withhold(self, units: int) -> None:
        if units > self.model.total_blocks - len(self.in_use()):
            with pytest.raises(PoolExhaustedError):
                self.pool.withhold(units)
            return
        self.model.withheld = units
        evicted = tuple(self.model.evictable[: self.model.excess(0)])
        assert self.pool.withhold(units) == evicted
        self.model.forget(list(evicted))

    @rule(picks=PICKS)
    def share(self, picks: list[int]) -> None:
        self.both("share", self.choose(picks, self.in_use() + self.model.evictable))

    @rule(picks=PICKS)
    def release(self, picks: list[int]) -> None:
        self.both("release", self.choose(picks, self.in_use()))

    @rule(picks=PICKS)
    def keep(self, picks: list[int]) -> None:
        self.both("keep", self.choose(picks, self.in_use() + self.model.evictable))

    @rule(picks=PICKS)
    def touch(self, picks: list[int]) -> None:
        self.both("touch", self.choose(picks, self.in_use() + self.model.evictable))

    @rule(picks=PICKS)
    def forget(self, picks: list[int]) -> None:
        self.both("forget", self.choose(picks, self.in_use() + self.model.evictable))

    @rule(verb=st.sampled_from(["share", "release", "keep", "touch", "forget"]), picks=PICKS)
    def name_any_block(self, verb: str, picks: list[int]) -> None:
        self.both(verb, self.choose(picks, [*self.model.holders, self.foreign]))

    @rule(picks=PICKS)
    def retire(self, picks: list[int]) -> None:
        """Keep and give back altogether: evictable blocks are rare otherwise."""
        for block_id in dict.fromkeys(self.choose(picks, self.in_use())):
            self.both("keep", [block_id])
            self.both("release", [block_id] * self.model.holders[block_id])

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.check_integrity()
        model = self.model
        in_use = len(self.in_use())
        assert self.pool.num_in_use == in_use
        assert self.pool.num_evictable == len(model.evictable)
        assert self.pool.num_free == model.total_blocks - model.withheld - in_use - len(model.evictable)
        assert {block_id: self.pool.holders(block_id) for block_id in model.holders} == model.holders

    def teardown(self) -> None:
        """Drain: what everyone gives back is all there again."""
        if not hasattr(self, "pool"):
            return
        everything = [block_id for block_id, holders in self.model.holders.items() for _ in range(holders)]
        self.both("release", everything)
        assert self.pool.num_available == self.model.total_blocks - self.model.withheld
        self.pool.check_integrity()

    def in_use(self) -> list[BlockId]:
        return [block_id for block_id, holders in self.model.holders.items() if holders]

    def choose(self, picks: list[int], block_ids: list[BlockId]) -> list[BlockId]:
        return [block_ids[pick % len(block_ids)] for pick in picks if block_ids]

    def both(self, verb: str, block_ids: list[BlockId]) -> None:
        after = copy.deepcopy(self.model)
        try:
            if self.foreign in block_ids:
                raise UnknownBlockError("foreign")
            expected = getattr(after, verb)(block_ids)
        except PoolError as error:
            with pytest.raises(type(error)):
                getattr(self.pool, verb)(block_ids)
        else:
            assert getattr(self.pool, verb)(block_ids) == expected
            self.model = after


BlockPoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBlockPoolAgreesWithANaiveModel = BlockPoolMachine.TestCase
