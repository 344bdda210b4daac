"""What only the store on disk does: it comes back, keeps its budget, forgets, and is nobody else's."""

import contextlib
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from stored_blocks import CONTEXT, FILE, ROOT, chain, names, read, record, written

from semantic.adapters.fakes import RecordingTelemetry
from semantic.adapters.storage.disk_store import DiskStore, holds_a_store
from semantic.adapters.storage.filesystem import OsFileSystem
from semantic.adapters.storage.published import Published
from semantic.application.ports.block_store import StoredBlock
from semantic.domain.errors import (
    BlockMissingError,
    StoreError,
    StoreForkedError,
    StoreFullError,
    StoreIntegrityError,
)
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import HistoryEntry, pack_tokens


def test_blocks_agents_and_uses_survive_closing(folder: Path) -> None:
    a, b, c = (chain([token])[0] for token in (1, 2, 3))
    store = DiskStore(folder / "kv")
    store.save([a, b])
    store.save_agent(record(), [])
    store.touch([a.block.hash])
    store.close()
    store = DiskStore(folder / "kv", 2 * FILE)
    assert read(store, a.block.hash) == written(a)
    assert [agent.record for agent in store.agents()] == [record()]
    assert store.save([c]) == (b.block.hash,)
    store.close()


def test_a_block_lies_where_its_hash_says(folder: Path) -> None:
    (block,) = chain([1])
    store = DiskStore(folder / "kv")
    store.save([block])
    digits = block.block.hash.hex()
    assert (folder / "kv" / "blocks" / digits[:2] / f"{digits}.safetensors").is_file()
    store.close()


def test_a_smaller_budget_than_before_is_kept_from_opening_on(folder: Path) -> None:
    blocks = chain([1], [2], [3])
    store = DiskStore(folder / "kv")
    store.save(blocks)
    store.close()
    telemetry = RecordingTelemetry()
    store = DiskStore(folder / "kv", 2 * FILE, telemetry)
    assert {block.hash for block in store.blocks(CONTEXT)} == set(names(blocks[:2]))
    assert telemetry.named("store.evicted")[0].facts["blocks"] == 1
    store.close()


