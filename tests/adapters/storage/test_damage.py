"""Whatever happens to the files: a miss with a logged error, never an answer."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_blocks import CONTEXT, chain, names, read, record, written

from semantic.adapters.fakes import RecordingTelemetry
from semantic.adapters.storage.disk_store import DiskStore
from semantic.domain.errors import BlockDamagedError, BlockMissingError, StoreTooNewError

BLOCKS = chain([1], [2], [3])
FIRST, SECOND, THIRD = names(BLOCKS)


@pytest.fixture
def telemetry() -> RecordingTelemetry:
    return RecordingTelemetry()


@pytest.fixture
def store(folder: Path, telemetry: RecordingTelemetry) -> Iterator[DiskStore]:
    """Three blocks and an agent on them."""
    made = DiskStore(folder / "kv", telemetry=telemetry)
    made.save(BLOCKS)
    made.save_agent(record(), names(BLOCKS))
    yield made
    made.close()


def file_of(store: DiskStore, block_hash: bytes) -> Path:
    return store.path / "blocks" / block_hash.hex()[:2] / f"{block_hash.hex()}.safetensors"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def another_format(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"semantic_format":"1"', b'"semantic_format":"2"'))


@pytest.mark.parametrize("harm", [truncate, empty, flip, another_format])
def test_a_damaged_block_is_reported_unpublished_and_erased(
    store: DiskStore, telemetry: RecordingTelemetry, harm: object
) -> None:
    harm(file_of(store, SECOND))  # type: ignore[operator]
    assert [report.hash for report in store.verify() if report.damage] == [SECOND]
    with pytest.raises(BlockDamagedError, match=SECOND.hex()):
        read(store, SECOND)
    (event,) = telemetry.named("store.block.damaged")
    assert (event.level, event.facts["hash"]) == ("error", SECOND.hex())
    assert not file_of(store, SECOND).exists()
    with pytest.raises(BlockMissingError):
        read(store, SECOND)
    assert read(store, FIRST) == written(BLOCKS[0])


def test_files_that_changed_places_are_damage(store: DiskStore) -> None:
    first, second, aside = file_of(store, FIRST), file_of(store, SECOND), store.path / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    for block_hash in (FIRST, SECOND):
        with pytest.raises(BlockDamagedError):
            read(store, block_hash)
    assert read(store, THIRD) == written(BLOCKS[2])


def test_a_block_whose_file_is_gone_is_missing_and_no_longer_published(
    store: DiskStore, telemetry: RecordingTelemetry
) -> None:
    file_of(store, SECOND).unlink()
    assert [report.damage for report in store.verify()] == ["", "its file is gone", ""]
    with pytest.raises(BlockMissingError, match="file"):
        read(store, SECOND)
    assert {block.hash for block in store.blocks(CONTEXT)} == {FIRST, THIRD}
    assert telemetry.named("store.block.damaged")


def test_a_block_that_was_damaged_can_be_saved_again(store: DiskStore) -> None:
    flip(file_of(store, SECOND))
    with pytest.raises(BlockDamagedError):
        read(store, SECOND)
    store.save(BLOCKS)
    assert read(store, SECOND) == written(BLOCKS[1])


def test_verify_changes_nothing(store: DiskStore, telemetry: RecordingTelemetry) -> None:
    flip(file_of(store, SECOND))
    before = store.stats()
    assert list(store.verify()) == list(store.verify())
    assert store.stats() == before
    assert file_of(store, SECOND).exists()
    assert telemetry.events == []


def garbage(index: Path) -> None:
    index.write_bytes(b"no database at all" * 1000)


def torn(index: Path) -> None:
    content = index.read_bytes()
    index.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def cut(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-4096])


def without_a_table(index: Path) -> None:
    change(index, "DROP TABLE blocks")


def without_a_version(index: Path) -> None:
    change(index, "DELETE FROM meta")


def another_programs(index: Path) -> None:
    index.unlink()
    change(index, "CREATE TABLE songs (title TEXT)")


def change(index: Path, statement: str) -> None:
    connection = sqlite3.connect(index)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("harm", [garbage, torn, cut, without_a_table, without_a_version, another_programs])
def test_a_damaged_index_is_set_aside_and_the_store_starts_empty(
    store: DiskStore, telemetry: RecordingTelemetry, harm: object
) -> None:
    store.close()
    harm(store.path / "index.sqlite3")  # type: ignore[operator]
    harmed = (store.path / "index.sqlite3").read_bytes()
    reopened = DiskStore(store.path, telemetry=telemetry)
    (event,) = telemetry.named("store.index.damaged")
    assert (store.path / "index.sqlite3.damaged").read_bytes() == harmed
    assert event.facts["moved_to"] == str(store.path / "index.sqlite3.damaged")
    assert (reopened.stats().blocks, reopened.agents()) == (0, [])
    assert not file_of(store, FIRST).exists()
    reopened.save(BLOCKS)
    assert read(reopened, FIRST) == written(BLOCKS[0])
    reopened.forget_agent("default", "alice", ())
    assert not (store.path / "index.sqlite3.damaged").exists()
    reopened.close()


def test_an_agent_whose_record_is_damaged_is_reported_kept_and_left_out(
    store: DiskStore, telemetry: RecordingTelemetry
) -> None:
    store.save_agent(record("bob"), ())
    store.close()
    change(store.path / "index.sqlite3", "UPDATE agents SET record = '{}' WHERE name = 'alice'")
    reopened = DiskStore(store.path, telemetry=telemetry)
    assert [agent.record.name for agent in reopened.agents()] == ["bob"]
    assert [event.facts["agent"] for event in telemetry.named("store.agent.unreadable")] == ["alice"]
    assert reopened.stats().agents == 2
    reopened.close()


def test_a_newer_versions_store_is_refused_and_left_as_it_is(store: DiskStore) -> None:
    store.close()
    change(store.path / "index.sqlite3", "UPDATE meta SET value = '2' WHERE key = 'format'")
    stray = store.path / "blocks" / "00" / "new.tmp"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("x")
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    with pytest.raises(StoreTooNewError) as caught:
        DiskStore(store.path)
    assert (caught.value.found, caught.value.supported) == (2, 1)
    assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == before
