"""The board as a folder: who may read it, and what is left of processes that are gone."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snapshots import snapshot

from semantic.adapters.live.folder_board import FolderBoard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_only_its_user_may_look_at_it(folder: Path) -> None:
    FolderBoard(folder).publish(snapshot())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_nothing_but_whole_files_lie_there_and_none_when_the_engine_is_closed(folder: Path) -> None:
    board = FolderBoard(folder)
    for running in range(20):
        board.publish(snapshot("7-1", running=running))
    assert [path.name for path in folder.iterdir()] == ["7-1.json"]
    board.withdraw("7-1")
    assert list(folder.iterdir()) == []


def test_the_file_of_a_process_that_ended_is_passed_over_and_removed(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    board = FolderBoard(folder)
    board.publish(snapshot("gone-1", pid=ended.pid))
    board.publish(snapshot("here-1"))
    assert [one.engine for one in board.snapshots()] == ["here-1"]
    assert [path.name for path in folder.iterdir()] == ["here-1.json"]


def test_a_process_that_got_the_id_of_one_that_ended_is_not_taken_for_it(folder: Path) -> None:
    board = FolderBoard(folder)
    board.publish(snapshot("1-1"))
    change(folder / "1-1.json", process_started_at=1_000.0)
    assert list(board.snapshots()) == []
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_was_writing_is_removed_once_it_is_old(folder: Path) -> None:
    board = FolderBoard(folder)
    board.publish(snapshot("1-1"))
    for name, age_s in ((".2-1.json.abc", 3600.0), (".3-1.json.def", 0.0)):
        (folder / name).write_text("{")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    board.snapshots()
    assert sorted(path.name for path in folder.iterdir()) == [".3-1.json.def", "1-1.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"snapshot": 5}', "\ud800"])
def test_a_file_that_is_no_snapshot_is_passed_over_and_left(folder: Path, content: str) -> None:
    board = FolderBoard(folder)
    board.publish(snapshot("1-1"))
    (folder / "odd.json").write_text(content, errors="surrogatepass")
    assert [one.engine for one in board.snapshots()] == ["1-1"]
    assert (folder / "odd.json").exists()


def test_the_snapshot_of_another_version_is_passed_over_if_it_says_too_little_and_read_if_it_says_more(
    folder: Path,
) -> None:
    board = FolderBoard(folder)
    for engine in ("1-1", "1-2"):
        board.publish(snapshot(engine))
    content = json.loads((folder / "1-1.json").read_text())["snapshot"]
    change(folder / "1-1.json", snapshot={**content, "stats": {**content["stats"], "hyperspace": 3}})
    del content["stats"]["running"]
    change(folder / "1-2.json", snapshot=content)
    assert list(board.snapshots()) == [snapshot("1-1")]


def test_a_folder_that_is_another_users_is_neither_written_nor_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FolderBoard(folder)
    board.publish(snapshot())
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert list(board.snapshots()) == []
    with pytest.raises(PermissionError, match="not a folder of this user's; set SEMANTIC_LIVE_FOLDER"):
        board.publish(snapshot())


def test_a_link_in_the_folders_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        FolderBoard(folder).publish(snapshot())
    assert list((tmp_path / "elsewhere").iterdir()) == []
