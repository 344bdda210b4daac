"""From the settings to the board: who sees an engine of the container."""

import time
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from semantic.adapters.fakes import FakeModel, FakeModelFactory
from semantic.adapters.live.folder_board import FolderBoard
from semantic.container import make_container, open_engine
from semantic.settings import Settings


def open_on_fakes(**settings: Any) -> Any:
    container = make_container(quiet=True, memory="1MB", **settings)
    container.model_factory.override(providers.Object(FakeModelFactory()))
    return open_engine(container, (FakeModel(), None))


def test_an_engine_is_seen_in_the_folder_of_the_settings_while_it_is_open(tmp_path: Path) -> None:
    board = FolderBoard(tmp_path / "live")
    with open_on_fakes(live_stats=True, live_folder=tmp_path / "live"):
        gave_up_at = time.monotonic() + 10
        while not board.snapshots() and time.monotonic() < gave_up_at:
            time.sleep(0.001)
        assert [snapshot.model for snapshot in board.snapshots()] == ["fake"]
    assert list(board.snapshots()) == []


def test_an_engine_that_shall_not_be_seen_writes_nothing(tmp_path: Path) -> None:
    with open_on_fakes(live_stats=False, live_folder=tmp_path / "live") as engine:
        engine.generate([1, 2], max_tokens=2)
    assert not (tmp_path / "live").exists()


def test_by_default_engines_are_seen_in_the_users_runtime_folder(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, tmp_path: Path
) -> None:
    monkeypatch.delenv("SEMANTIC_LIVE_STATS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    settings = Settings()
    assert settings.live_stats
    assert settings.live_folder.parts[-2:] == ("semantic", "engines")
    assert list(recwarn) == []
