"""An agent's file: others can open it, it is written whole or not at all, and no damage goes unseen."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from stored_blocks import CONTEXT, chain, names, record, written
from xxhash import xxh3_128_hexdigest

from semantic.adapters.storage.agent_archive import FileArchive
from semantic.application.ports.agent_archive import ArchivedAgent
from semantic.application.ports.block_store import BlockToSave, Tensor, TensorHeader
from semantic.domain.errors import AgentFileError
from semantic.domain.value_objects import pack_tokens

ALICE = ArchivedAgent(record(), CONTEXT)
BLOCKS = chain([1], [2], [70_000])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alice.agent"
    FileArchive().write(path, ALICE, BLOCKS)
    return path


def tiny() -> BlockToSave:
    header = TensorHeader("layers.0.keys", "U8", (8,))
    return BlockToSave(chain([1, 2])[0].block, [Tensor(header, (memoryview(bytearray(b"contents")),))])


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Pack the file anew, its members as ``change`` leaves them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def altered_facts(archive: dict[str, bytes], **changes: object) -> None:
    """Change ``agent.json`` and its checksum with it."""
    facts = json.dumps(json.loads(archive["agent.json"]) | changes).encode()
    archive |= {"agent.json": facts, "checksum": xxh3_128_hexdigest(facts).encode()}


# -- for others --------------------------------------------------------------------------------------


def test_it_is_a_zip_archive_that_any_program_lists(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "blocks/000000.safetensors",
            "blocks/000001.safetensors",
            "blocks/000002.safetensors",
            "tokens",
            "agent.json",
            "checksum",
        ]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("tokens") == pack_tokens((1, 2, 70_000))
        facts = json.loads(archive.read("agent.json"))
    assert (facts["format"], facts["context"]) == (1, CONTEXT)
    assert (facts["record"]["name"], facts["record"]["model_name"]) == ("alice", "tiny")
    assert "token_ids" not in facts["record"]


def test_its_blocks_are_safetensors(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extract("blocks/000001.safetensors", tmp_path)
    path = tmp_path / "blocks" / "000001.safetensors"
    arrays = safetensors.numpy.load_file(path)
    assert {name: array.tobytes() for name, array in arrays.items()} == written(BLOCKS[1])
    assert arrays["layers.0.keys"].dtype == np.float32
    with safetensors.safe_open(path, "np") as opened:
        assert opened.metadata()["hash"] == names(BLOCKS)[1].hex()


# -- whole or not at all -----------------------------------------------------------------------------


def test_no_temporary_file_is_left_and_only_the_owner_reads_it(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_write_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield BLOCKS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FileArchive().write(tmp_path / "alice.agent", ALICE, broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_or_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    for folder in ("missing", "occupied"):
        path = tmp_path / folder / "alice.agent"
        with pytest.raises(AgentFileError, match=f"{folder}/alice.agent can't be written: (No such|Not a)"):
            FileArchive().write(path, ALICE, BLOCKS)
    with pytest.raises(AgentFileError, match="can't be written"):
        FileArchive().write(tmp_path, ALICE, BLOCKS)
    assert [path.name for path in tmp_path.iterdir()] == ["occupied"]


# -- damage ------------------------------------------------------------------------------------------


def test_a_flipped_byte_anywhere_is_found_or_changes_nothing_that_matters(tmp_path: Path) -> None:
    path, archive = tmp_path / "alice.agent", FileArchive()
    archive.write(path, ALICE, [tiny()])
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
            try:
                agent, blocks = archive.read(path), list(archive.blocks(path))
            except AgentFileError:
                found += 1
                continue
            assert agent == ALICE
            assert [(block.block, written(block)) for block in blocks] == [(tiny().block, written(tiny()))]
    assert found > len(whole) * 3 * 0.8  # the rest are dates, permissions and the like in zip's own headers


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "alice.agent"
    FileArchive().write(path, ALICE, [tiny()])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AgentFileError, match=r"alice\.agent"):
            FileArchive().read(path)


@pytest.mark.parametrize("member", ["blocks/000001.safetensors", "tokens", "agent.json", "checksum"])
def test_a_member_that_was_changed_or_is_gone_is_named(file: Path, member: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[member] = b"\0" + members[member][1:]

    def drop(members: dict[str, bytes]) -> None:
        members.pop(member, None)

    for alteration in (change, drop):
        rewrite(file, alteration)
        with pytest.raises(AgentFileError, match=r"damaged.*(written|no item)"):
            FileArchive().read(file)


def test_a_block_that_changes_between_reading_the_agent_and_its_blocks_is_refused(file: Path) -> None:
    FileArchive().read(file)

    def change(members: dict[str, bytes]) -> None:
        members["blocks/000001.safetensors"] = members["blocks/000000.safetensors"]

    blocks = FileArchive().blocks(file)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    rewrite(file, change)
    with pytest.raises(AgentFileError, match=r"000001\.safetensors is not what was written; export it"):
        list(FileArchive().blocks(file))


def test_a_zip_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("beach.jpg", b"sand")
    with pytest.raises(AgentFileError, match=r"photos\.zip is damaged, or no file of an agent"):
        FileArchive().read(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n", b"{}"])
def test_what_is_no_zip_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "alice.agent"
    path.write_bytes(content)
    with pytest.raises(AgentFileError, match="damaged, or no file of an agent"):
        FileArchive().read(path)
    with pytest.raises(AgentFileError, match="no file of an agent"):
        FileArchive().read(tmp_path)


def test_a_newer_format_is_refused_with_both_numbers(file: Path) -> None:
    rewrite(file, lambda members: altered_facts(members, format=2))
    with pytest.raises(AgentFileError, match="has format 2 and this version reads 1; upgrade semantic-kv") as caught:
        FileArchive().read(file)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"members": ["tokens"]},
        {"members": {"../../etc/passwd": "0"}},
        {"record": {"name": "alice"}},
        {"record": 5},
        {"members": {}},
    ],
)
def test_facts_of_another_shape_are_refused(file: Path, changes: dict[str, object]) -> None:
    rewrite(file, lambda members: altered_facts(members, **changes))
    with pytest.raises(AgentFileError):
        FileArchive().read(file)


@pytest.mark.parametrize("facts", [b"[]", b"5", b"null", b"not json", b"[" * 100_000])
def test_facts_that_are_none_are_refused(file: Path, facts: bytes) -> None:
    def change(members: dict[str, bytes]) -> None:
        members |= {"agent.json": facts, "checksum": xxh3_128_hexdigest(facts).encode()}

    rewrite(file, change)
    with pytest.raises(AgentFileError):
        FileArchive().read(file)


def test_fields_of_a_later_version_are_passed_over(file: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        facts = json.loads(members["agent.json"])
        altered_facts(members, mood="sunny", record=facts["record"] | {"favourite": "blue"})

    rewrite(file, change)
    assert FileArchive().read(file) == ALICE
