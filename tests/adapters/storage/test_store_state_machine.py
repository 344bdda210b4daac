"""The store on disk, and the one in memory, beside a model too simple to be wrong: a list in the order of use."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stored_blocks import CONTEXT, FILE, PAYLOAD, chain, names, read, record, written

from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.ports.block_store import BlockStore, BlockToSave
from semantic.domain.errors import BlockDamagedError, BlockMissingError, StoreFullError
from semantic.domain.identifiers import BlockHash

TREE = {block.block.hash: block for block in (*chain([1], [2], [3]), *chain([1], [4]), *chain([5], [6]))}
HASHES = list(TREE)
PICKS = st.lists(st.sampled_from(HASHES), max_size=3)
NAMES = st.sampled_from(["alice", "bob"])


class NaiveStore:
    """Blocks of one size, the least recently used first; room for so many."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.used: list[BlockHash] = []
        self.damaged: set[BlockHash] = set()
        self.agents: dict[str, list[BlockHash]] = {}

    def save(self, hashes: list[BlockHash]) -> list[BlockHash] | None:
        """The evicted, or None if it is refused."""
        new = [name for name in dict.fromkeys(hashes) if name not in self.used]
        left, evicted = list(self.used), []
        while new and len(left) + len(new) > self.room:
            victims = self.evictable(left, hashes)
            if not victims:
                return None
            evicted.append(victims[0])
            left.remove(victims[0])
        self.drop(evicted)
        self.used += new
        return evicted

    def evictable(self, left: list[BlockHash], saved: list[BlockHash]) -> list[BlockHash]:
        referenced = {name for references in self.agents.values() for name in references}
        free = [name for name in left if not self.is_needed(name, left, saved)]
        return [name for name in free if name not in referenced] + [name for name in free if name in referenced]

    def is_needed(self, name: BlockHash, left: list[BlockHash], saved: list[BlockHash]) -> bool:
        """By a block that is in the store, or being saved."""
        return any(name in self.ancestry(other, left) for other in [*left, *saved] if other != name or name in saved)

    def ancestry(self, name: BlockHash, left: list[BlockHash]) -> list[BlockHash]:
        """The block, and what it stands on as far as the store has it without a gap."""
        found = [name]
        while TREE[found[-1]].block.parent in left:
            found.append(TREE[found[-1]].block.parent)
        return found

    def drop(self, hashes: list[BlockHash]) -> None:
        self.used = [name for name in self.used if name not in hashes]
        self.damaged -= set(hashes)


class StoreMachine(RuleBasedStateMachine):
    """Every verb gives what the model gives, and what is read is what was written."""

    def __init__(self) -> None:
        super().__init__()
        shared_memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
        self.disk: DiskStore | None = None

    @initialize(room=st.integers(1, 6))
    def open(self, room: int) -> None:
        self.model = NaiveStore(room)
        self.disk = DiskStore(self.folder / "kv", room * FILE)
        self.memory = MemoryStore(room * PAYLOAD)

    @property
    def stores(self) -> tuple[BlockStore, ...]:
        assert self.disk is not None
        return self.disk, self.memory

    @rule()
    def reopen(self) -> None:
        assert self.disk is not None
        self.disk.close()
        self.disk = DiskStore(self.folder / "kv", self.model.room * FILE)

    @rule(picks=PICKS)
    def save(self, picks: list[BlockHash]) -> None:
        self.check_save(picks)

    @rule(leaf=st.sampled_from(HASHES))
    def save_a_chain(self, leaf: BlockHash) -> None:
        self.check_save(self.model.ancestry(leaf, HASHES)[::-1])

    @rule(pick=st.sampled_from(HASHES))
    def load(self, pick: BlockHash) -> None:
        error = BlockDamagedError if pick in self.model.damaged else BlockMissingError
        for store in self.stores:
            if pick in self.model.used and pick not in self.model.damaged:
                assert read(store, pick) == written(TREE[pick])
            else:
                with pytest.raises(error):
                    read(store, pick)
        if pick in self.model.damaged:
            self.model.drop([pick])

    @rule(pick=st.sampled_from(HASHES))
    def damage(self, pick: BlockHash) -> None:
        if pick not in self.model.used or pick in self.model.damaged:
            return
        path = self.folder / "kv" / "blocks" / pick.hex()[:2] / f"{pick.hex()}.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        self.memory.damage(pick)
        self.model.damaged.add(pick)

    @rule(picks=PICKS)
    def touch(self, picks: list[BlockHash]) -> None:
        for store in self.stores:
            store.touch(picks)
        for pick in picks:
            if pick in self.model.used:
                self.model.used.remove(pick)
                self.model.used.append(pick)

    @rule(picks=PICKS)
    def delete(self, picks: list[BlockHash]) -> None:
        for store in self.stores:
            store.delete(picks)
        self.model.drop(picks)

    @rule(name=NAMES, picks=PICKS)
    def save_agent(self, name: str, picks: list[BlockHash]) -> None:
        for store in self.stores:
            store.save_agent(record(name), picks)
        self.model.agents[name] = picks

    @rule(name=NAMES, picks=PICKS)
    def forget_agent(self, name: str, picks: list[BlockHash]) -> None:
        for store in self.stores:
            store.forget_agent("default", name, picks)
        self.model.agents.pop(name, None)
        self.model.drop(picks)

    @rule()
    def clear(self) -> None:
        for store in self.stores:
            store.clear()
        self.model = NaiveStore(self.model.room)

    @invariant()
    def agrees(self) -> None:
        if self.disk is None:
            return
        model = self.model
        for store in self.stores:
            listed = [block.hash for block in store.blocks(CONTEXT)]
            assert sorted(listed) == sorted(model.used)
            assert all(TREE[name].block.parent not in listed[index:] for index, name in enumerate(listed))
            assert {agent.record.name: list(agent.blocks) for agent in store.agents()} == model.agents
            assert {report.hash for report in store.verify() if report.damage} == model.damaged
            assert store.stats().blocks == len(model.used)

    def teardown(self) -> None:
        if self.disk is not None:
            self.disk.close()
        shutil.rmtree(self.folder)

    def check_save(self, hashes: list[BlockHash]) -> None:
        blocks: list[BlockToSave] = [TREE[name] for name in hashes]
        expected = self.model.save(hashes)
        for store in self.stores:
            if expected is None:
                with pytest.raises(StoreFullError):
                    store.save(blocks)
            else:
                assert list(store.save(blocks)) == expected


def test_the_blocks_of_the_machine_are_a_tree() -> None:
    assert len(TREE) == 6
    assert names(chain([1], [4]))[0] == HASHES[0]


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStoresAgreeWithANaiveModel = StoreMachine.TestCase
