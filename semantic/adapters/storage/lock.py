"""One process for each store: a lock of the system, and a note of who holds it."""

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from semantic.domain.errors import StoreLockedError

_UNKNOWN = "another process"


class StoreLock:
    """Held from construction to ``release``. The system frees it when the process dies, however it dies.

    The note beside it is only read when the lock can't be had, so one that a dead process left misleads nobody.
    Raises ``StoreLockedError``, which names the holder.
    """

    def __init__(self, folder: Path) -> None:
        self._note = folder / "owner.json"
        self._lock = FileLock(folder / "lock", timeout=0, mode=0o600, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as exc:
            raise StoreLockedError(str(folder), _owner(self._note)) from exc
        try:
            _write_note(self._note)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another process have it. A second time is a no-op."""
        if self._lock.is_locked:
            self._note.unlink(missing_ok=True)
            self._lock.release()


def _write_note(path: Path) -> None:
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(note, file)


def _owner(path: Path) -> str:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return _UNKNOWN