class Weighing(OsFileSystem):
    """Notes what the files below ``path`` take whenever one of them was written, or renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.most = 0

    def rename(self, old: Path, new: Path) -> None:
        self.most = max(self.most, sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()))
        super().rename(old, new)


def test_the_files_never_take_more_than_the_budget(folder: Path) -> None:
    disk = Weighing(folder / "kv" / "blocks")
    store = DiskStore(folder / "kv", 4 * FILE, filesystem=disk)
    for first in range(0, 40, 3):
        store.save(chain([first], [first + 1], [first + 2]))
    assert 3 * FILE < disk.most <= 4 * FILE
    store.close()


def test_a_read_beside_eviction_is_a_miss_or_right_and_no_damage(folder: Path) -> None:
    blocks = [chain([token])[0] for token in range(12)]
    telemetry = RecordingTelemetry()
    store = DiskStore(folder / "kv", 4 * FILE, telemetry)
    found: list[bool] = []
    done = Event()

    def read_on() -> None:
        for block in itertools.cycle(blocks):
            if done.is_set():
                return
            with contextlib.suppress(BlockMissingError):
                found.append(read(store, block.block.hash) == written(block))

    readers = [Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    for index in range(150):
        store.save([blocks[index % 12]])
    done.set()
    for reader in readers:
        reader.join()
    assert set(found) == {True}
    assert telemetry.named("store.block.damaged") == []
    store.close()


def test_a_block_larger_than_the_whole_budget_is_refused(folder: Path) -> None:
    store = DiskStore(folder / "kv", 100)
    with pytest.raises(StoreFullError, match="budget of 100 bytes"):
        store.save(chain([1]))
    assert store.stats().blocks == 0
    store.close()


def test_nobody_else_may_read_a_store(folder: Path) -> None:
    umask = os.umask(0)
    try:
        store = DiskStore(folder / "new" / "kv")
        store.save(chain([1]))
        store.save_agent(record(), ())
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [store.path, *store.path.rglob("*")]}
    finally:
        os.umask(umask)
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {"index.sqlite3", "index.sqlite3-wal", "lock", "owner.json"} <= {path.name for path in modes}
    store.close()


SECRET = "the combination is 4-8-15-16"


def test_forgetting_leaves_no_trace_in_any_file(folder: Path) -> None:
    tokens = (15_790_320, 15_790_321)
    blocks = chain(tokens)
    agent = record(token_ids=tokens, history=(HistoryEntry(role="user", content=SECRET * 1000, end=2),))
    store = DiskStore(folder / "kv")
    store.save_agent(record("bob", history=(HistoryEntry(role="user", content="x" * 9000, end=2),)), ())
    store.save(blocks)
    store.save_agent(agent, names(blocks))
    traces = [SECRET.encode(), pack_tokens(tokens), pack_tokens(tokens).hex().encode(), blocks[0].block.hash]
    assert all(found_in(folder, trace) for trace in traces)
    store.forget_agent("default", "alice", names(blocks))
    assert [found_in(folder, trace) for trace in traces] == [[], [], [], []]
    assert [kept.record.name for kept in store.agents()] == ["bob"]
    store.close()


def found_in(folder: Path, trace: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and trace in path.read_bytes()]


def test_a_store_is_known_by_its_index(folder: Path) -> None:
    assert not holds_a_store(folder / "kv")
    DiskStore(folder / "kv").close()
    assert holds_a_store(folder / "kv")


def test_a_path_that_cannot_be_a_folder_is_a_named_error(folder: Path) -> None:
    (folder / "file").write_text("x")
    with pytest.raises(StoreError, match="file") as caught:
        DiskStore(folder / "file")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_relative_path_means_the_folder_of_that_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    store = DiskStore(Path("kv"))
    monkeypatch.chdir("/")
    store.save(chain([1]))
    assert [report.damage for report in store.verify()] == [""]
    store.close()


def test_ten_thousand_blocks_are_listed_without_a_look_into_their_files(
    folder: Path,
) -> None:
    rows = [row_of(number) for number in range(10_000)]
    store = DiskStore(folder / "kv")
    store._index.publish(rows[::-1])
    for row in rows:
        path = store._folder.path_of(row.block.hash)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")  # a look would find it damaged
    store.close()
    store = DiskStore(folder / "kv")
    blocks = store.blocks(CONTEXT)
    assert [block.start for block in blocks] == [256 * number for number in range(10_000)]
    store.close()


def row_of(number: int) -> Published:
    name, parent = (BlockHash(index.to_bytes(4, "little") * 8) for index in (number + 1, number))
    tokens = pack_tokens(range(256))
    block = StoredBlock(hash=name, parent=parent, context=CONTEXT, start=256 * number, tokens=tokens)
    return Published(block, 0, "0" * 32)


def test_a_forked_process_is_refused(folder: Path) -> None:
    store = DiskStore(folder / "kv")
    child = os.fork()
    if child == 0:
        refused = 0
        for verb in (store.stats, store.agents, store.close, lambda: list(store.verify()), lambda: store.touch([ROOT])):
            try:
                verb()
            except StoreForkedError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    store.save(chain([1]))
    store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "1 of their files are missing"),
        (lambda file: file.with_name(f"{'0' * 64}.safetensors").touch(), "1 files are not published"),
        (lambda file: file.with_suffix(".tmp").touch(), "1 are unfinished"),
    ],
)
def test_the_check_of_integrity_finds_files_that_are_not_what_is_published(
    folder: Path, change: Callable[[Path], None], said: str
) -> None:
    store = DiskStore(folder / "kv")
    store.save(chain([1], [2]))
    change(next((folder / "kv" / "blocks").glob("*/*.safetensors")))
    with pytest.raises(StoreIntegrityError, match=said):
        store.check_integrity()
    store.close()


FORKING = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests")
from stored_blocks import chain, record
from semantic.adapters.storage.disk_store import DiskStore
from semantic.domain.errors import StoreLockedError

store = DiskStore(Path(sys.argv[1]))
store.save_agent(record(), ())
child = os.fork()
if child == 0:
    sys.exit(0)  # with everything that the interpreter does at its end
assert os.waitpid(child, 0)[1] == 0
try:
    DiskStore(Path(sys.argv[1]))
except StoreLockedError:
    store.save(chain([1]))
    store.close()
    print("still locked")
"""


def test_the_end_of_a_forked_process_frees_no_lock_and_harms_no_index(folder: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(folder / "kv")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "still locked\n"
    store = DiskStore(folder / "kv")
    assert (store.stats().blocks, store.stats().agents) == (1, 1)
    store.close()
