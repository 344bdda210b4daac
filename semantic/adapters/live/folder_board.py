"""The board as a folder: a small JSON file for each engine, replaced whole, readable by its user alone."""

import json
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from cattrs.preconf.json import make_converter

from semantic.adapters.atomic import replacing
from semantic.application.ports.live_board import EngineSnapshot

_converter = make_converter()

_WRITING_S = 60.0
"""Nobody writes a file of 2 KB for longer than that."""

_CLOCK_SLACK_S = 2.0
"""The system derives the time a process started at from clocks that are set now and then."""


class FolderBoard:
    """Files of processes that ended without a word are passed over by whoever reads, and removed.

    A process is known by its id and the time it started at, since ids are used again. Nothing is synced: what is on the
    board is gone with the machine anyway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started_at = psutil.Process().create_time()

    def publish(self, snapshot: EngineSnapshot) -> None:
        """Write the engine's file."""
        self._make_folder()
        content = {"process_started_at": self._started_at, "snapshot": _converter.unstructure(snapshot)}
        with replacing(self._file(snapshot.engine), sync=False) as file:
            file.write(json.dumps(content).encode())

    def withdraw(self, engine: str) -> None:
        """Remove the engine's file."""
        self._file(engine).unlink(missing_ok=True)

    def snapshots(self) -> Sequence[EngineSnapshot]:
        """Read every file, and remove those of the dead."""
        if not self._folder.exists() or not self._is_ours():
            return []
        self._sweep()
        found = []
        for path in sorted(self._folder.glob("*.json")):
            content = _read(path)
            if content is None:
                continue
            if not _is_alive(content):
                path.unlink(missing_ok=True)
                continue
            try:
                found.append(_converter.structure(content["snapshot"], EngineSnapshot))
            except Exception:  # noqa: BLE001 - cattrs groups whatever it meets; an engine of another version
                continue
        return found

    def _sweep(self) -> None:
        """Remove what was being written when its process was killed."""
        for path in self._folder.glob(".*.json.*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _WRITING_S:
                    path.unlink()

    def _file(self, engine: str) -> Path:
        return self._folder / f"{engine}.json"

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_ours():
            raise PermissionError(f"{self._folder} is not a folder of this user's; set SEMANTIC_LIVE_FOLDER")

    def _is_ours(self) -> bool:
        """The runtime folder may lie where others can write."""
        facts = self._folder.lstat()
        return stat.S_ISDIR(facts.st_mode) and (not hasattr(os, "getuid") or facts.st_uid == os.getuid())


def _read(path: Path) -> dict[str, Any] | None:
    """None for what is no snapshot, or is gone by now."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("snapshot"), dict) else None


def _is_alive(content: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(content["snapshot"]["pid"]))
        return abs(process.create_time() - float(content["process_started_at"])) < _CLOCK_SLACK_S
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False
