"""What every board does, in memory or in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from snapshots import snapshot

from semantic.adapters.fakes import MemoryBoard
from semantic.adapters.live.folder_board import FolderBoard
from semantic.application.ports.live_board import LiveBoard

BOARDS: dict[str, Callable[[Path], LiveBoard]] = {
    "memory": lambda folder: MemoryBoard(),
    "folder": lambda folder: FolderBoard(folder / "run" / "engines"),
}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> LiveBoard:
    return BOARDS[request.param](tmp_path)


def test_a_board_nobody_has_published_on_is_empty(board: LiveBoard) -> None:
    assert list(board.snapshots()) == []


def test_what_is_published_is_read_as_it_was(board: LiveBoard) -> None:
    board.publish(snapshot())
    assert list(board.snapshots()) == [snapshot()]


def test_an_engines_newest_snapshot_takes_the_place_of_the_one_before(board: LiveBoard) -> None:
    board.publish(snapshot(running=1))
    board.publish(snapshot(running=2, ttft_s=None, store=None))
    assert [one.stats.running for one in board.snapshots()] == [2]
    assert [(one.stats.ttft_s, one.stats.store) for one in board.snapshots()] == [(None, None)]


def test_engines_come_by_name(board: LiveBoard) -> None:
    for engine in ("9-2", "9-1", "8-1"):
        board.publish(snapshot(engine))
    assert [one.engine for one in board.snapshots()] == ["8-1", "9-1", "9-2"]


def test_a_withdrawn_engine_is_gone_and_withdrawing_it_again_changes_nothing(board: LiveBoard) -> None:
    board.publish(snapshot("9-1"))
    board.publish(snapshot("9-2"))
    board.withdraw("9-1")
    board.withdraw("9-1")
    board.withdraw("never there")
    assert [one.engine for one in board.snapshots()] == ["9-2"]
