"""What every archive of agents does: the one in memory, and files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_blocks import CONTEXT, chain, record, written

from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.storage.agent_archive import FileArchive
from semantic.application.ports.agent_archive import AgentArchive, ArchivedAgent
from semantic.application.ports.block_store import BlockToSave
from semantic.domain.errors import AgentFileError
from semantic.domain.value_objects import AgentKind

ALICE = ArchivedAgent(record(), CONTEXT)
BLOCKS = chain([1], [2], [70_000])


@pytest.fixture(params=[MemoryArchive, FileArchive])
def archive(request: pytest.FixtureRequest) -> AgentArchive:
    made: AgentArchive = request.param()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "alice.agent"


def test_what_is_read_is_what_was_written(archive: AgentArchive, file: Path) -> None:
    archive.write(file, ALICE, BLOCKS)
    assert archive.read(file) == ALICE
    blocks = list(archive.blocks(file))
    assert [block.block for block in blocks] == [block.block for block in BLOCKS]
    assert [written(block) for block in blocks] == [written(block) for block in BLOCKS]
    assert [[one.header for one in block.tensors] for block in blocks] == [
        [one.header for one in block.tensors] for block in BLOCKS
    ]


def test_it_is_read_as_often_as_one_likes(archive: AgentArchive, file: Path) -> None:
    archive.write(file, ALICE, BLOCKS)
    assert [len(list(archive.blocks(file))) for _ in range(2)] == [3, 3]


def test_an_agent_without_blocks_and_without_history_is_one_too(archive: AgentArchive, file: Path) -> None:
    new = ArchivedAgent(record(kind=AgentKind.NEW, token_ids=(), history=(), checkpoints=()), "")
    archive.write(file, new, [])
    assert archive.read(file) == new
    assert list(archive.blocks(file)) == []


def test_blocks_are_taken_one_after_the_other(archive: AgentArchive, file: Path) -> None:
    memory = bytearray(4)

    def lent() -> Iterator[BlockToSave]:
        for block in BLOCKS:
            memory[:] = b"used"
            yield block

    archive.write(file, ALICE, lent())
    assert len(list(archive.blocks(file))) == 3


def test_the_file_does_not_follow_the_memory_it_was_written_from(archive: AgentArchive, file: Path) -> None:
    (block,) = chain([1, 2])
    expected = written(block)
    archive.write(file, ALICE, [block])
    block.tensors[0].pieces[0][:] = bytes(block.tensors[0].pieces[0].nbytes)
    assert [written(one) for one in archive.blocks(file)] == [expected]


def test_writing_again_replaces_the_file(archive: AgentArchive, file: Path) -> None:
    archive.write(file, ALICE, BLOCKS)
    archive.write(file, ArchivedAgent(record("bob"), CONTEXT), BLOCKS[:1])
    assert archive.read(file).record.name == "bob"
    assert len(list(archive.blocks(file))) == 1


def test_where_a_block_cannot_be_had_the_file_is_as_it_was(archive: AgentArchive, file: Path) -> None:
    def broken() -> Iterator[BlockToSave]:
        yield BLOCKS[0]
        raise RuntimeError("the engine went down")

    archive.write(file, ALICE, BLOCKS)
    with pytest.raises(RuntimeError, match="the engine went down"):
        archive.write(file, ArchivedAgent(record("bob"), CONTEXT), broken())
    assert archive.read(file) == ALICE


def test_a_file_that_is_not_there_is_named(archive: AgentArchive, file: Path) -> None:
    with pytest.raises(AgentFileError, match=r"alice\.agent"):
        archive.read(file)
    with pytest.raises(AgentFileError, match=r"alice\.agent"):
        list(archive.blocks(file))
