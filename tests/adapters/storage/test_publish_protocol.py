"""The power goes at every step of what changes a store: what is published afterwards is whole, or not there."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen
from stored_blocks import CONTEXT, FILE, chain, names, read, record, written

from semantic.adapters.fakes.filesystem import DroppingFileSystem, PowerCut, _Folder, _Writing
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.ports.block_store import BlockToSave
from semantic.domain.errors import StoreError, StoreFullError
from semantic.domain.identifiers import BlockHash

A, (B, C) = chain([1], [2], [3]), chain([4], [5])
CONTENT = {block.block.hash: written(block) for block in (*A, B, C)}


@frozen
class Step:
    """A call, and which blocks are published when it has returned."""

    call: Callable[[DiskStore], object]
    published: set[BlockHash]


def hashes(*blocks: BlockToSave) -> set[BlockHash]:
    return set(names(blocks))


STEPS = (
    Step(lambda store: None, set()),
    Step(lambda store: store.save(A), hashes(*A)),
    Step(lambda store: store.delete([A[2].block.hash]), hashes(*A[:2])),
    Step(lambda store: store.save([B, C]), hashes(*A[:2], B, C)),
    Step(lambda store: store.save([A[2]]), hashes(*A[1:], A[0], B)),
    Step(lambda store: store.forget_agent("default", "alice", [B.block.hash]), hashes(*A)),
)
"""With room for four blocks: the last save evicts C, which was saved after A and is a leaf."""

ROOM = 4 * FILE


def run_until_the_cut(folder: Path, disk: DroppingFileSystem) -> int:
    """How many steps returned."""
    done = 0
    store = None
    try:
        store = DiskStore(folder, ROOM, filesystem=disk)
        for step in STEPS:
            step.call(store)
            done += 1
    except PowerCut:
        pass
    if store is not None:
        store.close()
    return done


def check_what_is_left(folder: Path, disk: DroppingFileSystem, done: int) -> None:
    """What the steps that returned promised is there, and nothing beyond the step that was cut."""
    before = STEPS[max(done - 1, 0)].published
    after = STEPS[min(done, len(STEPS) - 1)].published
    store = DiskStore(folder, ROOM, filesystem=disk)
    try:
        assert [report for report in store.verify() if report.damage] == []
        published = {block.hash for block in store.blocks(CONTEXT)}
        assert before & after <= published <= before | after
        assert {block_hash: read(store, block_hash) for block_hash in published} == {
            block_hash: CONTENT[block_hash] for block_hash in published
        }
        assert store.stats().bytes <= ROOM
        assert stored_names(disk, folder) == {f"{block_hash.hex()}.safetensors" for block_hash in published}
        store.save(A)
        assert read(store, A[2].block.hash) == CONTENT[A[2].block.hash]
    finally:
        store.close()


def stored_names(disk: DroppingFileSystem, folder: Path) -> set[str]:
    blocks = folder / "blocks"
    return {name for part in disk.names(blocks) for name in disk.names(blocks / part)}


def cut_everywhere(folder: Path) -> None:
    whole = DroppingFileSystem()
    assert run_until_the_cut(folder / "whole", whole) == len(STEPS)
    for cut_at in range(1, whole.operations + 2):
        disk = DroppingFileSystem(cut_at)
        done = run_until_the_cut(folder / "kv", disk)
        shutil.move(folder / "kv", folder / "crashed")
        for seed in (cut_at, -cut_at):
            shutil.copytree(folder / "crashed", folder / "kv")
            check_what_is_left(folder / "kv", disk.after_power_cut(seed), done)
            shutil.rmtree(folder / "kv")
        shutil.rmtree(folder / "crashed")


def test_after_a_cut_at_any_step_every_published_block_is_whole(folder: Path) -> None:
    cut_everywhere(folder)


@pytest.mark.parametrize("forgetful", [_Writing, _Folder])
def test_a_missing_sync_would_be_found_by_the_test_above(
    folder: Path, monkeypatch: pytest.MonkeyPatch, forgetful: type
) -> None:
    monkeypatch.setattr(forgetful, "sync", lambda self: None)
    with pytest.raises(AssertionError):
        cut_everywhere(folder)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StoreFullError), (errno.EDQUOT, StoreFullError), (errno.EIO, StoreError)],
)
def test_a_refusal_at_any_step_of_a_save_leaves_nothing_and_the_next_one_succeeds(
    folder: Path, number: int, error: type[StoreError]
) -> None:
    counting = DroppingFileSystem()
    store = DiskStore(folder / "counted", filesystem=counting)
    opened = counting.operations
    store.save(A)
    store.close()
    for operation in range(opened + 1, counting.operations + 1):
        disk = DroppingFileSystem(refuse={operation: OSError(number, "refused")})
        store = DiskStore(folder / str(operation), filesystem=disk)
        with pytest.raises(error) as caught:
            store.save(A)
        assert type(caught.value) is error
        assert isinstance(caught.value.__cause__, OSError)
        assert (store.stats().blocks, stored_names(disk, folder / str(operation))) == (0, set())
        store.save(A)
        assert [report.damage for report in store.verify()] == ["", "", ""]
        store.close()


def test_an_agents_turn_is_there_after_a_cut(folder: Path) -> None:
    disk = DroppingFileSystem()
    store = DiskStore(folder / "kv", filesystem=disk)
    store.save(A)
    store.save_agent(record(), names(A))
    store.close()
    reopened = DiskStore(folder / "kv", filesystem=disk.after_power_cut(1))
    (agent,) = reopened.agents()
    assert (agent.record, list(agent.blocks)) == (record(), names(A))
    reopened.close()


def test_what_was_forgotten_is_not_back_after_a_cut(folder: Path) -> None:
    disk = DroppingFileSystem()
    store = DiskStore(folder / "kv", filesystem=disk)
    store.save(A)
    store.forget_agent("default", "alice", names(A))
    store.close()
    for seed in range(10):
        assert stored_names(disk.after_power_cut(seed), folder / "kv") == set()


def test_files_that_no_row_names_are_swept_at_opening_and_foreign_ones_are_left(folder: Path) -> None:
    store = DiskStore(folder / "kv")
    store.save(A)
    store.close()
    part = folder / "kv" / "blocks" / "00"
    part.mkdir(exist_ok=True)
    stray, temporary, foreign = part / f"{'0' * 64}.safetensors", part / f"{'0' * 64}.tmp", part / "notes.txt"
    for path in (stray, temporary, foreign):
        path.write_text("x")
    store = DiskStore(folder / "kv")
    assert [stray.exists(), temporary.exists(), foreign.exists()] == [False, False, True]
    assert store.stats().blocks == 3
    store.close()
