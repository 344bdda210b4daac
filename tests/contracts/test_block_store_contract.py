"""What every block store does: the one in memory, and the one on disk."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest
from stored_blocks import CONTEXT, FILE, PAYLOAD, ROOT, chain, names, read, record, written

from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.ports.block_store import (
    BlockStore,
    BlockToSave,
    StoredAgent,
    StoredBlock,
    TensorHeader,
)
from semantic.domain.errors import BlockDamagedError, BlockMissingError, StoreError, StoreFullError
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentKind

MakeStore = Callable[..., BlockStore]


@pytest.fixture(params=["memory", "disk"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str, tmp_path: Path) -> Iterator[MakeStore]:
    """Opens a store, with room for so many blocks of these tests if ``room`` is given."""
    opened: list[BlockStore] = []

    def open_store(room: int | None = None) -> BlockStore:
        budget = None if room is None else room * (PAYLOAD if kind == "memory" else FILE)
        store: BlockStore = MemoryStore(budget) if kind == "memory" else DiskStore(tmp_path / "kv", budget)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def store(make: MakeStore) -> BlockStore:
    return make()


def test_a_new_store_is_empty(store: BlockStore) -> None:
    stats = store.stats()
    assert (stats.blocks, stats.bytes, stats.agents, stats.budget_bytes) == (0, 0, 0, None)
    assert list(store.blocks(CONTEXT)) == []
    assert store.agents() == []
    assert list(store.verify()) == []


def test_what_is_read_is_what_was_saved(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4], [5])
    assert store.save(blocks) == ()
    for block in blocks:
        assert read(store, block.block.hash) == written(block)
    assert store.stats().blocks == 3
    assert 3 * PAYLOAD <= store.stats().bytes < 3 * FILE


def test_a_saved_block_does_not_follow_the_memory_it_was_saved_from(store: BlockStore) -> None:
    (block,) = chain([1, 2])
    expected = written(block)
    store.save([block])
    block.tensors[0].pieces[0][:] = bytes(block.tensors[0].pieces[0].nbytes)
    assert read(store, block.block.hash) == expected


def test_the_blocks_of_a_context_come_with_parents_first_and_without_other_contexts(store: BlockStore) -> None:
    blocks, other = chain([1, 2], [3, 4], [5]), chain([1, 2], context="d" * 64, parent=BlockHash(b"\x22" * 32))
    store.save([*blocks[::-1], *other])
    assert list(store.blocks(CONTEXT)) == [block.block for block in blocks]
    assert list(store.blocks("d" * 64)) == [other[0].block]
    assert list(store.blocks("e" * 64)) == []


def test_a_block_that_has_state_is_known_as_one(store: BlockStore) -> None:
    (plain,) = chain([1, 2])
    block = StoredBlock(hash=plain.block.hash, parent=ROOT, context=CONTEXT, start=0, tokens=b"", has_state=True)
    store.save([BlockToSave(block, plain.tensors)])
    assert list(store.blocks(CONTEXT)) == [block]


def test_saving_a_published_hash_again_leaves_it_as_it_is(store: BlockStore) -> None:
    (first,) = chain([1, 2])
    (other,) = chain([9, 9])
    store.save([first])
    store.save([BlockToSave(first.block, other.tensors), first])
    assert read(store, first.block.hash) == written(first)
    assert store.stats().blocks == 1


def test_a_hash_twice_in_one_save_is_one_block(store: BlockStore) -> None:
    (block,) = chain([1, 2])
    store.save([block, block])
    assert store.stats().blocks == 1


def test_saving_nothing_is_fine(store: BlockStore) -> None:
    assert store.save([]) == ()


def test_an_unknown_block_is_missing_and_no_memory_is_asked_for(store: BlockStore) -> None:
    def place(headers: Sequence[TensorHeader]) -> Sequence[memoryview]:
        raise AssertionError

    with pytest.raises(BlockMissingError):
        store.load(ROOT, place)


def test_a_block_that_place_refuses_is_no_longer_published(store: BlockStore) -> None:
    def place(headers: Sequence[TensorHeader]) -> Sequence[memoryview]:
        assert [(header.name, header.dtype, header.shape) for header in headers] == [
            ("layers.0.keys", "F32", (5, 100)),
            ("layers.0.values", "F32", (5, 100)),
        ]
        raise BlockDamagedError("another model's")

    (block,) = chain([1, 2])
    store.save([block])
    with pytest.raises(BlockDamagedError, match="another model's"):
        store.load(block.block.hash, place)
    with pytest.raises(BlockMissingError):
        read(store, block.block.hash)


def test_deleted_blocks_are_missing_and_can_be_saved_again(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save(blocks)
    store.delete([blocks[1].block.hash, ROOT])
    with pytest.raises(BlockMissingError):
        read(store, blocks[1].block.hash)
    assert store.stats().blocks == 1
    store.save(blocks)
    assert read(store, blocks[1].block.hash) == written(blocks[1])


def test_an_agent_comes_back_as_it_was_saved(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save_agent(record(), names(blocks[::-1]))
    store.save_agent(record("bob", history=(), checkpoints=(), kind=AgentKind.NEW, token_ids=()), ())
    assert store.agents() == [
        StoredAgent(record(), tuple(names(blocks[::-1]))),
        StoredAgent(record("bob", history=(), checkpoints=(), kind=AgentKind.NEW, token_ids=()), ()),
    ]
    assert store.stats().agents == 2


def test_a_turn_replaces_record_and_references(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save_agent(record(), names(blocks))
    store.save_agent(record(turns=2), names(blocks[:1]))
    assert store.agents() == [StoredAgent(record(turns=2), tuple(names(blocks[:1])))]


def test_agents_of_one_name_in_two_namespaces_are_two(store: BlockStore) -> None:
    store.save_agent(record(), ())
    store.save_agent(record(namespace="other"), ())
    store.forget_agent("default", "alice", ())
    assert [agent.record.namespace for agent in store.agents()] == ["other"]


def test_forgetting_erases_the_agent_and_the_blocks_named(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save(blocks)
    store.save_agent(record(), names(blocks))
    store.forget_agent("default", "alice", [blocks[1].block.hash])
    assert store.agents() == []
    assert list(store.blocks(CONTEXT)) == [blocks[0].block]


def test_forgetting_an_unknown_agent_erases_the_blocks_all_the_same(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save(blocks)
    store.forget_agent("default", "nobody", [*names(blocks), ROOT])
    assert store.stats().blocks == 0


def test_clear_erases_blocks_and_agents(store: BlockStore) -> None:
    blocks = chain([1, 2], [3, 4])
    store.save(blocks)
    store.save_agent(record(), names(blocks))
    store.clear()
    assert (store.stats().blocks, store.stats().bytes, store.stats().agents) == (0, 0, 0)
    store.save(blocks)
    assert read(store, blocks[0].block.hash) == written(blocks[0])


def test_contexts_are_counted_one_by_one(store: BlockStore) -> None:
    store.save([*chain([1, 2], [3]), *chain([1], context="d" * 64, parent=BlockHash(b"\x22" * 32))])
    first, second = store.contexts()
    assert (first.context, first.blocks, second.context, second.blocks) == (CONTEXT, 2, "d" * 64, 1)
    assert first.bytes + second.bytes == store.stats().bytes


def test_verify_reports_every_block_of_any_context(store: BlockStore) -> None:
    blocks, other = chain([1, 2]), chain([1, 2], context="d" * 64, parent=BlockHash(b"\x22" * 32))
    store.save([*blocks, *other])
    reports = list(store.verify())
    assert {report.hash for report in reports} == {*names(blocks), *names(other)}
    assert {report.damage for report in reports} == {""}
    assert sum(report.nbytes for report in reports) == store.stats().bytes
    assert all(report.hash.hex() in report.path for report in reports)


def test_without_room_the_least_recently_used_goes_and_is_named(make: MakeStore) -> None:
    store = make(room=3)
    a, b, c, d = chain([1])[0], chain([2])[0], chain([3])[0], chain([4])[0]
    store.save([a, b, c])
    store.touch([a.block.hash])
    assert store.save([d]) == (b.block.hash,)
    assert {block.hash for block in store.blocks(CONTEXT)} == {a.block.hash, c.block.hash, d.block.hash}


def test_the_end_of_a_chain_goes_before_what_it_stands_on(make: MakeStore) -> None:
    store = make(room=3)
    blocks, (other,) = chain([1], [2], [3]), chain([9])
    store.save(blocks)
    store.touch([blocks[2].block.hash])
    assert store.save([other]) == (blocks[2].block.hash,)


def test_what_agents_refer_to_goes_last(make: MakeStore) -> None:
    store = make(room=2)
    a, b, c = (chain([token])[0] for token in (1, 2, 3))
    store.save([a, b])
    store.save_agent(record(), [a.block.hash])
    assert store.save([c]) == (b.block.hash,)
    store.save_agent(record("bob"), [c.block.hash])
    assert store.save([b]) == (a.block.hash,)


def test_a_block_is_not_bought_with_its_own_ancestors(make: MakeStore) -> None:
    store = make(room=2)
    blocks = chain([1], [2], [3])
    store.save(blocks[:2])
    with pytest.raises(StoreFullError):
        store.save(blocks[1:])
    assert {block.hash for block in store.blocks(CONTEXT)} == set(names(blocks[:2]))


def test_more_than_the_whole_budget_is_refused_and_nothing_is_evicted(make: MakeStore) -> None:
    store = make(room=2)
    (kept,) = chain([9])
    store.save([kept])
    with pytest.raises(StoreFullError, match="budget"):
        store.save(chain([1], [2], [3]))
    assert list(store.blocks(CONTEXT)) == [kept.block]


def test_two_threads_may_read_while_a_third_writes(store: BlockStore) -> None:
    blocks = chain(*([number] for number in range(12)))
    store.save(blocks[:6])
    found: list[bool] = []

    def reads() -> None:
        found.extend(read(store, block.block.hash) == written(block) for block in blocks[:6] * 5)

    threads = [Thread(target=reads), Thread(target=reads), Thread(target=store.save, args=(blocks[6:],))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 60
    assert store.stats().blocks == 12


def test_a_closed_store_refuses_and_closing_twice_is_a_no_op(store: BlockStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.stats()


def test_what_is_published_is_all_there_is(store: BlockStore) -> None:
    blocks = chain(range(16), range(16, 32))
    store.save(blocks)
    store.check_integrity()
    store.delete(names(blocks)[1:])
    store.check_integrity()
