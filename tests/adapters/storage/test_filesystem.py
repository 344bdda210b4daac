"""Reading and writing whatever the system does in one call; and the disk that forgets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.fakes.filesystem import DroppingFileSystem, PowerCut
from semantic.adapters.storage.filesystem import GROUP_BYTES, FileSystem, OsFileSystem, in_groups

A, B, C = (memoryview(letter * 5) for letter in (b"a", b"b", b"c"))


def write(disk: FileSystem, path: Path, *pieces: memoryview, sync: bool = True) -> None:
    with disk.create(path) as file:
        file.write(pieces)
        if sync:
            file.sync()


def read(disk: FileSystem, path: Path) -> bytes:
    with disk.open(path) as file:
        content = bytearray(file.size)
        assert file.read([memoryview(content)], 0) == file.size
    return bytes(content)


@pytest.fixture(params=["os", "dropping"])
def disk(request: pytest.FixtureRequest) -> FileSystem:
    return OsFileSystem() if request.param == "os" else DroppingFileSystem()


@pytest.fixture
def folder(disk: FileSystem, tmp_path: Path) -> Path:
    disk.make_folder(tmp_path / "folder")
    return tmp_path / "folder"


def test_a_file_holds_its_pieces_in_order(disk: FileSystem, folder: Path) -> None:
    write(disk, folder / "file", A, memoryview(b""), B, C)
    assert read(disk, folder / "file") == b"aaaaabbbbbccccc"


def test_reading_fills_pieces_and_says_where_the_file_ended(disk: FileSystem, folder: Path) -> None:
    write(disk, folder / "file", A, B)
    first, second = bytearray(4), bytearray(9)
    with disk.open(folder / "file") as file:
        assert file.read([memoryview(first), memoryview(second)], 2) == 8
        assert (file.size, first, second[:4]) == (10, b"aaab", b"bbbb")
        assert file.read([memoryview(first)], 10) == 0


def test_creating_and_renaming_replace_what_had_the_name(disk: FileSystem, folder: Path) -> None:
    write(disk, folder / "new", A)
    write(disk, folder / "old", A, B)
    write(disk, folder / "new", C)
    disk.rename(folder / "new", folder / "old")
    assert disk.names(folder) == ["old"]
    assert read(disk, folder / "old") == b"ccccc"


def test_an_open_file_stays_readable_when_its_name_goes(disk: FileSystem, folder: Path) -> None:
    write(disk, folder / "file", A)
    content = bytearray(5)
    with disk.open(folder / "file") as file:
        disk.unlink(folder / "file")
        file.read([memoryview(content)], 0)
    assert content == b"aaaaa"


def test_what_is_missing_is_named_or_passed_over(disk: FileSystem, folder: Path) -> None:
    disk.unlink(folder / "missing")
    disk.unlink(folder / "missing" / "missing")
    disk.make_folder(folder)
    assert disk.names(folder / "missing") == []
    with pytest.raises(FileNotFoundError), disk.open(folder / "missing"):
        pass
    with pytest.raises(FileNotFoundError):
        disk.sync_folder(folder / "missing")


def test_a_group_is_what_one_call_takes() -> None:
    small, large = memoryview(bytes(10)), memoryview(bytes(2 * GROUP_BYTES + 1))
    groups = list(in_groups([small, large, *[small] * 2000]))
    assert sum(part.nbytes for group in groups for part in group) == large.nbytes + 2001 * 10
    assert max(len(group) for group in groups) <= 1024
    assert max(sum(part.nbytes for part in group) for group in groups) < 2 * GROUP_BYTES


def test_calls_that_do_a_part_go_on_with_the_rest(tmp_path: Path, monkeypatch: Any) -> None:
    whole_write, whole_read = os.writev, os.preadv

    def write_some(descriptor: int, pieces: Sequence[memoryview]) -> int:
        return whole_write(descriptor, [pieces[0][:3]])

    def read_some(descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
        return whole_read(descriptor, [pieces[0][:2]], offset)

    monkeypatch.setattr(os, "writev", write_some)
    monkeypatch.setattr(os, "preadv", read_some)
    write(OsFileSystem(), tmp_path / "file", A, memoryview(b""), B, C)
    assert (tmp_path / "file").read_bytes() == b"aaaaabbbbbccccc"
    assert read(OsFileSystem(), tmp_path / "file") == b"aaaaabbbbbccccc"


def test_a_system_that_writes_nothing_is_an_error_and_no_endless_loop(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: 0)
    with pytest.raises(OSError, match="nothing"):
        write(OsFileSystem(), tmp_path / "file", A)


def test_after_a_power_cut_what_was_synced_is_there(tmp_path: Path) -> None:
    disk = DroppingFileSystem()
    disk.make_folder(tmp_path / "folder")
    disk.sync_folder(tmp_path)
    write(disk, tmp_path / "folder" / "file", A)
    disk.sync_folder(tmp_path / "folder")
    for seed in range(20):
        assert read(disk.after_power_cut(seed), tmp_path / "folder" / "file") == b"aaaaa"


def test_after_a_power_cut_anything_may_be_left_of_what_was_not_synced(tmp_path: Path) -> None:
    disk = DroppingFileSystem()
    disk.make_folder(tmp_path / "folder")
    disk.sync_folder(tmp_path)
    write(disk, tmp_path / "folder" / "file", A, sync=False)
    found = set()
    for seed in range(100):
        left = disk.after_power_cut(seed)
        found.add(read(left, tmp_path / "folder" / "file") if left.names(tmp_path / "folder") else None)
    assert {None, b"", b"aaaaa", b"aa", b"aa\0\0\0"} <= found


def test_everything_after_the_cut_is_cut(tmp_path: Path) -> None:
    disk = DroppingFileSystem(cut_at=2)
    disk.make_folder(tmp_path / "folder")
    for _ in range(2):
        with pytest.raises(PowerCut):
            disk.names(tmp_path)
